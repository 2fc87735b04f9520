// The review page: one finding at a time, decided by keys; and a spot check with its interval.

import { byId, capital, make } from "./make.js";
import { ask } from "./send.js";

const ISSUES = {
  not_a_cell: ["No cells", "Is this a cell?"],
  exact_copy: ["Exact copies", "The same pixels in several rows"],
  near_copy: ["Near copies", "Is this the same cell?"],
  leak: ["Leaks", "It stands on another side, too"],
  label_suspect: ["Suspect labels", "Is the label right?"],
  outlier: ["Outliers", "Does this belong here?"],
};
const digit = (at) => String(at + 1);

let about = null;
let tab = "findings";
let item = 0;
let picture = 0;
let spotAt = 0;

const change = async (address, content = {}) => {
  try {
    const headers = { "Content-Type": "application/json", "X-Hemascope-Review": "1" };
    const answer = await ask(address, { method: "POST", headers, body: JSON.stringify(content) });
    byId("trouble").hidden = true;
    Object.assign(about, { decisions: answer.decisions, spot: answer.spot });
    return answer;
  } catch (refused) {
    byId("trouble").hidden = false;
    byId("trouble").textContent = `Not saved: ${refused.message}`;
    return null;
  }
};
const say = (sentence) => (byId("status").textContent = sentence);
const pictureAddress = (row) => `/v1/review/pictures/${row}`;
const isDecided = (one) => one.pictures.every(({ key }) => about.decisions[key]);

// findings

const chosenItems = () =>
  about.items
    .map((one, place) => ({ one, place }))
    .filter(({ one }) => !byId("issue").value || one.issue === byId("issue").value)
    .filter(({ one, place }) => !byId("undecided").checked || place === item || !isDecided(one));

function drawFindings() {
  const some = chosenItems();
  if (!some.some(({ place }) => place === item)) {
    item = some[0]?.place ?? item;
    picture = 0;
  }
  const at = some.findIndex(({ place }) => place === item);
  const done = about.items.filter(isDecided).length;
  byId("decided-bar").max = about.items.length || 1;
  byId("decided-bar").value = done;
  const one = at < 0 ? null : about.items[item];
  byId("place").textContent = `${at + 1} of ${some.length} shown, ${done} of ${about.items.length} decided`;
  byId("what").textContent = one ? ISSUES[one.issue][1] : "Nothing is left to decide here";
  byId("sides").replaceChildren(...(one ? one.pictures.map(side) : []));
  byId("acts").hidden = !one;
  if (one) byId("acts").replaceChildren(...actions(one.pictures[picture]));
}

function side(one, at) {
  const made = about.decisions[one.key];
  const words = made && (made.decision === "relabel" ? `relabel: ${made.label}` : made.decision);
  return make(
    "button",
    {
      type: "button",
      class: "side",
      "aria-current": String(at === picture),
      onclick: () => {
        picture = at;
        drawFindings();
      },
    },
    make("img", { src: pictureAddress(one.row), alt: `Picture ${at + 1}` }),
    make("b", {}, one.labels.map(capital).join(" / ")),
    one.suggested ? make("span", {}, `looks like ${one.suggested}`) : null,
    make("span", {}, one.rows > 1 ? `${one.rows} rows: ${one.ids.join(", ")}${one.rows > one.ids.length ? ", …" : ""}` : one.ids[0]),
    one.reason ? make("span", {}, capital(one.reason)) : null,
    make("span", {}, `Advice: ${one.advice}`),
    words ? make("span", { class: `made ${made.decision === "drop" ? "drop-it" : ""}` }, words) : null,
  );
}

function actions(one) {
  const act = (key, words, run) => make("button", { type: "button", class: "button", onclick: run }, make("kbd", {}, key), words);
  return [
    act("K", "Keep", () => decide("keep")),
    act("D", "Drop", () => decide("drop")),
    one.suggested ? act("S", `Relabel as suggested: ${one.suggested}`, () => decide("relabel", one.suggested)) : null,
    ...about.classes.map((label, at) => act(digit(at), capital(label), () => decide("relabel", label))),
    act("U", "Undo", undo),
    act("←", "Before", () => step(-1)),
    act("→", "Next", () => step(1)),
  ].filter(Boolean);
}

async function decide(decision, label = "") {
  const one = about.items[item]?.pictures[picture];
  if (!one || !(await change("/v1/review/decisions", { key: one.key, decision, label }))) return;
  say(`${decision} ${label}: saved.`);
  if (picture + 1 < about.items[item].pictures.length) {
    picture += 1;
    drawFindings();
  } else {
    step(1);
  }
}

async function undo() {
  const answer = await change("/v1/review/undo");
  if (!answer) return;
  if (!answer.key) {
    say("Nothing to undo.");
    return;
  }
  const place = about.items.findIndex((one) => one.pictures.some(({ key }) => key === answer.key));
  if (place >= 0) {
    item = place;
    picture = about.items[place].pictures.findIndex(({ key }) => key === answer.key);
  }
  say("Taken back.");
  drawFindings();
}

function step(by) {
  const some = chosenItems();
  const at = some.findIndex(({ place }) => place === item);
  const next = some[Math.min(Math.max(at + by, 0), some.length - 1)];
  if (next && next.place !== item) {
    item = next.place;
    picture = 0;
  }
  drawFindings();
}

// spot check

function drawSpot() {
  const { pictures, result } = about.spot;
  const one = pictures[spotAt];
  byId("spot-bar").max = pictures.length;
  byId("spot-bar").value = result.checked;
  byId("spot-place").textContent = `${spotAt + 1} of ${pictures.length}, ${result.checked} named`;
  byId("spot-picture").replaceChildren(
    make("img", { src: pictureAddress(one.row), alt: "The picture to name" }),
    make("b", {}, one.named ? `You: ${one.named}` : "Not named yet"),
  );
  const name = (key, words, run) => make("button", { type: "button", class: "button", onclick: run }, make("kbd", {}, key), words);
  byId("names").replaceChildren(
    ...about.classes.map((label, at) => name(digit(at), capital(label), () => nameIt(label))),
    name("U", "Undo", undoSpot),
    name("←", "Before", () => stepSpot(-1)),
    name("→", "Next", () => stepSpot(1)),
  );
  const share = (value) => `${(100 * value).toFixed(1)}%`;
  byId("spot-result").replaceChildren(
    ...(result.checked
      ? [
          make("b", {}, share(result.agreed / result.checked)),
          ` agree: ${result.agreed} of ${result.checked} (95% interval ${share(result.low)} to ${share(result.high)}, exact).`,
        ]
      : ["Name the first picture; what it is labelled is not shown before."]),
  );
  const differing = pictures.filter((other) => other.named && other.named !== other.label);
  byId("disagreed").replaceChildren(
    ...(differing.length && result.checked === pictures.length
      ? [
          make("h2", {}, "Where you disagree"),
          make(
            "div",
            { class: "sides" },
            ...differing.map((other) =>
              make(
                "div",
                { class: "side" },
                make("img", { src: pictureAddress(other.row), alt: "" }),
                make("b", {}, `You: ${other.named}`),
                make("span", {}, `Labelled: ${other.label}`),
              ),
            ),
          ),
        ]
      : []),
  );
}

let spotHistory = [];
async function nameIt(label) {
  const { key, named } = about.spot.pictures[spotAt];
  if (!(await change("/v1/review/spot", { key, label }))) return;
  spotHistory.push({ at: spotAt, named });
  say(`${label}: saved.`);
  stepSpot(1);
}

async function undoSpot() {
  const last = spotHistory.pop();
  if (!last) {
    say("Nothing to undo.");
    return;
  }
  const { key } = about.spot.pictures[last.at];
  if (!(await change("/v1/review/spot", { key, label: last.named }))) {
    spotHistory.push(last);
    return;
  }
  spotAt = last.at;
  say("Taken back.");
  drawSpot();
}

function stepSpot(by) {
  spotAt = Math.min(Math.max(spotAt + by, 0), about.spot.pictures.length - 1);
  drawSpot();
}

// both

function show(name) {
  tab = name;
  for (const other of ["findings", "spot"]) {
    byId(other).hidden = other !== name;
    byId(`tab-${other}`).setAttribute("aria-selected", String(other === name));
    byId(`tab-${other}`).tabIndex = other === name ? 0 : -1;
  }
  if (name === "findings") drawFindings();
  else drawSpot();
}

let saving = Promise.resolve();
addEventListener("keydown", (event) => {
  if (!about || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select, input[type=search]")) return;
  const key = event.key.toLowerCase();
  const label = about.classes[Number(key) - 1];
  const one = about.items[item]?.pictures[picture];
  const findings = {
    k: () => decide("keep"),
    d: () => decide("drop"),
    s: () => one?.suggested && decide("relabel", one.suggested),
    u: undo,
    arrowleft: () => step(-1),
    arrowright: () => step(1),
    arrowup: () => ((picture = Math.max(0, picture - 1)), drawFindings()),
    arrowdown: () => ((picture = Math.min(about.items[item].pictures.length - 1, picture + 1)), drawFindings()),
  };
  const spot = { u: undoSpot, arrowleft: () => stepSpot(-1), arrowright: () => stepSpot(1) };
  if (event.target.getAttribute("role") === "tab" && key.startsWith("arrow")) {
    const other = tab === "findings" ? "spot" : "findings";
    if (!byId(`tab-${other}`).hidden) {
      show(other);
      byId(`tab-${other}`).focus();
    }
    return;
  }
  const run = label ? () => (tab === "findings" ? decide("relabel", label) : nameIt(label)) : (tab === "findings" ? findings : spot)[key];
  if (!run || (tab === "findings" && !about.items.length)) return;
  event.preventDefault();
  // One after the other, so that a fast hand decides on the pictures that it saw.
  saving = saving.then(run);
});

async function open() {
  try {
    about = await ask("/v1/review");
  } catch (refused) {
    byId("about").textContent = capital(refused.message);
    return;
  }
  const files = [about.file, about.spot_file].filter(Boolean).join(" and ");
  byId("about").textContent = `${about.source}. Every decision goes to ${files} at once.`;
  byId("issue").append(make("option", { value: "" }, `everything (${about.items.length})`));
  for (const [issue, [title]] of Object.entries(ISSUES)) {
    const count = about.items.filter((one) => one.issue === issue).length;
    if (count) byId("issue").append(make("option", { value: issue }, `${title} (${count})`));
  }
  byId("tab-findings").hidden = about.file === null;
  byId("tab-spot").hidden = about.spot === null;
  for (const name of ["findings", "spot"]) byId(`tab-${name}`).addEventListener("click", () => show(name));
  byId("issue").addEventListener("change", drawFindings);
  byId("undecided").addEventListener("change", drawFindings);
  // Go on where it was left.
  item = Math.max(0, about.items.findIndex((one) => !isDecided(one)));
  spotAt = Math.max(0, (about.spot?.pictures ?? []).findIndex((one) => !one.named));
  show(about.file === null ? "spot" : "findings");
}

open();
