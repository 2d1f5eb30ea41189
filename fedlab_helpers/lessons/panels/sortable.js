// A table whose heads are buttons that sort its rows.

function render({ model, el }) {
  el.classList.add("fl-board");
  const keep = ({ target }) => { target.dataset.lmSuppressShortcuts = "true"; };
  el.addEventListener("focusin", keep); // keys are for the table, not for the notebook
  el.innerHTML = model.get("html");
  const table = el.querySelector("table"), body = table.querySelector("tbody");
  const value = (row, place) => {
    const cell = row.children[place];
    return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
  };
  [...table.querySelectorAll("thead th")].forEach((head, place) => {
    const button = document.createElement("button");
    button.textContent = head.textContent || "–";
    head.replaceChildren(button);
    head.setAttribute("aria-sort", "none");
    button.onclick = () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      for (const other of head.parentElement.children) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const sign = down ? -1 : 1;
      const rows = [...body.children].sort((one, other) => {
        const [a, b] = [value(one, place), value(other, place)];
        if (a === "–" || b === "–") return (a === "–") - (b === "–"); // what is missing is last
        return sign * (typeof a === "number" ? a - b : a.localeCompare(b));
      });
      body.replaceChildren(...rows);
    };
  });
  // The table that stands in for this one where no kernel runs is not needed beside it.
  const waiting = setInterval(() => {
    const output = el.closest(".jp-OutputArea-child"), before = output?.previousElementSibling;
    if (before?.querySelector("table.fl-sortable")) before.style.display = "none";
    if (output) clearInterval(waiting);
  }, 100);
  return () => clearInterval(waiting);
}

export default { render };
