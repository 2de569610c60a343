// A run that is chosen stands out in every drawing and table; the theme's buttons.
"use strict";
(() => {
  const root = document.documentElement;
  const chosen = new Set();
  const buttons = [...document.querySelectorAll(".legend button")];
  const mark = () => {
    root.classList.toggle("choosing", chosen.size > 0);
    for (const one of document.querySelectorAll("[data-run]")) one.classList.toggle("chosen", chosen.has(one.dataset.run));
    for (const button of buttons) button.setAttribute("aria-pressed", String(chosen.has(button.value)));
  };
  for (const button of buttons) {
    button.addEventListener("click", () => {
      if (!chosen.delete(button.value)) chosen.add(button.value);
      mark();
    });
  }
  const themes = [...document.querySelectorAll(".themes button")];
  const theme = (name) => {
    if (name === "auto") delete root.dataset.theme;
    else root.dataset.theme = name;
    for (const button of themes) button.setAttribute("aria-pressed", String(button.value === name));
  };
  for (const button of themes) button.addEventListener("click", () => theme(button.value));
})();
