// Every call on its candle, on a canvas, and the list of them. The numbers come packed (report/calls.py): nothing is left
// out; where candles or marks would be closer than the screen's pixels, candles are merged and marks on one spot drawn once.
"use strict";
(() => {
  const source = document.getElementById("calls-data");
  const canvas = document.getElementById("calls-chart");
  if (!source || !canvas) return;
  const get = (id) => document.getElementById(id);
  const NAMES = ["BUY", "SELL", "HOLD", "–"];
  const SIDES = { shadow: "Candidate", active: "Incumbent" };
  const RIGHT = ["wrong", "right", "open"];
  const MERGE = [1, 2, 3, 4, 6, 8, 12, 24, 48, 72, 168, 336, 720, 2160];
  const AXIS = 62, FOOT = 24, LEAST = 12;

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const floats = (text) => new Float32Array(bytes(text).buffer);
  const prices = ({ low, size, values }) => Float32Array.from(new Uint16Array(bytes(values).buffer), (level) => (level ? low + ((level - 1) / 65534) * size : NaN));
  const when = (seconds) => new Date(1000 * seconds).toISOString().slice(0, 16).replace("T", " ");
  const money = (value) => value.toLocaleString("en", { maximumSignificantDigits: 6 });
  const share = (value) => `${value < 0 ? "−" : "+"}${Math.abs(100 * value).toFixed(2)} %`;

  let data, calls, per, view, side = "shadow", ticker = 0, cursor = -1, dirty = false, ink = {};

  const load = () => {
    data = JSON.parse(source.textContent);
    calls = { ticker: bytes(data.ticker), time: new Uint32Array(bytes(data.time).buffer), price: floats(data.price), moved: Float32Array.from(new Int16Array(bytes(data.moved).buffer), (basis) => (basis === -32768 ? NaN : basis / 10000)) };
    for (const key of Object.keys(SIDES)) {
      calls[key] = { action: bytes(data[`${key}_action`]), right: bytes(data[`${key}_right`]), chance: bytes(data[`${key}_chance`]) };
    }
    per = data.tickers.map((name, index) => {
      const rows = [];
      calls.ticker.forEach((value, row) => { if (value === index) rows.push(row); });
      const packed = data.candles[name];
      return { name, rows: Uint32Array.from(rows), candles: packed && { ...packed, values: prices(packed) } };
    });
  };

  // The view: seconds from and to, within what the ticker has.
  const bounds = () => {
    const { rows, candles } = per[ticker];
    const first = calls.time[rows[0]], last = calls.time[rows[rows.length - 1]];
    const step = candles?.step ?? 3600;
    const end = candles ? candles.start + step * (candles.values.length / 4 - 1) : last;
    return { from: first - 2 * step, to: Math.max(last, end) + 2 * step, step };
  };
  const show = (from, to) => {
    const all = bounds();
    const span = Math.min(Math.max(to - from, LEAST * all.step), all.to - all.from);
    const start = Math.min(Math.max(from, all.from), all.to - span);
    view = { from: start, to: start + span };
    draw();
  };
  const zoom = (factor, at = (view.from + view.to) / 2) => show(at - (at - view.from) * factor, at + (view.to - at) * factor);
  const pan = (part) => show(view.from + part * (view.to - view.from), view.to + part * (view.to - view.from));
  const everything = () => { const all = bounds(); show(all.from, all.to); };
  const firstAt = (rows, seconds) => {
    let low = 0, high = rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (calls.time[rows[middle]] < seconds) low = middle + 1;
      else high = middle;
    }
    return low;
  };

  const draw = () => {
    if (dirty) return;
    dirty = true;
    requestAnimationFrame(() => { dirty = false; paint(); });
  };
  const recolour = () => {
    const style = getComputedStyle(document.documentElement);
    for (const name of ["ink", "soft", "line", "buy", "sell", "panel", "accent", "wait", "faint"]) ink[name] = style.getPropertyValue(`--${name}`).trim();
    ink.font = `12px ${getComputedStyle(document.body).fontFamily}`;
    sprites.clear();
  };

  // Candles of the view, so many merged into one that each has three pixels or more.
  const merged = (candles, width) => {
    const { start, step, values } = candles;
    const count = values.length / 4;
    const low = Math.max(0, Math.floor((view.from - start) / step)), high = Math.min(count - 1, Math.ceil((view.to - start) / step));
    const pixels = (width * step) / (view.to - view.from);
    const group = MERGE.find((size) => size * pixels >= 3) ?? MERGE[MERGE.length - 1];
    const bars = [];
    for (let place = low - (low % group); place <= high; place += group) {
      let open = NaN, top = -Infinity, bottom = Infinity, close = NaN;
      for (let at = 4 * place; at < 4 * Math.min(place + group, count); at += 4) {
        if (Number.isNaN(values[at])) continue;
        if (Number.isNaN(open)) open = values[at];
        if (values[at + 1] > top) top = values[at + 1];
        if (values[at + 2] < bottom) bottom = values[at + 2];
        close = values[at + 3];
      }
      if (!Number.isNaN(open)) bars.push([start + step * (place + (group - 1) / 2), open, top, bottom, close]);
    }
    return { bars, group, pixels: group * pixels };
  };
  const nice = (span, most) => {
    const rough = span / most, ten = 10 ** Math.floor(Math.log10(rough));
    return [1, 2, 5, 10].map((digit) => digit * ten).find((step) => step >= rough);
  };
  const DAY = 86400;
  const STEPS = [3600, 3 * 3600, 6 * 3600, 12 * 3600, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 30 * DAY, 91 * DAY, 182 * DAY, 365 * DAY];

  // A mark is drawn once and then copied: a frame may have thousands of them.
  const sprites = new Map();
  const sprite = (kind, size, ratio) => {
    const key = `${kind} ${size} ${ratio}`;
    if (sprites.has(key)) return sprites.get(key);
    const up = kind < 3, turn = up ? 1 : -1, wide = 2 * size + 4, tall = Math.ceil(1.7 * size) + 4;
    const image = document.createElement("canvas");
    image.width = Math.ceil(wide * ratio);
    image.height = Math.ceil(tall * ratio);
    const pen = image.getContext("2d"), tip = up ? 2 : tall - 2;
    pen.scale(image.width / wide, image.height / tall);
    pen.beginPath();
    pen.moveTo(wide / 2, tip); pen.lineTo(wide / 2 + size, tip + turn * 1.7 * size); pen.lineTo(wide / 2 - size, tip + turn * 1.7 * size); pen.closePath();
    pen.strokeStyle = up ? ink.buy : ink.sell;
    pen.fillStyle = kind % 3 === 1 ? pen.strokeStyle : ink.panel;
    pen.lineWidth = 1.3;
    pen.setLineDash(kind % 3 === 2 ? [2, 2] : []);
    pen.fill();
    pen.stroke();
    sprites.set(key, { image, wide, tall });
    return sprites.get(key);
  };

  const paint = () => {
    const ratio = devicePixelRatio || 1, wide = canvas.clientWidth, tall = canvas.clientHeight;
    if (!wide) return;
    if (canvas.width !== Math.round(wide * ratio) || canvas.height !== Math.round(tall * ratio)) {
      canvas.width = Math.round(wide * ratio);
      canvas.height = Math.round(tall * ratio);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, wide, tall);
    const { rows, candles } = per[ticker];
    const width = wide - AXIS, height = tall - FOOT;
    const from = firstAt(rows, view.from), to = firstAt(rows, view.to + 1);
    const shown = candles ? merged(candles, width) : null;
    let low = Infinity, high = -Infinity;
    if (shown) for (const bar of shown.bars) { if (bar[3] < low) low = bar[3]; if (bar[2] > high) high = bar[2]; }
    else for (let at = from; at < to; at++) { const price = calls.price[rows[at]]; if (price < low) low = price; if (price > high) high = price; }
    if (low > high) [low, high] = [0, 1];
    const pad = 0.08 * (high - low || high || 1);
    low -= pad; high += pad;
    const x = (seconds) => ((seconds - view.from) / (view.to - view.from)) * width;
    const y = (price) => height - ((price - low) / (high - low)) * height;

    // axes
    pen.font = ink.font;
    pen.lineWidth = 1;
    pen.strokeStyle = ink.line;
    pen.fillStyle = ink.soft;
    pen.textBaseline = "middle";
    pen.textAlign = "left";
    const gap = nice(high - low, Math.max(3, height / 60));
    pen.beginPath();
    for (let price = Math.ceil(low / gap) * gap; price < high; price += gap) {
      pen.moveTo(0, y(price)); pen.lineTo(width, y(price));
      pen.fillText(money(price), width + 6, y(price));
    }
    const span = view.to - view.from, tick = STEPS.find((step) => (step / span) * width >= 92) ?? STEPS[STEPS.length - 1];
    pen.textAlign = "center";
    for (let time = Math.ceil(view.from / tick) * tick; time < view.to; time += tick) {
      const at = x(time);
      pen.moveTo(at, 0); pen.lineTo(at, height);
      const text = when(time);
      if (at > 30 && at < width - 30) pen.fillText(tick < DAY ? text.slice(5) : text.slice(0, 10), at, height + 13);
    }
    pen.stroke();

    // price: rectangles on whole pixels, which a canvas without a graphics card fills many times faster than a path
    if (shown) {
      const body = Math.max(1, Math.round(Math.min(14, shown.pixels * 0.66)));
      pen.globalAlpha = 0.55;
      for (const rising of [true, false]) {
        pen.fillStyle = rising ? ink.buy : ink.sell;
        for (const [time, open, top, bottom, close] of shown.bars) {
          if (close >= open !== rising) continue;
          const at = Math.round(x(time)), high = Math.round(y(top)), low = Math.round(y(bottom));
          const edge = Math.round(y(Math.max(open, close))), end = Math.max(edge + 1, Math.round(y(Math.min(open, close))));
          if (body === 1) { pen.fillRect(at, high, 1, Math.max(1, low - high)); continue; }
          if (edge > high) pen.fillRect(at, high, 1, edge - high);
          pen.fillRect(at - (body >> 1), edge, body, end - edge);
          if (low > end) pen.fillRect(at, end, 1, low - end);
        }
      }
      pen.globalAlpha = 1;
    } else {
      pen.strokeStyle = ink.soft;
      pen.beginPath();
      for (let at = from; at < to; at++) pen[at === from ? "moveTo" : "lineTo"](x(calls.time[rows[at]]), y(calls.price[rows[at]]));
      pen.stroke();
    }

    // calls: at their own time and price; marks that would cover each other wholly are drawn once
    const counts = {};
    for (const key of Object.keys(SIDES)) {
      if (side !== "both" && side !== key) continue;
      counts[key] = [[0, 0, 0], [0, 0, 0]];
      const { action, right } = calls[key];
      const column = new Int32Array(6 * (height + 1)).fill(-1);
      const marks = [[], [], [], [], [], []];
      for (let at = from; at < to; at++) {
        const row = rows[at];
        if (action[row] > 1) continue;
        counts[key][action[row]][right[row]]++;
        const kind = 3 * action[row] + right[row], left = Math.round(x(calls.time[row])), top = Math.round(y(calls.price[row]));
        if (top < 0 || top > height || column[kind * (height + 1) + top] === left) continue;
        column[kind * (height + 1) + top] = left;
        marks[kind].push(left, top);
      }
      const size = span / (bounds().step * LEAST) > width ? 3 : width / ((to - from) || 1) < 4 ? 4 : 6;
      const away = key === "active" && side === "both" ? 3 * size : 2;
      marks.forEach((points, kind) => {
        const { image, wide: across, tall: down } = sprite(kind, size, ratio), up = kind < 3;
        for (let at = 0; at < points.length; at += 2) {
          pen.drawImage(image, points[at] - across / 2, points[at + 1] + (up ? away - 2 : 2 - away - down), across, down);
        }
      });
    }
    if (cursor >= 0 && calls.ticker[cursor] === ticker) {
      pen.strokeStyle = ink.accent;
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(x(calls.time[cursor]), y(calls.price[cursor]), 11, 0, 7);
      pen.stroke();
    }
    if (data.simulated) {
      pen.fillStyle = ink.wait; pen.textAlign = "left";
      pen.fillText("simulated market", 8, 12);
    }
    legend(counts, shown?.group, candles);
  };

  const legend = (counts, group, candles) => {
    const parts = Object.entries(counts).map(([key, [buy, sell]]) => {
      const told = (sign, name, [wrong, right, open]) => `${sign} ${name} ${(wrong + right + open).toLocaleString("en")} (${right.toLocaleString("en")} right${open ? `, ${open} open` : ""})`;
      return `${SIDES[key]}: ${told("▲", "BUY", buy)}, ${told("▼", "SELL", sell)}`;
    });
    const hours = candles && (group * candles.step) / 3600;
    const bar = candles ? `One candle drawn: ${hours < 1 ? `${60 * hours} min` : hours % 24 ? `${hours} h` : `${hours / 24} d`}` : "No candle file: the price at each decision";
    get("calls-legend").textContent = `${when(view.from)} to ${when(view.to)} UTC. ${parts.join("; ")}. ${bar}.`;
  };

  // One call: ringed, in view, in words.
  const words = (row) => {
    const said = Object.entries(SIDES).map(([key, name]) => {
      const one = calls[key], sure = one.chance[row] === 255 ? "" : ` ${one.chance[row]} %`;
      return `${name} ${NAMES[one.action[row]]}${sure}${one.action[row] < 3 ? `, ${RIGHT[one.right[row]]}` : ""}`;
    });
    const moved = Number.isNaN(calls.moved[row]) ? "outcome open" : `then ${share(calls.moved[row])}`;
    return `${data.tickers[calls.ticker[row]]} ${when(calls.time[row])} UTC, ${money(calls.price[row])}: ${said.join("; ")}; ${moved}`;
  };
  const focusCall = (row) => {
    cursor = row;
    if (calls.ticker[row] !== ticker) choose(calls.ticker[row]);
    const time = calls.time[row], span = view.to - view.from;
    if (time < view.from + 0.05 * span || time > view.to - 0.05 * span) show(time - span / 2, time + span / 2);
    get("calls-readout").textContent = words(row);
    draw();
  };
  const isCall = (row) => Object.keys(SIDES).some((key) => (side === "both" || side === key) && calls[key].action[row] < 2);
  const next = (way) => {
    const { rows } = per[ticker];
    let at = cursor >= 0 && calls.ticker[cursor] === ticker ? rows.indexOf(cursor) + way : way > 0 ? firstAt(rows, view.from) : firstAt(rows, view.to) - 1;
    while (at >= 0 && at < rows.length && !isCall(rows[at])) at += way;
    if (at >= 0 && at < rows.length) focusCall(rows[at]);
  };
  const choose = (index) => {
    ticker = index;
    get("calls-ticker").value = String(index);
    everything();
  };

  const period = (value) => {
    if (value === "all") return everything();
    const [year, month] = value.split("-").map(Number);
    show(Date.UTC(year, month - 1, 1) / 1000, Date.UTC(year, month, 1) / 1000);
  };
  const controls = () => {
    const option = (value, text) => Object.assign(document.createElement("option"), { value, textContent: text });
    get("calls-ticker").append(...per.map(({ name }, index) => option(String(index), name)));
    const months = [...new Set([...calls.time].filter((_, row) => row % 7 === 0 || row === calls.time.length - 1).map((time) => when(time).slice(0, 7)))];
    get("calls-period").append(...months.map((month) => option(month, month)));
    get("calls-ticker").addEventListener("change", (event) => { choose(Number(event.target.value)); get("calls-period").value = "all"; list(); });
    get("calls-period").addEventListener("change", (event) => { period(event.target.value); list(); });
    get("calls-side").addEventListener("change", (event) => { side = event.target.value; draw(); });
    const does = { in: () => zoom(0.6), out: () => zoom(1 / 0.6), left: () => pan(-0.3), right: () => pan(0.3), all: everything };
    document.querySelectorAll("[data-calls]").forEach((button) => button.addEventListener("click", () => { does[button.dataset.calls](); list(); }));
    canvas.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const keys = { "+": does.in, "=": does.in, "-": does.out, 0: everything, Home: () => { cursor = -1; everything(); next(1); }, End: () => { cursor = -1; everything(); next(-1); }, PageUp: does.left, PageDown: does.right };
      keys.ArrowRight = () => (event.shiftKey ? does.right() : next(1));
      keys.ArrowLeft = () => (event.shiftKey ? does.left() : next(-1));
      if (!(event.key in keys)) return;
      event.preventDefault();
      keys[event.key]();
    });
    const fingers = new Map();
    const time = (event) => view.from + ((event.clientX - canvas.getBoundingClientRect().left) / (canvas.clientWidth - AXIS)) * (view.to - view.from);
    canvas.addEventListener("pointerdown", (event) => { fingers.set(event.pointerId, event.clientX); canvas.setPointerCapture(event.pointerId); });
    canvas.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (before === undefined) return hover(time(event));
      fingers.set(event.pointerId, event.clientX);
      const scale = (view.to - view.from) / (canvas.clientWidth - AXIS);
      if (fingers.size === 1) return show(view.from - (event.clientX - before) * scale, view.to - (event.clientX - before) * scale);
      const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
      const was = Math.abs(before - other), is = Math.abs(event.clientX - other);
      if (was > 8 && is > 8) zoom(was / is);
    });
    const lift = (event) => { if (fingers.delete(event.pointerId)) list(); };
    canvas.addEventListener("pointerup", lift);
    canvas.addEventListener("pointercancel", lift);
    canvas.addEventListener("dblclick", everything);
    canvas.addEventListener("wheel", (event) => {
      // a page that scrolls must not stop here: the wheel zooms once the chart has the focus
      if (document.activeElement !== canvas && !event.ctrlKey) return;
      event.preventDefault();
      zoom(1.0015 ** event.deltaY, time(event));
    }, { passive: false });
  };
  const hover = (seconds) => {
    const { rows } = per[ticker];
    let at = firstAt(rows, seconds);
    if (at === rows.length || (at > 0 && seconds - calls.time[rows[at - 1]] < calls.time[rows[at]] - seconds)) at--;
    if (at >= 0) get("calls-readout").textContent = words(rows[at]);
  };

  // The list: filters, then pages of twenty.
  const PAGE = 20;
  let found = [], page = 0;
  const list = () => {
    const form = new FormData(get("calls-filter"));
    const wanted = Object.fromEntries(form);
    const place = wanted.where === "view" ? [view.from, view.to, ticker] : null;
    found = [];
    for (let row = 0; row < calls.time.length; row++) {
      if (place && (calls.time[row] < place[0] || calls.time[row] > place[1] || calls.ticker[row] !== place[2])) continue;
      const mine = calls.shadow.action[row], other = calls.active.action[row];
      if (wanted.shadow !== "" && mine !== Number(wanted.shadow)) continue;
      if (wanted.active !== "" && other !== Number(wanted.active)) continue;
      if (wanted.result !== "" && calls.shadow.right[row] !== Number(wanted.result)) continue;
      if (wanted.only === "differ" && mine === other) continue;
      if (wanted.only === "reason" && !(row in data.explained)) continue;
      if (wanted.only === "false" && !untrue(data.explained[row])) continue;
      found.push(row);
    }
    const signed = (row) => (Number.isNaN(calls.moved[row]) ? 0 : [1, -1, 0, 0][calls.shadow.action[row]] * calls.moved[row]);
    const orders = { newest: (a, b) => b - a, oldest: (a, b) => a - b, worst: (a, b) => signed(a) - signed(b), best: (a, b) => signed(b) - signed(a) };
    found.sort(orders[wanted.order]);
    page = 0;
    rows();
  };
  const untrue = (entry) => entry !== undefined && [entry.shadow, entry.active].some(([, claims]) => claims.some(([, holds]) => !holds));
  const element = (name, text = "", properties = {}) => Object.assign(document.createElement(name), { textContent: text, ...properties });
  const said = (key, row) => {
    const one = calls[key], action = one.action[row];
    const cell = element("td", "", { className: "when" });
    cell.append(element("span", NAMES[action], { className: `decision ${NAMES[action]}` }));
    const more = [one.chance[row] === 255 ? "" : `${one.chance[row]} %`, action < 3 ? RIGHT[one.right[row]] : ""].filter(Boolean).join(", ");
    cell.append(element("span", ` ${more}`, { className: "soft" }));
    return cell;
  };
  const rows = () => {
    const body = get("calls-rows");
    body.replaceChildren(...found.slice(page * PAGE, (page + 1) * PAGE).map((row) => {
      const line = document.createElement("tr");
      const why = row in data.explained;
      const cell = document.createElement("td");
      const open = element("button", why ? "Reason" : "Show", { type: "button", className: "small" });
      open.setAttribute("aria-label", `${open.textContent}: ${data.tickers[calls.ticker[row]]} ${when(calls.time[row])}`);
      if (why) open.setAttribute("aria-expanded", "false");
      open.addEventListener("click", () => {
        focusCall(row);
        if (why) toggle(line, open, row);
      });
      cell.append(open);
      const moved = Number.isNaN(calls.moved[row]) ? "open" : share(calls.moved[row]);
      line.append(element("th", when(calls.time[row]), { scope: "row", className: "when" }), element("td", data.tickers[calls.ticker[row]]), element("td", money(calls.price[row]), { className: "n" }), said("shadow", row), said("active", row), element("td", moved, { className: "n" }), cell);
      return line;
    }));
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    get("calls-count").textContent = `${found.length.toLocaleString("en")} of ${calls.time.length.toLocaleString("en")} decisions; page ${page + 1} of ${pages.toLocaleString("en")}`;
    get("calls-back").disabled = page === 0;
    get("calls-on").disabled = page + 1 >= pages;
  };
  const toggle = (line, open, row) => {
    const shown = open.getAttribute("aria-expanded") === "true";
    open.setAttribute("aria-expanded", String(!shown));
    if (shown) return line.nextElementSibling.remove();
    const entry = data.explained[row], detail = document.createElement("tr"), cell = element("td", "", { colSpan: 7, className: "why" });
    for (const [key, name] of Object.entries(SIDES)) {
      const [reason, claims] = entry[key];
      cell.append(element("b", name), element("p", reason ?? "No reason was written."));
      if (!claims.length) { if (reason) cell.append(element("p", "Nothing in it can be checked.", { className: "soft" })); continue; }
      const items = document.createElement("ul");
      for (const [text, holds] of claims) {
        const item = element("li", `${text} `);
        item.append(element("span", holds ? "true" : "false", { className: `badge ${holds ? "good pass" : "bad fail"}` }));
        items.append(item);
      }
      cell.append(items);
    }
    const prompt = document.createElement("details");
    prompt.append(element("summary", "The prompt"), element("pre", entry.prompt ?? "It can't be made again: the candles are gone or have changed."));
    cell.append(prompt);
    detail.append(cell);
    line.after(detail);
  };
  const filters = () => {
    get("calls-filter").addEventListener("change", list);
    get("calls-filter").addEventListener("submit", (event) => event.preventDefault());
    get("calls-back").addEventListener("click", () => { page--; rows(); });
    get("calls-on").addEventListener("click", () => { page++; rows(); });
  };

  const start = () => {
    if (data) return;
    load();
    recolour();
    controls();
    filters();
    choose(0);
    list();
    canvas.dataset.ready = "yes";
    new ResizeObserver(draw).observe(canvas);
    addEventListener("recolour", () => { recolour(); paint(); });
  };
  new IntersectionObserver((entries, watcher) => {
    if (entries.some((entry) => entry.isIntersecting)) { watcher.disconnect(); start(); }
  }, { rootMargin: "600px 0px" }).observe(canvas);
  addEventListener("beforeprint", start);
})();
