// Asks every two seconds whether the journal has grown; the server answers from memory when it has not.
"use strict";
(() => {
  const box = document.getElementById("live");
  const state = document.getElementById("state");
  const revision = () => box.querySelector("[data-revision]")?.dataset.revision;
  const keys = () => new Set([...box.querySelectorAll("[data-key]")].map((row) => row.dataset.key));

  const look = async () => {
    try {
      const answer = await fetch(`${location.pathname}/fragment`);
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      const next = document.createElement("template");
      next.innerHTML = await answer.text(); // escaped on the server; the policy forbids inline scripts besides
      if (next.content.querySelector("[data-revision]")?.dataset.revision !== revision()) {
        const before = keys(), focused = document.activeElement?.id;
        box.replaceChildren(next.content);
        if (focused) document.getElementById(focused)?.focus();
        document.dispatchEvent(new Event("redrawn"));
        if (before.size) {
          box.querySelectorAll("[data-key]").forEach((row) => row.classList.toggle("fresh", !before.has(row.dataset.key)));
        }
        state.textContent = `Updated ${new Date().toLocaleTimeString()}`;
      }
    } catch (error) {
      state.textContent = `No answer (${error.message}); trying again`;
    }
    setTimeout(look, document.hidden ? 10000 : 2000);
  };
  setTimeout(look, 2000);
})();
