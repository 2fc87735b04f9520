"use strict";
// The page is complete without this; it lets tables be sorted and searched, and opens what is folded for the printer.
const collator = new Intl.Collator(undefined, { numeric: true });
const content = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
const isNumber = (text) => text !== "" && Number.isFinite(Number(text));
const order = (a, b) => (isNumber(a) && isNumber(b) ? a - b : collator.compare(a, b));

for (const table of document.querySelectorAll("table[data-sort]")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if ("plain" in head.dataset) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.ariaSort ? head.ariaSort === "ascending" : head.classList.contains("number");
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].sort((a, b) => order(content(a, column), content(b, column)));
      body.append(...(down ? rows.reverse() : rows));
    });
  });
  if (table.dataset.sort !== "search") continue;
  const field = document.createElement("input");
  field.type = "search";
  field.className = "filter";
  field.placeholder = "Search this table";
  field.setAttribute("aria-label", "Search this table");
  table.parentElement.before(field);
  const texts = new Map([...body.rows].map((row) => [row, row.textContent.toLowerCase()]));
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    for (const [row, text] of texts) row.hidden = !text.includes(wanted);
  });
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => (part.open = true)));
