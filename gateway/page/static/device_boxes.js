/** The boxes beside a device's charts: latest values, the ledger as a sum, and the refused readings, in plain words. */

import { el, setText } from "./dom.js";
import { count, moment, problem, reading } from "./format.js";

const OUTCOMES = {
  stored: "in the database",
  duplicate: "sent again, stored only once",
  rejected: "refused, by the gateway or the database",
  dropped: "lost to a full or damaged disk",
  pending: "waiting for the database",
};

/** A box with a heading. */
export function box(title, ...children) {
  return el("section", { class: "box" }, el("h2", {}, title), ...children);
}

/** Further facts about the device, by name. */
export function factsBox() {
  const list = el("dl", { class: "facts" });
  const show = (facts) => {
    const given = Object.entries(facts).filter(([, value]) => value !== null && value !== undefined && value !== "");
    list.replaceChildren(...given.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))]));
  };
  return { node: box("About", list), show };
}

/** Latest values by field; `show` changes only what changed. */
export function valuesBox() {
  const list = el("dl", { class: "values" });
  const shown = new Map();
  const show = (latest, units) => {
    for (const [field, value] of Object.entries(latest)) {
      if (!shown.has(field)) {
        const node = el("dd", {});
        shown.set(field, node);
        list.append(el("dt", {}, field), node);
      }
      setText(shown.get(field), reading(value, units[field]));
    }
  };
  return { node: box("Latest values", list), show };
}

/** received = stored + duplicate + rejected + dropped + pending, as an addition. */
export function ledgerBox() {
  const cells = {};
  const row = (name, note, kind = "") => {
    cells[name] = el("td", {}, "–");
    return el("tr", { class: kind }, el("th", { scope: "row" }, name), el("td", { class: "note" }, note), cells[name]);
  };
  const rows = Object.entries(OUTCOMES).map(([name, note]) => row(name, note));
  const table = el(
    "table",
    { class: "ledger" },
    el("tbody", {}, ...rows, row("received", "the sum of these", "sum"), row("gaps", "message numbers that the device skipped")),
  );
  const show = (ledger) => {
    for (const [name, cell] of Object.entries(cells)) {
      setText(cell, count(ledger[name] ?? 0));
      cell.parentElement.dataset.mood = ["rejected", "dropped"].includes(name) && ledger[name] ? "warn" : "";
    }
  };
  return { node: box("Where its readings are", table), show };
}

/** The last refusals and errors, newest first. */
export function problemsBox() {
  const body = el("tbody", {});
  const head = ["When", "What", "Field", "Reason", "Message", "Times"].map((name) =>
    el("th", { scope: "col" }, name),
  );
  const table = el(
    "div",
    { class: "wide" },
    el("table", { class: "problems" }, el("thead", {}, el("tr", {}, ...head)), body),
  );
  const none = el("p", { class: "calm" }, "No reading of this device was refused since the gateway started.");
  const show = (problems) => {
    table.hidden = problems.length === 0;
    none.hidden = problems.length > 0;
    body.replaceChildren(...problems.toSorted((a, b) => b.at - a.at).map(problemRow));
  };
  return { node: box("Recently refused", none, table), show };
}

function problemRow({ at, code, field, message, seq, count: times }) {
  const cells = [moment(at), problem(code), field || "–", message, seq ?? "–", times > 1 ? `${times} ×` : "once"];
  return el("tr", {}, ...cells.map((text) => el("td", {}, String(text))));
}
