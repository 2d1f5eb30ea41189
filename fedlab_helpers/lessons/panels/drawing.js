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

// Puts a box beside the pointer, whole within the widget and what is seen of the page.
function beside(tip, el, { clientX, clientY }) {
  const own = el.getBoundingClientRect(), [wide, high] = [tip.offsetWidth, tip.offsetHeight];
  const place = (at, size, low, high) => (at + 14 + size <= high ? at + 14 : Math.max(low, at - 14 - size));
  const x = place(clientX, wide, Math.max(0, own.left), Math.min(innerWidth, own.right));
  const y = place(clientY, high, Math.max(0, own.top), Math.min(innerHeight, own.bottom));
  tip.style.left = `${x - own.left}px`;
  tip.style.top = `${y - own.top}px`;
}
