/** The gateway's own health: whether it accepts readings and what is wrong, its figures over time, and dead letters. */

import { get } from "./api.js";
import { Chart } from "./chart.js";
import { now } from "./clock.js";
import { el, placeholder, setText } from "./dom.js";
import { deadLetters } from "./dead_letters.js";
import { live } from "./live.js";
import { SPANS } from "./range.js";
import { Series } from "./series.js";
import { totalsStrip } from "./totals.js";

const MIB = 1024 ** 2;
const CHOICES = ["5m", "1h", "24h"];
/** Columns of /v1/status/history in each chart: name, legend, divisor. */
const PANELS = [
  [
    "Readings and messages",
    "/s",
    [
      ["readings_per_second", "readings", 1],
      ["messages_per_second", "messages", 1],
    ],
  ],
  [
    "Time to acknowledge",
    "ms",
    [
      ["ack_p50_ms", "median", 1],
      ["ack_p99_ms", "99 %", 1],
    ],
  ],
  ["Event loop delay", "ms", [["loop_lag_ms", "delay", 1]]],
  ["Time of a database write", "ms", [["write_p50_ms", "median", 1]]],
  ["Spool", "MiB", [["spool_bytes", "on disk", MIB]]],
  ["Readings waiting for the database", "", [["pending", "waiting", 1]]],
  ["Devices connected", "", [["connected", "connected", 1]]],
];

function seriesOf(history, column, divisor) {
  const { interval_ms: interval, start, columns } = history;
  const points = (start === null ? [] : (columns[column] ?? [])).flatMap((value, index) => {
    const scaled = value / divisor;
    return value === null ? [] : [{ time: start + index * interval, min: scaled, mean: scaled, max: scaled, count: 1 }];
  });
  return new Series({ points, resolution_ms: interval });
}

class Health {
  #abort = new AbortController();
  #span = "1h";
  /** Timer of the next refresh. */
  #loading = 0;
  /** Counts the refreshes, so that only the newest plans the next one. */
  #runs = 0;
  #totals = totalsStrip();
  #reasons = el("div", { class: "reasons", role: "status" });
  #spans = el("div", { class: "spans" });
  #progress = el("p", { class: "progress", role: "status" });
  #charts = PANELS.map(
    ([title, unit]) =>
      new Chart({ title: unit ? `${title} (${unit})` : title, height: 140, sync: "health", zero: true }),
  );

  constructor(root, session) {
    const grid = el("div", { class: "charts grid" }, ...this.#charts.map((chart) => chart.node));
    this.deadLetters = deadLetters(session.role === "admin");
    root.append(
      el("h1", {}, "Health"),
      this.#totals.node,
      this.#reasons,
      el("div", { class: "ranges", role: "group", "aria-label": "Time range" }, this.#spans, this.#progress),
      grid,
      this.deadLetters.node,
    );
    this.#choices();
    const { signal } = this.#abort;
    live.addEventListener("resync", () => this.#refresh(), { signal });
    live.addEventListener("totals", (event) => this.#totals.show(event.detail), { signal });
    live.follow({ readings: false });
  }

  close() {
    this.#abort.abort();
    clearTimeout(this.#loading);
    this.#charts.forEach((chart) => chart.close());
  }

  #choices() {
    const choose = (span) => () => {
      this.#span = span;
      this.#choices();
      this.#refresh();
    };
    const button = (span) =>
      el(
        "button",
        { type: "button", "aria-pressed": String(span === this.#span), onclick: choose(span) },
        SPANS[span][1],
      );
    this.#spans.replaceChildren(...CHOICES.map(button));
  }

  /** Load what the charts and the sentences show, and again with every new interval. */
  async #refresh() {
    clearTimeout(this.#loading);
    const run = (this.#runs += 1);
    const { signal } = this.#abort;
    let pause = 5000;
    try {
      const seconds = SPANS[this.#span][0] / 1000;
      const [status, history] = await Promise.all([
        get("/v1/status", {}, signal),
        get("/v1/status/history", { seconds }, signal),
      ]);
      this.#totals.show(status);
      this.#showReasons(status);
      this.#draw(history);
      pause = history.interval_ms;
      setText(this.#progress, "\u00a0");
    } catch (error) {
      if (signal.aborted) return;
      setText(this.#progress, `The figures could not be loaded: ${error.message}`);
    }
    if (!signal.aborted && run === this.#runs) this.#loading = setTimeout(() => this.#refresh(), pause);
  }

  #draw(history) {
    const end = now();
    const range = [end - SPANS[this.#span][0], end];
    PANELS.forEach(([, unit, curves], position) => {
      const shown = curves.map(([column, label, divisor], index) => ({
        label,
        unit,
        digits: 3,
        tint: index + 1,
        series: seriesOf(history, column, divisor),
      }));
      this.#charts[position].show(shown, range);
    });
  }

  #showReasons({ reasons = [] }) {
    const key = reasons.join("\n");
    if (this.#reasons.dataset.key === key) return;
    this.#reasons.dataset.key = key;
    const fine = el(
      "p",
      { class: "fine" },
      el("span", { class: "mark live", "aria-hidden": "true" }),
      "Readings are accepted and delivered; nothing needs attention.",
    );
    const list = el("ul", { class: "attention" }, ...reasons.map((reason) => el("li", {}, String(reason))));
    this.#reasons.replaceChildren(reasons.length ? list : fine);
  }
}

/** Show health in `root`. */
export function mount(root, { session }) {
  if (!window.uPlot)
    root.append(
      placeholder("error", "Charts cannot be drawn.", "The chart library was not installed with the gateway."),
    );
  return new Health(root, session);
}
