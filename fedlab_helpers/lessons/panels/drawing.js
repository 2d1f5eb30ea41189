// What the scripts of a board and of maps share; Python puts it before theirs.

const SVG = "http://www.w3.org/2000/svg";
const DASHES = { "-": "", "--": "7 4", "-.": "8 3 2 3", ":": "2 3" };

const html = (tag, parent, text = "", look = "") => {
  const made = document.createElement(tag);
  if (look) made.className = look;
  made.textContent = text;
  parent?.append(made);
  return made;
};

const svg = (tag, parent, attributes = {}, text = "") => {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text) made.textContent = text;
  parent.append(made);
  return made;
};

// Returns what is seen of an element: boxes around it that scroll may cut it. (What the page has
// for its body counts for the window.)
function sight(el) {
  let { left, top, right, bottom } = el.getBoundingClientRect();
  const cut = (box) => {
    [left, top] = [Math.max(left, box.left), Math.max(top, box.top)];
    [right, bottom] = [Math.min(right, box.right), Math.min(bottom, box.bottom)];
  };
  cut({ left: 0, top: 0, right: innerWidth, bottom: innerHeight });
  for (let at = el.parentElement; at && at !== document.body; at = at.parentElement)
    if (getComputedStyle(at).overflowY !== "visible") cut(at.getBoundingClientRect());
  return { left, top, right, bottom };
}

// Puts a box beside the pointer, whole within what is seen of the widget.
function beside(tip, el, { clientX, clientY }) {
  const own = el.getBoundingClientRect(), seen = sight(el);
  const place = (at, size, low, high) => (at + 14 + size <= high ? at + 14 : Math.max(low, at - 14 - size));
  const x = place(clientX, tip.offsetWidth, seen.left, seen.right);
  const y = place(clientY, tip.offsetHeight, seen.top, seen.bottom);
  tip.style.left = `${x - own.left}px`;
  tip.style.top = `${y - own.top}px`;
}
