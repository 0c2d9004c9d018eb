/** The figures on top: devices, rates, acknowledgements, spool, database, dead letters. A new figure never changes the size of its tile. */

import { el, setText } from "./dom.js";
import { bytes, count, latency, rate, roughly } from "./format.js";

const DATABASE = { delivering: "delivering", retrying: "not answering", held: "needs attention" };

/** @returns {[string, string, string][]} per tile: value, note, and good, warn or bad */
function figures(totals) {
  const { devices, spool, database, ack_ms: ack, dead_letters: dead } = totals;
  const full = spool.max_bytes ? spool.bytes / spool.max_bytes : 0;
  const room =
    spool.room_seconds === null ? "no readings arriving" : `holds ${roughly(spool.room_seconds)} at this rate`;
  return [
    [count(devices.connected), `of ${count(devices.known)} known`, ""],
    [rate(totals.readings_per_second), `in ${rate(totals.messages_per_second)} messages`, ""],
    [ack ? latency(ack.p50) : "–", ack ? `99 % within ${latency(ack.p99)}` : "nothing acknowledged lately", ""],
    [bytes(spool.bytes), room, full > 0.9 ? "bad" : full > 0.5 ? "warn" : ""],
    [
      DATABASE[database.state] ?? database.state,
      database.reason || database.name,
      database.state === "delivering" ? "good" : "bad",
    ],
    [count(dead), dead ? "see the reasons" : "no reading refused", dead ? "warn" : ""],
  ];
}

const LETTERS = "Dead letters";
const NAMES = ["Devices connected", "Readings", "Acknowledged in", "Spool", "Database", LETTERS];

/** The strip, and a function that shows new totals in it. */
export function totalsStrip() {
  const tiles = NAMES.map((name) => {
    const value = el("span", { class: "figure" }, "–");
    const note =
      name === LETTERS
        ? el("a", { class: "note", href: "#/health" }, "\u00a0")
        : el("span", { class: "note" }, "\u00a0");
    const node = el("div", { class: "tile", "data-name": name }, el("dt", {}, name), el("dd", {}, value, note));
    return { node, value, note };
  });
  const node = el("dl", { class: "totals", "aria-label": "The gateway now" }, ...tiles.map((tile) => tile.node));
  const show = (totals) => {
    figures(totals).forEach(([value, note, mood], position) => {
      const tile = tiles[position];
      setText(tile.value, value);
      setText(tile.note, note);
      tile.note.title = note;
      tile.node.dataset.mood = mood;
    });
  };
  return { node, show };
}
