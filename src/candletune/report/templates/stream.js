// Parts of a page that follow what they show: the server sends a part's HTML when it has changed (server-sent events).
// What was ticked, opened or focused stays so. A page in the background is not followed.
"use strict";
(() => {
  const box = document.querySelector("[data-stream]");
  const state = document.getElementById("stream-state");
  let source, last = null;

  const update = (html) => {
    const next = document.createElement("template");
    next.innerHTML = html; // escaped on the server; the policy forbids inline scripts besides
    let changed = false;
    for (const part of [...next.content.children]) {
      const old = document.getElementById(part.id);
      if (!old || old.isEqualNode(part)) continue;
      changed = last !== null || changed;
      const ticked = new Set([...old.querySelectorAll("input:checked")].map((input) => input.id));
      const opened = [...old.querySelectorAll("details")].map((details) => details.open);
      const scrolled = [...old.querySelectorAll(".table, .numbers")].map((one) => one.scrollLeft);
      const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
      old.replaceWith(part);
      for (const input of part.querySelectorAll("input")) input.checked = ticked.has(input.id);
      part.querySelectorAll("details").forEach((details, index) => { details.open = opened[index] ?? false; });
      part.querySelectorAll(".table, .numbers").forEach((one, index) => { one.scrollLeft = scrolled[index] ?? 0; });
      if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    }
    document.dispatchEvent(new Event("redrawn"));
    if (changed && last !== html) state.textContent = `Updated ${new Date().toLocaleTimeString()}`;
    last = html;
  };
  const follow = () => {
    source = new EventSource(box.dataset.stream);
    source.addEventListener("part", (event) => update(JSON.parse(event.data)));
    source.addEventListener("trouble", (event) => { state.textContent = JSON.parse(event.data); });
    source.addEventListener("error", () => { state.textContent = "No answer; trying again"; });
  };
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) source?.close();
    else follow();
  });
  if (!document.hidden) follow();
})();
