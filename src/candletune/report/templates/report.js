// Which section is on screen, in the bar of links.
"use strict";
(() => {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const links = [...document.querySelectorAll("nav.toc a")];
  const seen = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        links.forEach((link) => {
          if (link.hash === `#${entry.target.id}`) {
            link.setAttribute("aria-current", "true");
            const bar = link.closest("ul");
            const left = link.offsetLeft - bar.offsetLeft - 24;
            bar.scrollTo({ left, behavior: still ? "auto" : "smooth" });
          } else link.removeAttribute("aria-current");
        });
      }
    },
    { rootMargin: "-20% 0px -70% 0px" },
  );
  document.querySelectorAll("main > section, .hero").forEach((section) => seen.observe(section));
})();
