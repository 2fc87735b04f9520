// The page: pictures come in, are sent, and are shown with what the service says of them.

import { fill, newCard } from "./cards.js";
import { chosen, dropped, isPicture } from "./gather.js";
import { bar, byId, capital, make, many } from "./make.js";
import { ask, sendAll } from "./send.js";
import { csvOf, ordered, shown } from "./table.js";

const entries = [];
const choice = { show: "all", sort: "added", find: "", label: "" };
let model = null;
let token = "";
let generation = 0;
let pending = Promise.resolve();
let drawing = 0;

const say = (sentence) => (byId("status").textContent = sentence);

async function meet() {
  for (;;) {
    try {
      model = await ask("/v1/model", { token });
      break;
    } catch (refused) {
      if (refused.status === 401) {
        await askToken();
        continue;
      }
      byId("about").textContent = capital(refused.message);
      return;
    }
  }
  byId("about").textContent =
    `The model ${model.name} (${model.sha256.slice(0, 12)}) tells ${many(model.classes.length, "cell")} apart: ` +
    `${model.classes.join(", ")}. What is none of them gets one of their names all the same.`;
  byId("heat").disabled = !model.heatmap;
  if (!model.heatmap) byId("heat").closest("label").title = "This model gives no heat maps.";
}

/** Shows the field for the token until one is given. */
let asking = null;
function askToken() {
  asking ??= new Promise((done) => {
    byId("token-form").hidden = false;
    byId("token").focus();
    say("This service asks for a token.");
    byId("token-form").onsubmit = (event) => {
      event.preventDefault();
      token = byId("token").value.trim();
      byId("token").value = "";
      byId("token-form").hidden = true;
      asking = null;
      done();
    };
  });
  return asking;
}

function add(found) {
  if (!model) {
    meeting.then(() => model && add(found));
    return;
  }
  const pictures = found.filter(({ file }) => isPicture(file));
  const passed = found.length - pictures.length;
  const over = many(passed, "file that is no picture was", "files that are no pictures were");
  say(`${many(pictures.length, "picture")} added.${passed ? ` ${over} passed over.` : ""}`);
  const fresh = pictures.map(({ file, name }) => {
    const entry = { file, name, number: entries.length, answer: null, address: URL.createObjectURL(file), sides: null };
    entry.card = newCard(entry);
    entries.push(entry);
    return entry;
  });
  if (!fresh.length) {
    progressWords(found.length ? "None of these files is a picture." : "");
    return;
  }
  byId("results").hidden = false;
  redraw();
  send(fresh);
}

/** Sends some entries after those that are under way. */
function send(some) {
  const mine = generation;
  for (const entry of some) entry.waiting = true;
  redraw();
  pending = pending.then(async () => {
    const large = some.filter((entry) => entry.file.size > model.limits.bytes_each);
    for (const entry of large) tell(entry, { error: "the file is larger than the service takes; cut the cell out first." });
    await sendAll(
      some.filter((entry) => !large.includes(entry)),
      {
        limits: model.limits,
        heatmap: byId("heat").checked && model.heatmap,
        token: () => token,
        told: tell,
        busy: (seconds) => progressWords(`The service is busy; trying again in ${seconds} s …`),
        locked: askToken,
        stopped: () => mine !== generation,
      },
    );
    if (mine === generation) say(`${many(entries.filter((entry) => entry.answer).length, "picture")} answered.`);
  });
}

function tell(entry, answer) {
  entry.answer = answer;
  entry.waiting = false;
  fill(entry, model.crop);
  redraw();
}

/** Draws at most once a frame, however many answers come. */
function redraw() {
  drawing ||= requestAnimationFrame(() => {
    drawing = 0;
    draw();
  });
}

function draw() {
  const done = entries.filter((entry) => !entry.waiting).length;
  byId("progress").hidden = !entries.length;
  byId("progress-bar").max = Math.max(entries.length, 1);
  byId("progress-bar").value = done;
  if (done < entries.length || entries.length) progressWords(`${done} of ${entries.length} answered`);
  byId("again").hidden = !entries.some((entry) => !entry.waiting && entry.answer?.retry);
  drawSummary();
  const visible = ordered(entries, choice.sort).filter((entry) => shown(entry, choice));
  byId("count").textContent =
    visible.length === entries.length ? many(entries.length, "picture") : `${visible.length} of ${many(entries.length, "picture")}`;
  place(visible.map((entry) => entry.card.element));
}

/** Puts the cards in order, and touches only those that stand in another place, so that focus and scrolling stay. */
function place(wanted) {
  const list = byId("cards");
  const keep = new Set(wanted);
  for (const card of [...list.children]) if (!keep.has(card)) card.remove();
  wanted.forEach((card, at) => {
    if (list.children[at] !== card) list.insertBefore(card, list.children[at] ?? null);
  });
}

function drawSummary() {
  const answered = entries.filter((entry) => entry.answer && !entry.answer.error);
  const focused = document.activeElement?.dataset?.label;
  const rows = model.classes.map((label) => {
    const of = answered.filter((entry) => entry.answer.label === label);
    const doubted = of.filter((entry) => !entry.answer.trust).length;
    const words = doubted ? `${of.length}, ${doubted} not to trust` : `${of.length}`;
    return make(
      "button",
      {
        type: "button",
        "data-label": label,
        "aria-pressed": String(choice.label === label),
        onclick: () => {
          choice.label = choice.label === label ? "" : label;
          draw();
        },
      },
      make("span", {}, capital(label)),
      make("span", { class: "quiet" }, words),
      bar(answered.length ? of.length / answered.length : 0),
    );
  });
  byId("summary").replaceChildren(...rows);
  rows.find((row) => row.dataset.label === focused)?.focus();
}

const progressWords = (words) => {
  byId("progress").hidden = !words;
  byId("progress-words").textContent = words;
};

function download() {
  const file = new Blob([csvOf(ordered(entries, "added"), model.classes)], { type: "text/csv" });
  const link = make("a", { href: URL.createObjectURL(file), download: "predictions.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function clear() {
  generation += 1;
  for (const entry of entries) URL.revokeObjectURL(entry.address);
  entries.length = 0;
  choice.label = "";
  byId("results").hidden = true;
  byId("cards").replaceChildren();
  progressWords("");
  say("All pictures were taken away.");
  byId("pick").focus();
}

function wire() {
  const drop = byId("drop");
  // The whole page takes a drop, as a picture beside the field would else be opened in place of the page.
  addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) drop.classList.remove("over");
  });
  addEventListener("drop", async (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    add(await dropped(event.dataTransfer));
  });
  addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) add(chosen(event.clipboardData.files));
  });
  for (const [button, input] of [["pick", "files"], ["pick-folder", "folder"]]) {
    byId(button).addEventListener("click", () => byId(input).click());
    byId(input).addEventListener("change", () => {
      add(chosen(byId(input).files).filter(({ name }) => !name.split("/").some((part) => part.startsWith("."))));
      byId(input).value = "";
    });
  }
  byId("show").addEventListener("change", (event) => update({ show: event.target.value }));
  byId("sort").addEventListener("change", (event) => update({ sort: event.target.value }));
  byId("find").addEventListener("input", (event) => update({ find: event.target.value }));
  byId("heat").addEventListener("change", toggleHeat);
  byId("csv").addEventListener("click", download);
  byId("clear").addEventListener("click", clear);
  byId("again").addEventListener("click", () => send(entries.filter((entry) => entry.answer?.retry)));
}

function update(change) {
  Object.assign(choice, change);
  draw();
}

/** Heat maps are asked for when they are wanted first, and only hidden after that. */
function toggleHeat() {
  const on = byId("heat").checked;
  byId("cards").classList.toggle("cold", !on);
  const lacking = entries.filter((entry) => entry.answer && !entry.answer.error && !entry.answer.heatmap && !entry.waiting);
  if (on && lacking.length) send(lacking);
}

wire();
const meeting = meet();
