/** "Why is this reading missing?": a form that asks the gateway for the stages a reading went through. */

import { get } from "./api.js";
import { box } from "./device_boxes.js";
import { el } from "./dom.js";
import { moment } from "./format.js";

const LOCAL_MS = 23;

function said(text) {
  return text ? moment(Date.parse(text)) : null;
}

/** @returns {[string, string][]} the stages of one message, in order */
function stages(message) {
  const { arrived, committed, delivered, writes, verdicts, dead_letters: letters, points } = message;
  return [
    ["Message", `${message.seq ?? "without a number"}${message.boot ? ` of boot ${message.boot}` : ""}`],
    ["Arrived", said(arrived)],
    ["On disk", said(committed)],
    ["In the database", delivered ? (said(writes.at(-1)?.ended) ?? "yes; the time was not recorded") : "not yet"],
    ...verdicts.map((verdict) => [
      "Refused",
      `${verdict.field ? `${verdict.field}: ` : ""}${verdict.message ?? verdict.code}`,
    ]),
    ...letters.map((letter) => ["Refused by the database", letter.reason]),
    ...points.map((point) => ["Point", point]),
  ].filter(([, value]) => value);
}

function answered(answer) {
  const database =
    answer.database && el("p", {}, `The database is ${answer.database.state}. ${answer.database.reason ?? ""}`);
  const messages = answer.messages.map((message) =>
    el(
      "dl",
      { class: "stages" },
      ...stages(message).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]),
    ),
  );
  return [el("p", { class: "answer" }, answer.answer), database, ...messages].filter(Boolean);
}

/** The form for device `id`. */
export function whyForm(id) {
  const seq = el("input", { type: "number", min: "0", step: "1", inputmode: "numeric" });
  const boot = el("input", { type: "text", maxlength: "64", autocomplete: "off" });
  const time = el("input", { type: "datetime-local", step: "0.001" });
  const result = el("div", { class: "result", "aria-live": "polite" });
  const ask = async (event) => {
    event.preventDefault();
    const when = time.value && new Date(time.value.slice(0, LOCAL_MS)).toISOString();
    if (!seq.value === !when)
      return result.replaceChildren(el("p", { class: "wrong" }, "Give either a message number or a time."));
    result.replaceChildren(el("p", {}, "Looking…"));
    try {
      const query = seq.value ? { seq: seq.value, boot: boot.value } : { time: when };
      return result.replaceChildren(...answered(await get(`/v1/why/${encodeURIComponent(id)}`, query)));
    } catch (error) {
      return result.replaceChildren(el("p", { class: "wrong" }, error.message));
    }
  };
  return box(
    "Why is this reading missing?",
    el(
      "form",
      { class: "why", onsubmit: ask },
      el("label", {}, "Message number (seq)", seq),
      el("label", {}, "Boot (empty: the newest)", boot),
      el("label", {}, "or the time of the reading (your local time)", time),
      el("button", { type: "submit", class: "main" }, "Search"),
    ),
    result,
  );
}
