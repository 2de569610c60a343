// Draws each chart when it comes near the screen, in the page's colours; a theme switch or printing draws again.
// A chart takes the keyboard (arrows go from point to point, which is read out) and has its numbers as a table.
"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  for (const { data } of Object.values(figures)) for (const trace of data) if (trace.x === "same") trace.x = data[0].x;
  const root = document.documentElement;
  const simulated = root.dataset.simulated !== undefined;
  const drawn = new Set();

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
  const stamp = { xref: "paper", yref: "paper", x: 1, y: 1, xanchor: "right", yanchor: "bottom", yshift: 3, text: "simulated", showarrow: false, font: { size: 12, color: "@wait" }, bgcolor: "@wait-bg", borderpad: 3 };
  const layout = (figure) => {
    const own = figure.layout;
    // On a phone the legend has the whole width, so that it stands above the stamp.
    const above = simulated && matchMedia("(max-width: 640px)").matches ? 24 / (figure.height - 100) : 0;
    return {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: "@ink" },
      hoverlabel: { bgcolor: "@panel", bordercolor: "@line", font: { color: "@ink" } },
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
      ...own,
      height: figure.height,
      margin: { l: 48, r: 12, t: simulated ? 28 : 8, b: 36, ...own.margin },
      legend: { orientation: "h", x: 0, y: 1.02 + above, yanchor: "bottom", traceorder: "normal", ...own.legend },
      xaxis: axis(own.xaxis),
      yaxis: axis(own.yaxis),
      ...(own.yaxis2 ? { yaxis2: axis(own.yaxis2) } : {}),
      annotations: [...(own.annotations ?? []), ...(simulated ? [stamp] : [])],
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
  const redraw = () => {
    drawn.forEach((box) => draw(box));
    dispatchEvent(new Event("recolour"));
  };

  // Drawn for the printer while they were folded away, charts have another width.
  document.querySelectorAll("details:has([data-plot])").forEach((details) => {
    details.addEventListener("toggle", () => drawn.forEach((box) => { if (details.open && details.contains(box)) draw(box); }));
  });

  // What a chart shows, as columns: the places along it, then each line or bar.
  const seriesOf = (figure) => figure.data.filter((trace) => trace.hoverinfo !== "skip" && trace.x?.length);
  const place = (trace, index) => {
    const along = trace.orientation === "h" ? trace.y : trace.x;
    return Array.isArray(along[0]) ? along.map((level) => level[index]).join(", ") : along[index];
  };
  const written = (figure, trace, value) => {
    if (value === null || value === undefined) return "–";
    const name = trace.orientation === "h" ? "xaxis" : `yaxis${(trace.yaxis ?? "y").slice(1)}`;
    const format = figure.layout[name]?.tickformat ?? "";
    if (format.endsWith("%")) return `${(100 * value).toFixed(1)} %`;
    const suffix = figure.layout[name]?.ticksuffix ?? "";
    return typeof value === "number" ? `${value.toLocaleString("en", { maximumSignificantDigits: 6 })}${suffix}` : value;
  };
  const valueAt = (trace, index) => (trace.orientation === "h" ? trace.x : trace.y)[index];
  const count = (trace) => {
    const along = trace.orientation === "h" ? trace.y : trace.x;
    return Array.isArray(along[0]) ? along[0].length : along.length;
  };
  const tableOf = (box, holder) => {
    const figure = figures[box.dataset.plot];
    const series = seriesOf(figure);
    const rows = new Map();
    series.forEach((trace, column) => {
      for (let index = 0; index < count(trace); index++) {
        const key = String(place(trace, index));
        if (!rows.has(key)) rows.set(key, Array(series.length).fill("–"));
        rows.get(key)[column] = written(figure, trace, valueAt(trace, index));
      }
    });
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    for (const name of [figure.layout.xaxis?.title?.text ?? "", ...series.map((trace) => trace.name ?? "")]) {
      const cell = document.createElement(name ? "th" : "td");
      if (name) cell.scope = "col";
      cell.textContent = name;
      head.append(cell);
    }
    const body = table.createTBody();
    for (const [key, values] of rows) {
      const row = body.insertRow();
      const first = document.createElement("th");
      first.scope = "row";
      first.textContent = key;
      row.append(first, ...values.map((value) => Object.assign(document.createElement("td"), { className: "n", textContent: value })));
    }
    const scroll = document.createElement("div");
    Object.assign(scroll, { className: "table numbers", tabIndex: 0, role: "region" });
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", `${box.getAttribute("aria-label")}: numbers`);
    scroll.append(table);
    holder.append(scroll);
  };
  document.querySelectorAll("details[data-numbers]").forEach((details) => {
    details.addEventListener("toggle", () => {
      if (details.open && !details.querySelector("table")) {
        tableOf(document.querySelector(`[data-plot="${details.dataset.numbers}"]`), details);
      }
    });
  });

  // The keyboard: left and right along the chart; what is there is shown and read out.
  const at = new Map();
  const step = async (box, move) => {
    if (!box.dataset.drawn) await draw(box);
    const figure = figures[box.dataset.plot];
    const longest = Math.max(...seriesOf(figure).map(count));
    const index = Math.max(0, Math.min(longest - 1, move(at.get(box) ?? -1, longest)));
    at.set(box, index);
    const shown = figure.data.map((trace, curve) => [trace, curve]).filter(([trace]) => trace.hoverinfo !== "skip" && index < count(trace));
    const main = shown.filter(([trace]) => (trace.yaxis ?? "y") === "y"); // a label belongs to one pair of axes
    Plotly.Fx.hover(box, main.map(([, curve]) => ({ curveNumber: curve, pointNumber: index })));
    const words = shown.map(([trace]) => `${trace.name ?? ""} ${written(figure, trace, valueAt(trace, index))}`);
    box.parentElement.querySelector(".readout").textContent = `${place(shown[0][0], index)}: ${words.join(", ")}`;
  };
  const keys = {
    ArrowRight: (index) => index + 1,
    ArrowLeft: (index) => index - 1,
    PageDown: (index, all) => index + Math.ceil(all / 10),
    PageUp: (index, all) => index - Math.ceil(all / 10),
    Home: () => 0,
    End: (_, all) => all - 1,
  };
  boxes.forEach((box) => {
    box.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
      event.preventDefault();
      step(box, keys[event.key]);
    });
  });

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
    dispatchEvent(new Event("recolour"));
  });
  addEventListener("afterprint", () => theme(before ?? "auto"));
})();
