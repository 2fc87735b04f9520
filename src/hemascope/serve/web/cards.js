// A card for each picture: what it shows, how sure that is, and whether to believe it.

import { bar, capital, make, percent } from "./make.js";

/** The card of an entry that was not answered yet: {element, picture}. */
export function newCard(entry) {
  const image = make("img", { src: entry.address, alt: "", loading: "lazy", decoding: "async" });
  const frame = make("div", { class: "picture" }, image);
  image.addEventListener("error", () => image.replaceWith("no preview of this kind of file"));
  image.addEventListener("load", () => (entry.sides = [image.naturalWidth, image.naturalHeight]));
  const words = make("div", {}, make("h3", {}, "…"), make("p", { class: "name", title: entry.name }, entry.name));
  const element = make("li", { class: "cell" }, make("div", { class: "top" }, frame, words));
  return { element, frame, image };
}

/** Fill a card with what the service says. */
export function fill(entry, crop) {
  const { element, frame, image } = entry.card;
  const answer = entry.answer;
  element.querySelectorAll(":scope > :not(.top)").forEach((part) => part.remove());
  frame.querySelectorAll(".heat").forEach((part) => part.remove());
  element.classList.toggle("failed", Boolean(answer.error));
  element.classList.toggle("doubted", answer.trust === false);
  const title = element.querySelector("h3");
  if (answer.error) {
    title.textContent = "Not answered";
    element.append(make("p", { class: "doubt" }, make("b", {}, "Cannot be answered"), capital(answer.error)));
    return;
  }
  title.textContent = capital(answer.label);
  image.alt = `${entry.name}: ${answer.label}`;
  if (answer.trust === false) {
    const why = answer.why.map((reason) => make("span", {}, sentence(reason), " "));
    element.append(make("p", { class: "doubt" }, make("b", {}, "Do not trust this answer"), ...why));
  }
  const bars = make("dl", { class: "bars" });
  for (const [name, share] of Object.entries(answer.probabilities)) {
    const most = name === answer.label ? "most" : "";
    bars.append(make("dt", { class: most }, capital(name)), bar(share), make("dd", { class: most }, percent(share)));
  }
  element.append(bars);
  if (answer.outlier_score !== null) {
    element.append(make("p", { class: "foot" }, `Outlier score ${answer.outlier_score.toFixed(2)}`));
  }
  if (answer.heatmap) frame.append(heat(entry, answer.heatmap, crop));
}

/** Where the answer comes from, laid over the part of the picture that the model saw. */
function heat(entry, address, crop) {
  const over = make("div", { class: "heat", title: "Where the answer comes from" });
  over.style.maskImage = `url("${address}")`;
  if (crop && entry.sides) {
    const margin = Math.max(0, (1 - crop / Math.min(...entry.sides)) / 2);
    over.style.inset = `${(100 * margin).toFixed(2)}%`;
  }
  return over;
}

/** A reason without its kind, which is for programs. */
export const sentence = (reason) => capital(reason.includes(": ") ? reason.slice(reason.indexOf(": ") + 2) : reason);
