// Draws each chart when it comes near the screen, in the page's colours; a theme switch or printing draws again.
"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const root = document.documentElement;
  const drawn = new Set();
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;

  const probe = document.createElement("canvas").getContext("2d");
  const colour = (name) => {
    const [key, alpha] = name.slice(1).split("/");
    probe.fillStyle = getComputedStyle(root).getPropertyValue(`--${key}`).trim();
    const hex = probe.fillStyle;
    if (!alpha) return hex;
    const part = (at) => parseInt(hex.slice(at, at + 2), 16);
    return `rgba(${part(1)},${part(3)},${part(5)},${alpha})`;
  };
  const paint = (value) => {
    if (typeof value === "string") return value[0] === "@" ? colour(value) : value;
    if (Array.isArray(value)) return value.length && typeof value[0] === "number" ? value : value.map(paint);
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, paint(inner)]));
    }
    return value;
  };
  const axis = (given) => {
    const title = given?.title && { ...given.title, font: { size: 13, color: "@soft" } };
    return { gridcolor: "@line", zerolinecolor: "@line", linecolor: "@line", automargin: true, ...given, title };
  };
  const layout = (figure) => {
    const own = figure.layout;
    return {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: "@ink" },
      hoverlabel: { bgcolor: "@panel", bordercolor: "@line", font: { color: "@ink" } },
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
      ...own,
      height: figure.height,
      margin: { l: 48, r: 12, t: 8, b: 36, ...own.margin },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", ...own.legend },
      xaxis: axis(own.xaxis),
      yaxis: axis(own.yaxis),
      ...(own.yaxis2 ? { yaxis2: axis(own.yaxis2) } : {}),
    };
  };
  const draw = async (box) => {
    const figure = figures[box.dataset.plot];
    drawn.add(box);
    box.querySelector(".waiting")?.remove();
    const config = { responsive: true, displayModeBar: false, displaylogo: false };
    await Plotly.react(box, paint(figure.data), paint(layout(figure)), config);
    box.dataset.drawn = "yes";
  };

  const boxes = [...document.querySelectorAll("[data-plot]")];
  const near = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        near.unobserve(entry.target);
        draw(entry.target);
      }
    },
    { rootMargin: "600px 0px" },
  );
  boxes.forEach((box) => near.observe(box));
  const redraw = () => drawn.forEach((box) => draw(box));

  // Theme: the system's until a button says otherwise; remembered where the browser allows it.
  const keep = (value) => { try { localStorage.setItem("candletune-theme", value); } catch { /* a file page may not */ } };
  const kept = () => { try { return localStorage.getItem("candletune-theme"); } catch { return null; } };
  const buttons = [...document.querySelectorAll(".themes button")];
  const theme = (value) => {
    if (value === "auto") root.removeAttribute("data-theme");
    else root.dataset.theme = value;
    buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.value === value)));
    redraw();
  };
  buttons.forEach((button) => button.addEventListener("click", () => { keep(button.value); theme(button.value); }));
  theme(kept() ?? "auto");
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

  let before = null;
  addEventListener("beforeprint", () => {
    before = root.dataset.theme ?? "auto";
    root.dataset.theme = "light";
    boxes.forEach((box) => { near.unobserve(box); draw(box); });
  });
  addEventListener("afterprint", () => theme(before ?? "auto"));

  // Which section is on screen, in the bar of links.
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
