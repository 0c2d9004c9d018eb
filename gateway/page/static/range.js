/**
 * The time range of a view: a span that ends now and moves with the clock, or from one moment to another.
 * It is kept in the address (`?range=1h`, `?from=..&to=..`), so Back undoes a zoom and a link shows the same to others.
 */

import { now } from "./clock.js";
import { el } from "./dom.js";
import { duration, time } from "./format.js";

const HOUR_MS = 3_600_000;
const MIN_RANGE_MS = 2_000;
export const SPANS = {
  "5m": [300_000, "5 min"],
  "15m": [900_000, "15 min"],
  "1h": [HOUR_MS, "1 h"],
  "6h": [6 * HOUR_MS, "6 h"],
  "24h": [24 * HOUR_MS, "24 h"],
  "7d": [168 * HOUR_MS, "7 d"],
  "30d": [720 * HOUR_MS, "30 d"],
};

/** @typedef {{span: string|null, from: number, to: number, live: boolean}} Range */

/** @returns {Range} what the address says; a span ends now */
export function rangeOf(query, fallback = "15m") {
  const [from, to] = [Number(query.get("from")), Number(query.get("to"))];
  if (from > 0 && to >= from + MIN_RANGE_MS) return { span: null, from, to, live: false };
  const span = Object.hasOwn(SPANS, query.get("range")) ? query.get("range") : fallback;
  const end = now();
  return { span, from: end - SPANS[span][0], to: end, live: true };
}

function local(ms) {
  const offset = new Date(ms).getTimezoneOffset() * 60_000;
  return new Date(ms - offset).toISOString().slice(0, 19);
}

/** Buttons for the spans, a picker, one step back and forth. `go` gets the query of the new address. */
export function rangeBar(range, go, spans = Object.keys(SPANS)) {
  const span = (name) =>
    el(
      "button",
      { type: "button", "aria-pressed": String(range.span === name), onclick: () => go({ range: name }) },
      SPANS[name][1],
    );
  const width = range.to - range.from;
  const shift = (sign) =>
    go({ from: Math.round(range.from + (sign * width) / 2), to: Math.round(range.to + (sign * width) / 2) });
  const wider = () =>
    go({ from: Math.round(range.from - width / 2), to: Math.round(Math.min(now(), range.to + width / 2)) });
  const step = (label, text, run, off = false) =>
    el(
      "button",
      { type: "button", class: "step", "aria-label": label, title: label, disabled: off, onclick: run },
      text,
    );
  return el(
    "div",
    { class: "range", role: "group", "aria-label": "Time range" },
    el("div", { class: "spans" }, ...spans.map(span)),
    el(
      "div",
      { class: "steps" },
      step("Earlier", "‹", () => shift(-1)),
      step("Wider", "−", wider),
      step("Later", "›", () => shift(1), range.live),
    ),
    picker(range, go),
  );
}

function picker(range, go) {
  const field = (label, value) =>
    el("label", {}, label, el("input", { type: "datetime-local", step: "1", value: local(value), required: true }));
  const from = field("From", range.from);
  const to = field("To", range.to);
  const wrong = el("p", { class: "wrong", role: "alert" });
  const apply = (event) => {
    event.preventDefault();
    const [start, end] = [from, to].map((label) => new Date(label.lastElementChild.value).getTime());
    if (end >= start + MIN_RANGE_MS) go({ from: start, to: end });
    else wrong.textContent = "The end has to come after the start.";
  };
  const title = range.live
    ? "Custom…"
    : `${time(range.from)} to ${time(range.to)} (${duration((range.to - range.from) / 1000)})`;
  const closed = (event) => {
    if (event.key === "Escape") event.currentTarget.open = false;
  };
  return el(
    "details",
    { class: "picker", onkeydown: closed },
    el("summary", { "aria-current": range.live ? null : "true" }, title),
    el("form", { onsubmit: apply }, from, to, wrong, el("button", { type: "submit", class: "main" }, "Show")),
  );
}
