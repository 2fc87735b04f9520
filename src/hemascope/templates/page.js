"use strict";
// The page is complete without this; it lets tables be sorted and searched, and opens what is folded for the printer.
// Of a long table only the first rows are laid out, so that a new order is there at once.
const MOST_SHOWN = 200;
const collator = new Intl.Collator(undefined, { numeric: true });
const content = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
const isNumber = (text) => text !== "" && Number.isFinite(Number(text));
const order = (a, b) => (isNumber(a) && isNumber(b) ? a - b : collator.compare(a, b));

// The rows in the order of one column; those with nothing there come last either way.
function sorted(rows, column, down) {
  const texts = new Map(rows.map((row) => [row, content(row, column)]));
  const sign = down ? -1 : 1;
  return [...rows].sort((a, b) => {
    const [one, other] = [texts.get(a), texts.get(b)];
    return (one === "") - (other === "") || sign * order(one, other);
  });
}

// Adds a field that searches a table and says how many rows it found; returns what shows the rows in an order of theirs.
function searchable(table) {
  const body = table.tBodies[0];
  let rows = [...body.rows];
  let most = MOST_SHOWN;
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const tools = document.createElement("div");
  tools.className = "tools";
  const field = document.createElement("input");
  field.type = "search";
  field.className = "filter";
  field.placeholder = "Search this table";
  field.setAttribute("aria-label", "Search this table");
  const told = document.createElement("span");
  told.setAttribute("role", "status");
  const more = document.createElement("button");
  more.type = "button";
  more.className = "more";
  tools.append(field, told);
  table.parentElement.before(tools);
  table.parentElement.after(more);

  function show(given = rows) {
    rows = given;
    const wanted = field.value.trim().toLowerCase();
    const found = rows.filter((row) => texts.get(row).includes(wanted));
    const shown = new Set(found.slice(0, most));
    for (const row of rows) row.hidden = !shown.has(row);
    const count = (number) => number.toLocaleString("en");
    told.textContent = `${count(found.length)} of ${count(rows.length)} ${rows.length === 1 ? "row" : "rows"}${shown.size < found.length ? `, the first ${count(shown.size)} shown` : ""}`;
    more.textContent = `Show all ${count(found.length)}`;
    more.hidden = shown.size === found.length;
  }
  const all = (limit) => ((most = limit), show());
  field.addEventListener("input", () => all(MOST_SHOWN));
  more.addEventListener("click", () => all(Infinity));
  addEventListener("beforeprint", () => all(Infinity));
  addEventListener("afterprint", () => all(MOST_SHOWN));
  show();
  return show;
}

for (const table of document.querySelectorAll("table[data-sort]")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const show = table.dataset.sort === "search" ? searchable(table) : () => {};
  heads.forEach((head, column) => {
    if ("plain" in head.dataset) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const first = head.dataset.first ?? (head.classList.contains("number") ? "descending" : "ascending");
      const way = head.ariaSort ? (head.ariaSort === "ascending" ? "descending" : "ascending") : first;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", way);
      const rows = sorted([...body.rows], column, way === "descending");
      show(rows);
      body.append(...rows);
    });
  });
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => (part.open = true)));
