// A chart and a table of runs that share colours, names and what is hidden.
// Python says what there is (`panes`, `xs`, `runs`, `columns`, `bars`, `status`); a reader's clicks
// go back as `hidden`, `x` and messages. Nothing is fetched: it works without a network.

const TALL = 230, LOW = 190, LEFT = 46, RIGHT = 14, TOP = 26, FOOT = 40, LEAST = 360, NEAR = 9;

const shown = (value, form) => {
  if (value === null || value === undefined) return "–";
  if (form === "share") return (100 * value).toFixed(1) + "%";
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(3)));
};

// Numbers that are read easily, some five between two values.
function ticks(low, high, log) {
  if (log) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
      for (const digit of high / low > 50 ? [1] : high / low > 8 ? [1, 3] : [1, 2, 3, 5, 7])
        found.push(digit * 10 ** power);
    const inside = found.filter((v) => v >= low * 0.999 && v <= high * 1.001);
    return inside.length > 2 ? inside : ticks(low, high, false).filter((v) => v > 0);
  }
  const rough = (high - low) / 4 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((digit) => digit * power >= rough);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step / 1e6; at += step)
    found.push(Number(at.toPrecision(12)));
  return found;
}

function scale(low, high, from, to, log) {
  const place = log ? Math.log : (v) => v;
  const [a, b] = [place(low), place(high)];
  return (value) => from + ((place(value) - a) / (b - a || 1)) * (to - from);
}

const usable = (value, log) => Number.isFinite(value) && (!log || value > 0);

// A name in two lines, about as long as each other.
function halves(name) {
  const words = name.split(" "), part = (count) => [words.slice(0, count).join(" "), words.slice(count).join(" ")];
  const longer = (lines) => Math.max(...lines.map((line) => line.length));
  return words.map((_, at) => part(at + 1)).reduce((a, b) => (longer(b) < longer(a) ? b : a)).filter(Boolean);
}

// One pane of curves. Returns what a pointer at a place points at.
function curves(parent, pane, x, runs, [width, height], label) {
  const levels = (pane.levels ?? []).map((level) => ({ ...level, lines: halves(level.name) }));
  const longest = Math.max(0, ...levels.flatMap(({ lines }) => lines.map((line) => line.length)));
  const inside = [LEFT, width - RIGHT - 6 * longest];
  const drawn = svg("svg", parent, {
    width, height, role: "img", "aria-label": `${pane.label}, ${x.label}. ${label}`,
  });
  const points = runs.map((run) => {
    const xs = run.points[x.key] ?? [], ys = run.points[pane.y] ?? [];
    const low = run.low?.[pane.y] ?? ys, high = run.high?.[pane.y] ?? ys;
    return xs
      .map((at, i) => ({ at, value: ys[i], low: low[i], high: high[i], round: run.points.round?.[i] }))
      .filter((p) => usable(p.at, x.log) && usable(p.value, pane.log));
  });
  const all = points.flat();
  const marks = (pane.marks ?? []).filter((m) => usable(m[x.key], x.log) && usable(m.value, pane.log));
  const ats = [...all.map((p) => p.at), ...marks.map((m) => m[x.key])];
  const values = [...all.flatMap((p) => [p.low, p.high]), ...marks.map((m) => m.value)];
  let [left, right] = [Math.min(...ats), Math.max(...ats)];
  if (!ats.length) [left, right] = x.log ? [1, 100] : [0, 1];
  if (!x.log) left = x.key === "client" ? 1 : 0;
  if (left === right) right = x.log ? left * 10 : left + 1;
  let [low, high] = [Math.min(...values), Math.max(...values)];
  for (const level of levels) {
    low = Math.min(low, level.value);
    high = Math.max(high, level.value);
  }
  if (!Number.isFinite(low)) [low, high] = pane.log ? [0.1, 1] : [0, 1];
  if (pane.highest) high = Math.max(low * 1.1, Math.min(high, pane.highest));
  if (pane.lowest) {
    const ends = points.flatMap((own) => own.slice(-1).map((p) => p.low));
    low = Math.min(pane.lowest, ...ends);
  }
  if (pane.log) [low, high] = [low / 1.08, high * 1.08];
  else {
    const room = 0.06 * (high - low) || 0.05;
    [low, high] = [low - room, high + room];
  }
  const toX = scale(left, right, ...inside, x.log);
  const toY = scale(low, high, height - FOOT, TOP, pane.log);
  svg("text", drawn, { x: LEFT, y: 14, class: "fl-title" }, pane.label);
  for (const value of ticks(low, high, pane.log)) {
    svg("line", drawn, { x1: LEFT, x2: inside[1], y1: toY(value), y2: toY(value), class: "fl-grid" });
    const text = { x: LEFT - 6, y: toY(value) + 4, "text-anchor": "end", class: "fl-tick" };
    svg("text", drawn, text, shown(value, pane.form).replace(".0%", "%"));
  }
  for (const value of ticks(left, right, x.log)) {
    if (x.whole && !Number.isInteger(value)) continue;
    const text = { x: toX(value), y: height - FOOT + 16, "text-anchor": "middle", class: "fl-tick" };
    svg("text", drawn, text, shown(value));
  }
  const middle = (inside[0] + inside[1]) / 2;
  svg("text", drawn, { x: middle, y: height - 6, "text-anchor": "middle", class: "fl-tick" }, x.label);
  const clip = `fl-${Math.random().toString(36).slice(2)}`;
  const frame = { x: LEFT - 6, y: TOP - 6, width: inside[1] - LEFT + 12, height: height - FOOT - TOP + 12 };
  svg("rect", svg("clipPath", svg("defs", drawn), { id: clip }), frame);
  const group = svg("g", drawn, { "clip-path": `url(#${clip})` });
  let free = -Infinity; // below the name of the level above
  for (const level of [...levels].sort((a, b) => b.value - a.value)) {
    const y = toY(level.value), { lines } = level;
    svg("line", group, { x1: LEFT, x2: inside[1], y1: y, y2: y, class: "fl-level" });
    const from = Math.max(free, y + 4 - 6 * (lines.length - 1));
    lines.forEach((text, line) => {
      svg("text", drawn, { x: inside[1] + 8, y: from + 12 * line, class: "fl-tick" }, text);
    });
    free = from + 12 * lines.length + 2;
  }
  for (const mark of marks) {
    svg("circle", group, { cx: toX(mark[x.key]), cy: toY(mark.value), r: 3.5, class: "fl-mark" });
  }
  runs.forEach((run, place) => {
    const own = points[place];
    if (!own.length) return;
    const path = (pick) => own.map((p) => `${toX(p.at).toFixed(1)},${toY(pick(p)).toFixed(1)}`);
    const look = { stroke: run.colour, "stroke-dasharray": DASHES[run.line] ?? "", fill: "none" };
    if (run.low) {
      const band = [...path((p) => p.low), ...path((p) => p.high).reverse()].join(" ");
      svg("polygon", group, { points: band, fill: run.colour, class: "fl-band" });
    }
    const kind = run.newest ? "fl-line fl-newest" : "fl-line";
    svg("polyline", group, { points: path((p) => p.value).join(" "), class: kind, ...look });
    const end = own.at(-1);
    const dot = { cx: toX(end.at), cy: toY(end.value), r: run.newest ? 5 : 3.5, fill: run.colour };
    svg("circle", group, { ...dot, class: run.running ? "fl-pulse" : "" });
  });
  const cursor = svg("line", drawn, { y1: TOP, y2: height - FOOT, class: "fl-cursor", visibility: "hidden" });
  return {
    drawn, cursor, toX,
    marked(px, py) {
      const far = (mark) => Math.hypot(toX(mark[x.key]) - px, toY(mark.value) - py);
      const found = marks.filter((mark) => far(mark) < NEAR).sort((one, other) => far(one) - far(other));
      return found[0];
    },
    places: [...new Set(all.map((p) => p.at))].sort((a, b) => a - b),
    at(place, px, py) {
      const of = (run, p) => ({ run, ...p });
      if (x.log) { // no progress of a run, so that lines may be upright: the point that is nearest
        const far = (p) => Math.hypot(toX(p.at) - px, toY(p.value) - py);
        const all = runs.flatMap((run, i) => points[i].map((p) => of(run, p)));
        return all.length ? [all.reduce((one, other) => (far(other) < far(one) ? other : one))] : [];
      }
      const near = (best, p) => (!best || Math.abs(p.at - place) < Math.abs(best.at - place) ? p : best);
      return runs.flatMap((run, i) => (points[i].length ? [of(run, points[i].reduce(near, null))] : []));
    },
  };
}

// A bar for each client, from the model that all share (a mark) to its own.
// `point` is called with what to say of the bar under a pointer, and with nothing beside bars.
function bars(parent, told, [width, height], words, point) {
  const inside = [LEFT, width - RIGHT], count = told.shared.length;
  const drawn = svg("svg", parent, { width, height, role: "img", "aria-label": told.title });
  svg("text", drawn, { x: LEFT, y: 14, class: "fl-title" }, told.title);
  const low = Math.min(...told.shared, ...told.own) - 0.03, high = Math.max(...told.shared, ...told.own) + 0.03;
  const toY = scale(low, high, height - FOOT, TOP);
  for (const value of ticks(low, high)) {
    svg("line", drawn, { x1: LEFT, x2: inside[1], y1: toY(value), y2: toY(value), class: "fl-grid" });
    const text = { x: LEFT - 6, y: toY(value) + 4, "text-anchor": "end", class: "fl-tick" };
    svg("text", drawn, text, shown(value, "share").replace(".0%", "%"));
  }
  const order = [...told.groups.keys()].sort((a, b) => told.groups[a].localeCompare(told.groups[b]) || a - b);
  const wide = (inside[1] - inside[0]) / count;
  order.forEach((client, place) => {
    const x = inside[0] + place * wide, own = told.own[client], shared = told.shared[client];
    const about = [`${words.client} ${client}, ${told.groups[client]}`, `${words.shared_model}: ${shown(shared, "share")}`];
    const bar = svg("g", drawn, { class: "fl-bar" });
    if (own !== undefined) {
      about.push(`${words.own_model}: ${shown(own, "share")}`);
      const kind = own < shared ? "fl-worse" : "fl-better";
      const [top, foot] = [toY(Math.max(own, shared)), toY(Math.min(own, shared))];
      svg("rect", bar, { x: x + 0.15 * wide, width: 0.7 * wide, y: top, height: foot - top, class: kind });
    }
    svg("line", bar, { x1: x + 0.1 * wide, x2: x + 0.9 * wide, y1: toY(shared), y2: toY(shared), class: "fl-shared" });
    svg("rect", bar, { x, width: wide, y: TOP, height: height - FOOT - TOP, fill: "transparent" });
    bar.addEventListener("pointermove", (event) => point(about, event));
    bar.addEventListener("pointerleave", () => point());
  });
  for (const name of new Set(told.groups)) {
    const places = order.flatMap((client, place) => (told.groups[client] === name ? [place] : []));
    const middle = inside[0] + (places[0] + places.at(-1) + 1) * 0.5 * wide;
    svg("text", drawn, { x: middle, y: height - FOOT + 16, "text-anchor": "middle", class: "fl-tick" }, name);
  }
  const key = html("div", parent, "", "fl-key");
  for (const [kind, name] of [["shared", "shared_model"], ["better", "better_off"], ["worse", "worse_off"]]) {
    html("span", key, "", `fl-swatch fl-${kind}`);
    html("span", key, words[name], "fl-tick");
  }
}

// A name that is long takes several lines.
function fit(name) {
  name.style.height = "0";
  name.style.height = `${name.scrollHeight + 2}px`;
}

// Keys are for the control that has the focus, not for the notebook. A slider's handle gets its name;
// the number beside a slider over given values cannot be typed over, for nobody would read it.
function keep({ target, currentTarget }) {
  target.dataset.lmSuppressShortcuts = "true";
  const name = target.closest(".widget-inline-hbox")?.querySelector(".widget-label")?.textContent;
  if (name && target.classList.contains("noUi-handle")) target.setAttribute("aria-label", name);
  for (const number of currentTarget.querySelectorAll(".fl-of-a-list .widget-readout")) {
    number.contentEditable = "false";
    number.tabIndex = -1;
  }
}

// Controls that are off are no stops of Tab. Where a control that had the focus goes or is switched
// off, the next of its kind has it, or the button that runs: never the page, which would scroll.
function tend(output) {
  let held = null, kind = null, place = 0;
  const kinds = [".fl-chip", ".fl-drop"];
  const there = (control) => control.isConnected && !control.disabled && !control.closest(".fl-off");
  const all = (selector) => [...output.querySelectorAll(selector)];
  const hold = ({ target }) => {
    held = target;
    kind = kinds.find((each) => target.matches(each));
    place = kind ? all(kind).indexOf(target) : 0;
  };
  const release = () => setTimeout(() => {
    if (held && there(held) && !output.contains(document.activeElement)) held = null;
  });
  const pass = () => {
    if (!held || there(held) || ![document.body, held].includes(document.activeElement)) return;
    const alike = kind ? all(kind).filter(there) : [];
    const next = alike[Math.min(place, alike.length - 1)] ?? all(".fl-run, .fl-form select").find(there);
    held = null;
    next?.focus();
  };
  let soon = null;
  const changed = new MutationObserver(() => {
    for (const control of all(".fl-off, [inert]")) control.inert = control.classList.contains("fl-off");
    if (!held || there(held)) return;
    clearTimeout(soon);
    soon = setTimeout(pass, 100); // what comes in the place of a control comes after it has gone
  });
  output.addEventListener("focusin", hold);
  output.addEventListener("focusout", release);
  changed.observe(output, { subtree: true, childList: true, attributeFilter: ["class", "disabled"] });
  return changed;
}

function render({ model, el }) {
  const words = model.get("words");
  el.classList.add("fl-board");
  const status = html("div", el, "", "fl-told");
  const said = html("div", status, "", "fl-status");
  said.setAttribute("role", "status");
  const track = html("div", el, "", "fl-track"), share = html("div", track, "", "fl-share");
  const choose = html("label", el, words.axis + " ", "fl-axis"), axis = html("select", choose);
  const panes = html("div", el, "", "fl-panes"), about = html("div", el, "", "fl-about fl-tick");
  const legend = html("div", el, "", "fl-legend");
  const tip = html("div", el, "", "fl-tip");
  const scroll = html("div", el, "", "fl-table"), table = html("table", scroll);
  const head = html("tr", html("thead", table)), body = html("tbody", table);
  let sorted = null, down = true, place = null, views = [];

  const visible = () => model.get("runs").filter((run) => !model.get("hidden").includes(run.key));
  const xOf = () => model.get("xs").find((each) => each.key === model.get("x")) ?? model.get("xs")[0];
  const toggle = (key) => {
    const hidden = model.get("hidden");
    model.set("hidden", hidden.includes(key) ? hidden.filter((k) => k !== key) : [...hidden, key]);
    model.save_changes();
  };

  function tell() {
    const { parts = [], state = "idle", done = 0, left = null } = model.get("status");
    said.replaceChildren();
    for (const [heading, text] of parts) html("div", said, text, "fl-part").dataset.heading = heading;
    el.dataset.state = state;
    share.style.width = `${100 * done}%`;
    track.style.visibility = ["starting", "running"].includes(state) ? "visible" : "hidden";
    track.title = left ?? "";
    track.dataset.left = left ?? "";
  }

  function point() {
    const x = xOf(), event = place?.event;
    tip.hidden = place === null;
    for (const view of views) view.cursor.setAttribute("visibility", "hidden");
    if (place === null || !views.length) return;
    tip.replaceChildren();
    if (place.mark) {
      html("b", tip, place.mark.name);
      html("div", tip, `${shown(place.mark.value, place.pane.form)} · ${shown(place.mark[x.key])} ${x.label}`);
      return beside(tip, el, event);
    }
    if (!x.log) html("b", tip, x.heading.replace("{at}", shown(place.at)));
    for (const view of views) {
      const pane = view.pane, found = view.at(place.at, place.x, place.y);
      const cursor = view.toX(x.log ? found[0]?.at ?? place.at : place.at);
      view.cursor.setAttribute("visibility", "visible");
      view.cursor.setAttribute("x1", cursor);
      view.cursor.setAttribute("x2", cursor);
      if (views.length > 1) html("div", tip, pane.label, "fl-tick");
      for (const { run, at, value, low, high, round } of found) {
        const row = html("div", tip);
        html("span", row, "", "fl-swatch").style.background = run.colour;
        const range = run.low ? ` (${shown(low, pane.form)}–${shown(high, pane.form)})` : "";
        const when = x.log ? ` · ${shown(at)} ${x.label} · ${words.round} ${shown(round)}` : "";
        html("span", row, `${run.name}: ${shown(value, pane.form)}${range}${when}`);
      }
    }
    beside(tip, el, event);
  }

  function pointBar(lines = [], event) {
    tip.hidden = !lines.length;
    tip.replaceChildren(...lines.map((line, at) => html(at ? "div" : "b", null, line)));
    if (event) beside(tip, el, event);
  }

  function draw() {
    const runs = visible(), x = xOf(), told = model.get("bars");
    const whole = Math.max(280, el.clientWidth), count = model.get("panes").length;
    const wide = whole >= count * LEAST + 8 * (count - 1) ? (whole - 8 * (count - 1)) / (count || 1) : whole;
    const height = wide === whole && (count > 1 || told.shared?.length) ? LOW : TALL, size = [wide, height];
    panes.replaceChildren();
    views = model.get("panes").map((pane) => {
      const names = runs.map((run) => run.name).join("; ");
      const view = { ...curves(panes, pane, x, runs, size, names), pane };
      view.drawn.addEventListener("pointermove", (event) => {
        const box = view.drawn.getBoundingClientRect();
        const [px, py] = [event.clientX - box.left, event.clientY - box.top];
        const near = (best, p) => (Math.abs(view.toX(p) - px) < Math.abs(view.toX(best) - px) ? p : best);
        const mark = view.marked(px, py);
        const at = view.places.length ? { at: view.places.reduce(near), x: px, y: py, event } : null;
        place = mark ? { mark, pane, event } : at;
        point();
      });
      view.drawn.addEventListener("pointerleave", () => { place = null; point(); });
      return view;
    });
    if (told.shared?.length) bars(panes, told, [whole, height], words, pointBar);
    point();
    about.textContent = model.get("panes").map((pane) => pane.about ?? "").join(" ").trim();
    const at = document.activeElement?.dataset?.focus;
    legend.replaceChildren();
    for (const run of model.get("runs")) {
      const button = html("button", legend, "", "fl-legend-item");
      const hidden = model.get("hidden").includes(run.key);
      button.setAttribute("aria-pressed", String(!hidden));
      button.title = hidden ? words.show : words.hide;
      html("span", button, "", "fl-swatch").style.background = run.colour;
      html("span", button, run.name);
      button.dataset.focus = `legend ${run.key}`;
      button.onclick = () => toggle(run.key);
      if (at === button.dataset.focus) button.focus();
    }
  }

  function tabulate() {
    const columns = model.get("columns"), runs = [...model.get("runs")];
    scroll.hidden = !runs.length;
    if (sorted) {
      const value = (run) => run.cells[sorted]?.[0] ?? null;
      const order = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
      runs.sort((a, b) => {
        const [one, two] = [value(a), value(b)];
        if (one === null || two === null) return (one === null) - (two === null);
        return (down ? -1 : 1) * order(one, two);
      });
    }
    const typing = body.querySelector(".fl-name:focus"), typed = typing && { key: typing.dataset.key, text: typing.value, at: typing.selectionStart };
    const focus = document.activeElement?.dataset?.focus;
    head.replaceChildren();
    html("th", head);
    html("th", head, words.name);
    for (const column of columns) {
      const cell = html("th", head), button = html("button", cell, column.label);
      const at = sorted === column.key ? (down ? "descending" : "ascending") : "none";
      cell.setAttribute("aria-sort", at);
      cell.className = column.text ? "" : "fl-number";
      button.dataset.focus = `sort ${column.key}`;
      button.onclick = () => {
        [sorted, down] = [column.key, sorted === column.key ? !down : true];
        tabulate();
      };
    }
    body.replaceChildren();
    for (const run of runs) {
      const row = html("tr", body), first = html("td", row), seen = html("input", first);
      Object.assign(seen, { type: "checkbox", checked: !model.get("hidden").includes(run.key) });
      seen.setAttribute("aria-label", `${words.show} ${run.name}`);
      seen.style.accentColor = run.colour;
      seen.dataset.focus = `show ${run.key}`;
      seen.onchange = () => toggle(run.key);
      const drop = html("button", first, "×", "fl-drop");
      Object.assign(drop, { title: words.drop, disabled: run.running });
      drop.setAttribute("aria-label", `${words.drop} ${run.name}`);
      drop.dataset.focus = `drop ${run.key}`;
      drop.onclick = () => model.send({ do: "drop", key: run.key });
      row.style.boxShadow = `inset 4px 0 ${run.colour}`;
      const name = html("textarea", html("td", row), "", "fl-name");
      name.value = typed?.key === run.key ? typed.text : run.name;
      name.rows = 1;
      name.maxLength = 60;
      name.dataset.key = run.key;
      name.setAttribute("aria-label", words.rename);
      name.onchange = () => model.send({ do: "rename", key: run.key, name: name.value });
      name.onkeydown = (event) => {
        event.stopPropagation();
        if (event.key === "Escape") name.value = run.name;
        if (event.key === "Escape" || event.key === "Enter") name.blur();
      };
      name.oninput = () => fit(name);
      fit(name);
      for (const column of columns) {
        const [, text] = run.cells[column.key] ?? [null, "–"];
        html("td", row, text, column.text ? "" : "fl-number");
      }
      if (typed?.key === run.key) {
        name.focus();
        name.setSelectionRange(typed.at, typed.at);
      }
    }
    if (focus && !typed) table.querySelector(`[data-focus="${CSS.escape(focus)}"]`)?.focus();
  }

  function offer() {
    axis.replaceChildren();
    for (const x of model.get("xs")) html("option", axis, x.label).value = x.key;
    axis.value = model.get("x");
    choose.hidden = model.get("xs").length < 2;
  }
  axis.onchange = () => {
    model.set("x", axis.value);
    model.save_changes();
  };
  axis.onkeydown = (event) => event.stopPropagation();

  const all = () => { draw(); tabulate(); };
  model.on("change:runs", all);
  model.on("change:hidden", all);
  model.on("change:columns", tabulate);
  for (const name of ["panes", "bars"]) model.on(`change:${name}`, draw);
  for (const name of ["x", "xs"]) model.on(`change:${name}`, () => { offer(); draw(); });
  model.on("change:status", tell);
  const sized = new ResizeObserver(() => {
    draw();
    for (const name of body.querySelectorAll(".fl-name")) fit(name);
  });
  sized.observe(el);
  // The picture that stands in for a dead panel is not needed beside a living one.
  let output = null, before = null, root = null, tended = null;
  const waiting = setInterval(() => {
    output = el.closest(".jp-OutputArea-child");
    if (!output) return;
    clearInterval(waiting);
    before = output.previousElementSibling;
    if (!before?.querySelector(".jp-RenderedImage")) before = null;
    if (before) before.style.display = "none";
    output.addEventListener("focusin", keep);
    tended = tend(output);
    root = output.querySelector(".jupyter-widgets"); // its view is told when the kernel is gone
    if (root) dead.observe(root, { attributes: true, attributeFilter: ["class"] });
  }, 100);
  const dead = new MutationObserver(() => {
    const gone = root.classList.contains("jupyter-widgets-disconnected");
    if (!output || !before) return;
    output.style.display = gone ? "none" : "";
    before.style.display = gone ? "" : "none";
  });
  offer();
  tell();
  all();
  return () => { sized.disconnect(); dead.disconnect(); tended?.disconnect(); clearInterval(waiting); };
}

export default { render };
