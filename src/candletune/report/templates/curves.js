// The keyboard for drawings of lines, and their numbers as a table. The numbers are read back from the places of the
// points, and rounded to what those can tell, so that the page has them once; a drawing that is replaced by a newer one goes on.
"use strict";
(() => {
  const places = new Map(); // drawing -> which line, which point
  const numbers = (text) => text.split(" ").map(Number);
  const lines = (svg) => {
    const [left, top, right, bottom] = numbers(svg.dataset.frame);
    const [x0, x1] = numbers(svg.dataset.x), [y0, y1] = numbers(svg.dataset.y);
    const value = (x, y) => ({ x, y, across: x0 + ((x - left) / (right - left)) * (x1 - x0), up: y0 + ((bottom - y) / (bottom - top)) * (y1 - y0) });
    return [...svg.querySelectorAll("polyline, circle")].filter((mark) => mark.querySelector("title")).map((mark) => {
      const points = mark.localName === "circle" ? [[Number(mark.getAttribute("cx")), Number(mark.getAttribute("cy"))]] : mark.getAttribute("points").trim().split(" ").map((pair) => pair.split(",").map(Number));
      return { name: mark.querySelector("title").textContent, points: points.map(([x, y]) => value(x, y)) };
    });
  };
  const shown = (svg) => {
    const time = svg.dataset.across === "time";
    const told = (span) => { const [low, high] = numbers(span), digits = Math.ceil(-Math.log10((high - low) / 2000)); return (value) => String(Number(value.toFixed(Math.min(12, Math.max(0, digits))))); };
    const across = told(svg.dataset.x), up = told(svg.dataset.y);
    return {
      across: (value) => (time ? `${new Date(1000 * value).toISOString().slice(0, 16).replace("T", " ")} UTC` : `${svg.dataset.across} ${svg.dataset.across === "step" ? Math.round(value) : across(value)}`),
      up: (value) => ("share" in svg.dataset ? `${(100 * value).toFixed(1)} %` : up(value)),
    };
  };
  const readout = (box) => (box.nextElementSibling?.matches(".readout") ? box.nextElementSibling : null);

  const point = (box, keep) => {
    const svg = box.querySelector("svg"), found = lines(svg);
    if (!found.length) return;
    const place = places.get(box.id) ?? { line: 0, at: 0 };
    place.line = Math.max(0, Math.min(found.length - 1, place.line));
    const { name, points } = found[place.line];
    place.at = Math.max(0, Math.min(points.length - 1, place.at));
    places.set(box.id, place);
    const { x, y, across, up } = points[place.at], say = shown(svg);
    let ring = svg.querySelector("circle.cursor");
    if (!ring) {
      ring = document.createElementNS(svg.namespaceURI, "circle");
      ring.setAttribute("class", "cursor");
      ring.setAttribute("r", "7");
      svg.append(ring);
    }
    ring.setAttribute("cx", x);
    ring.setAttribute("cy", y);
    const which = found.length > 1 ? ` (${name}, line ${place.line + 1} of ${found.length})` : "";
    if (!keep && readout(box)) readout(box).textContent = `${say.across(across)}: ${say.up(up)}${which}`;
  };

  document.addEventListener("keydown", (event) => {
    const box = event.target.closest?.(".curvebox");
    if (!box || event.ctrlKey || event.metaKey || event.altKey) return;
    const place = places.get(box.id) ?? { line: 0, at: -1 };
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -1e9], End: [0, 1e9] };
    if (!(event.key in moves)) return;
    event.preventDefault();
    places.set(box.id, { line: place.line + moves[event.key][0], at: place.at + moves[event.key][1] });
    point(box);
  });

  const element = (name, text, properties = {}) => Object.assign(document.createElement(name), { textContent: text, ...properties });
  const table = (details) => {
    details.querySelectorAll(".numbers").forEach((old) => old.remove());
    const svg = details.parentElement.querySelector(".curvebox svg"), say = shown(svg);
    const box = element("div", "", { className: "numbers", tabIndex: 0 });
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", "Numbers");
    for (const { name, points } of lines(svg)) {
      const made = element("table", ""), body = element("tbody", "");
      made.append(element("caption", name));
      for (const { across, up } of points) {
        const row = element("tr", "");
        row.append(element("th", say.across(across), { scope: "row" }), element("td", say.up(up), { className: "n" }));
        body.append(row);
      }
      made.append(body);
      box.append(made);
    }
    details.append(box);
  };
  // `toggle` does not bubble, but it can be caught on its way down
  document.addEventListener("toggle", (event) => {
    if (event.target.matches?.("details.numbers-of") && event.target.open && event.target.parentElement.querySelector(".curvebox")) table(event.target);
  }, true);
  document.addEventListener("redrawn", () => {
    for (const box of document.querySelectorAll(".curvebox")) if (places.has(box.id)) point(box, document.activeElement !== box);
  });
})();
