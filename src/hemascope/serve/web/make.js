// Elements of the page, made without markup in strings, so that no file name can become markup.

/** An element. of: properties; "class", "data-..." and "aria-..." become attributes. inner: texts and elements. */
export function make(tag, of = {}, ...inner) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(of)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class" || name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...inner.filter((part) => part !== null && part !== undefined));
  return element;
}

/** A bar that is filled to a share of 0 to 1. */
export function bar(share) {
  const fill = make("span", { class: "fill" });
  fill.style.width = `${(100 * share).toFixed(1)}%`;
  return make("span", { class: "track", "aria-hidden": "true" }, fill);
}

export const percent = (share) => `${(100 * share).toFixed(share > 0.9995 || share < 0.0005 ? 0 : 1)}%`;
export const many = (count, one, more = `${one}s`) => `${count} ${count === 1 ? one : more}`;
export const byId = (id) => document.getElementById(id);
export const capital = (word) => word.charAt(0).toUpperCase() + word.slice(1);
