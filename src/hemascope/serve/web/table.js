// The order and the choice of pictures, and the table to take away.

const least = (value, otherwise) => (value === null || value === undefined ? otherwise : value);

const ORDERS = {
  added: (a, b) => a.number - b.number,
  confidence: (a, b) => least(a.answer?.confidence, 2) - least(b.answer?.confidence, 2),
  outlier: (a, b) => least(b.answer?.outlier_score, -1e30) - least(a.answer?.outlier_score, -1e30),
  label: (a, b) => (a.answer?.label ?? "~").localeCompare(b.answer?.label ?? "~"),
  name: (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }),
};

/** The entries in the order asked for; equals stay in the order in which they came. */
export const ordered = (entries, order) => [...entries].sort((a, b) => ORDERS[order](a, b) || a.number - b.number);

/** Whether an entry is shown. */
export function shown(entry, { show, find, label }) {
  const answer = entry.answer;
  if (find && !entry.name.toLowerCase().includes(find.toLowerCase())) return false;
  if (label && answer?.label !== label) return false;
  if (show === "doubted") return answer?.trust === false;
  if (show === "trusted") return answer?.trust === true;
  if (show === "failed") return Boolean(answer?.error);
  return true;
}

/** The answers as CSV, a row a picture, with the columns of `hemascope predict` and what is more. */
export function csvOf(entries, classes) {
  const header = ["id", "label", "confidence", ...classes, "error", "outlier_score", "trust", "why"];
  const rows = entries.map(({ name, answer }) => [
    text(name),
    answer?.label ?? "",
    answer?.confidence ?? "",
    ...classes.map((known) => answer?.probabilities?.[known] ?? ""),
    text(answer ? (answer.error ?? "") : "not answered yet"),
    answer?.outlier_score ?? "",
    answer?.trust ?? "",
    text((answer?.why ?? []).join(" ")),
  ]);
  return [header, ...rows].map((row) => row.map(quoted).join(",")).join("\r\n") + "\r\n";
}

/** A text that no spreadsheet takes for a formula. */
const text = (value) => (/^[=+\-@\t\r]/.test(value) ? `'${value}` : value);

const quoted = (value) => (/[",\r\n]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
