// Panes of bars and cells over one horizontal axis. Python says what is `shown`; a pointer moves
// `mark` where there is one. Nothing is fetched: it works without a network.

const LETTER = 6.4, RIGHT = 18, TITLE = 20, GAP = 8, FOOT = 38, WIDEST = 760;

// The pixels as an image of one pixel a cell, which the page makes larger.
function image(pixels, columns, rows) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [columns, rows];
  const bytes = new Uint8ClampedArray(pixels.buffer.slice(pixels.byteOffset, pixels.byteOffset + pixels.byteLength));
  canvas.getContext("2d").putImageData(new ImageData(bytes, columns, rows), 0, 0);
  return canvas.toDataURL();
}

function bars(drawn, pane, top, toX, left) {
  const most = Math.max(...pane.bars), foot = top + pane.height, wide = toX(1) - toX(0);
  pane.bars.forEach((value, column) => {
    const height = (pane.height * value) / most;
    const place = { x: toX(column) - 0.42 * wide, width: 0.84 * wide, y: foot - height, height };
    svg("rect", drawn, { ...place, class: "fl-amount" });
  });
  for (const [y, text] of [[top + 8, most], [foot, 0]])
    svg("text", drawn, { x: left - 6, y, "text-anchor": "end", class: "fl-tick" }, String(text));
}

function cells(drawn, pane, top, toX, left, inside, columns) {
  const frame = { x: left, y: top, width: inside, height: pane.height };
  const look = { preserveAspectRatio: "none", class: "fl-cells" };
  svg("image", drawn, { ...frame, ...look, href: image(pane.pixels, columns, pane.rows) });
  svg("rect", drawn, { ...frame, class: "fl-frame" });
  const toY = (row) => top + ((row + 0.5) * pane.height) / pane.rows;
  for (const [row, text] of pane.ticks)
    svg("text", drawn, { x: left - 6, y: toY(row) + 4, "text-anchor": "end", class: "fl-tick" }, text);
  const names = [];
  for (const { name, line, points } of pane.lines ?? []) {
    const path = points.map(([column, row]) => `${toX(column).toFixed(1)},${toY(row).toFixed(1)}`);
    svg("polyline", drawn, { points: path.join(" "), class: "fl-contour", "stroke-dasharray": DASHES[line] });
    const [column, row] = points.reduce((a, b) => (b[0] > a[0] ? b : a));
    if (name) names.push({ name, x: toX(column) - 6, y: toY(row) - 5 });
  }
  let free = -Infinity; // below the name above
  for (const { name, x, y } of names.sort((a, b) => a.y - b.y)) {
    const at = { x, y: Math.max(y, free), "text-anchor": "end", class: "fl-tick" };
    svg("text", drawn, at, name);
    free = at.y + 14;
  }
  return toY;
}

function render({ model, el }) {
  el.classList.add("fl-board", "fl-maps");
  const place = html("div", el), key = html("div", el, "", "fl-key"), tip = html("div", el, "", "fl-tip");
  tip.hidden = true;
  let seen = [], drawn = null, column = null, marker = null, toX = null, count = 1, left = 0;

  // Returns the pane, column and row under a pointer; a drag goes on where it leaves a pane.
  function under(event, dragged) {
    const box = drawn.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const within = (value, end) => Math.min(Math.max(Math.floor(value), 0), end - 1);
    const found = dragged ? seen[0] : seen.find(({ pane, top }) => y >= top && y < top + pane.height);
    const at = (x - left) / (toX(1) - toX(0));
    if (!found || (!dragged && (at < 0 || at >= count))) return null;
    const rows = found.pane.rows ?? 1;
    const row = within(((y - found.top) * rows) / found.pane.height, rows);
    return { ...found, column: within(at, count), row };
  }

  function tell(found, event) {
    tip.hidden = !found;
    column.setAttribute("visibility", found ? "visible" : "hidden");
    if (!found) return;
    const { tips } = found.pane;
    tip.textContent = tips[Math.min(found.row, tips.length - 1)][found.column];
    column.setAttribute("x", toX(found.column - 0.5));
    beside(tip, el, event);
  }

  function follow(event) {
    const dragged = event.buttons === 1 && marker && drawn.hasPointerCapture(event.pointerId);
    const found = under(event, dragged);
    tell(found, event);
    if (!found || !dragged) return;
    model.set("mark", [found.column, found.row]);
    model.save_changes();
  }

  function begin(event) {
    if (!marker || !under(event)) return;
    event.preventDefault();
    drawn.setPointerCapture(event.pointerId);
    follow(event);
  }

  function point() {
    const [at, row] = model.get("mark");
    if (at === undefined || !seen.length) return;
    marker ??= svg("circle", drawn, { r: 6, class: "fl-marker" });
    marker.setAttribute("cx", toX(at));
    marker.setAttribute("cy", seen[0].toY(row));
  }

  function draw() {
    const { x, panes, key: colours } = model.get("shown");
    if (!x || !el.clientWidth) return;
    const names = panes.flatMap((pane) => pane.ticks?.map(([, text]) => text.length) ?? [4]);
    left = 12 + LETTER * Math.max(...names);
    const width = Math.min(WIDEST, el.clientWidth), inside = width - left - RIGHT;
    const height = panes.reduce((sum, pane) => sum + TITLE + pane.height + GAP, 0) - GAP + FOOT;
    place.replaceChildren();
    tip.hidden = true;
    [seen, marker, count] = [[], null, x.columns];
    toX = (at) => left + ((at + 0.5) * inside) / count;
    const label = [...panes.map((pane) => pane.label), x.label].join("; ");
    drawn = svg("svg", place, { width, height, role: "img", "aria-label": label });
    let top = 0;
    for (const pane of panes) {
      svg("text", drawn, { x: left, y: top + 14, class: "fl-title" }, pane.label);
      top += TITLE;
      const paint = pane.bars ? bars : cells;
      const toY = paint(drawn, pane, top, toX, left, inside, count);
      seen.push({ pane, top, toY });
      top += pane.height + GAP;
    }
    const foot = top - GAP;
    for (const [at, text] of x.ticks)
      svg("text", drawn, { x: toX(at), y: foot + 15, "text-anchor": "middle", class: "fl-tick" }, text);
    const middle = { x: left + inside / 2, y: foot + 32, "text-anchor": "middle", class: "fl-tick" };
    svg("text", drawn, middle, x.label);
    const whole = { y: TITLE, height: foot - TITLE, width: inside / count };
    column = svg("rect", drawn, { ...whole, class: "fl-column", visibility: "hidden" });
    point();
    drawn.style.cursor = marker ? "crosshair" : "";
    drawn.addEventListener("pointerdown", begin);
    drawn.addEventListener("pointermove", follow);
    drawn.addEventListener("pointerleave", () => tell(null));
    key.replaceChildren();
    key.style.marginLeft = `${left}px`;
    html("span", key, colours.label, "fl-tick");
    html("span", key, colours.names[0], "fl-tick");
    const ramp = html("span", key, "", "fl-ramp");
    ramp.style.background = `linear-gradient(to right, ${colours.colours.join(", ")})`;
    html("span", key, colours.names.at(-1), "fl-tick");
  }

  const fade = () => place.classList.toggle("fl-pale", model.get("pale"));
  model.on("change:pale", fade);
  model.on("change:shown", draw);
  model.on("change:mark", point);
  const sized = new ResizeObserver(draw);
  sized.observe(el);
  fade();
  draw();
  return () => sized.disconnect();
}

export default { render };
