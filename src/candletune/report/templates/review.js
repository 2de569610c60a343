// Keyboard and saving. Without this script the form still works: answer, press Next.
"use strict";
(() => {
  const form = document.getElementById("review");
  const state = document.getElementById("state");
  const rows = [...form.querySelectorAll("[data-row]")];
  const answered = (row) => row.querySelector("input:checked") !== null;
  let current = 0;
  let queue = Promise.resolve();
  let latest = 0;

  const mark = (index, scroll = true) => {
    current = Math.max(0, Math.min(rows.length - 1, index));
    rows.forEach((row, i) => row.classList.toggle("current", i === current));
    if (scroll) rows[current].scrollIntoView({ block: "nearest" });
  };
  const say = (text, bad = false) => {
    state.textContent = text;
    state.classList.toggle("bad", bad);
  };
  const save = () => {
    const mine = ++latest;
    say("Saving…");
    queue = queue.then(async () => {
      try {
        const body = new URLSearchParams(new FormData(form)); // here: it names the answers that the last save left
        const answer = await fetch(form.action, { method: "POST", body, headers: { Accept: "application/json" }, keepalive: true });
        if (answer.status === 412) return say("Not saved: changed in another tab. Reload this page.", true);
        if (!answer.ok) throw new Error(`status ${answer.status}`);
        form.elements.version.value = (await answer.json()).version;
        if (mine === latest) say("Saved"); // an older answer's success says nothing about a newer one
      } catch (error) {
        say(`Not saved (${error.message}). Is candletune review still running?`, true);
      }
    });
    return queue;
  };

  form.addEventListener("change", (event) => {
    const row = event.target.closest("[data-row]");
    if (!row) return;
    mark(rows.indexOf(row), false);
    save();
  });
  form.addEventListener("submit", (event) => {
    const open = rows.findIndex((row) => !answered(row));
    if (open < 0) return;
    event.preventDefault();
    mark(open);
    say("One question is still open.", true);
  });
  rows.forEach((row, index) => row.addEventListener("focusin", () => mark(index, false)));

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("summary, a, button")) return;
    const choice = "123".indexOf(event.key);
    if (choice >= 0) {
      const input = rows[current].querySelectorAll("input")[choice];
      input.checked = true;
      input.dispatchEvent(new Event("change", { bubbles: true }));
      mark(current + 1);
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      mark(current + (event.key === "ArrowDown" ? 1 : -1));
    } else if (event.key === "Enter") {
      queue.then(() => form.requestSubmit());
    } else if (event.key.toLowerCase() === "p" && form.dataset.previous) {
      queue.then(() => { location.href = form.dataset.previous; });
    } else {
      return;
    }
    event.preventDefault();
  });
  const first = rows.findIndex((row) => !answered(row));
  mark(first < 0 ? 0 : first, false);
})();
