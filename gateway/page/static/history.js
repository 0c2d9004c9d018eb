/**
 * Charts of a device: a coarse answer for all at once, then the fine one, then the live tail appended.
 *
 * A request whose answer is no longer needed is cancelled, and with it the query in the gateway. A range is loaded again
 * from time to time, a short one often, because the live feed brings only the newest value of blocks and late readings.
 */

import { get } from "./api.js";
import { now } from "./clock.js";
import { Series } from "./series.js";

const COARSE_FROM_MS = 3_600_000;
const MIN_RELOAD_MS = 10_000;
const RELOAD_SHARE = 60;
/** By then the database has the readings that were on their way at the first load. */
const FIRST_RELOAD_MS = 3_000;
const MAX_REQUESTS = 2;

/** @typedef {{field: string, measurement: string|null, unit: string|undefined, tint: number, label: string, series: Series}} Curve */

export class History {
  #abort = new AbortController();
  #timer = 0;
  /** Counts the loads, so that only the newest plans the next one. */
  #runs = 0;

  /**
   * @param {string} device @param {{chart: import("./chart.js").Chart, curves: Curve[]}[]} panels
   * @param {import("./range.js").Range} range @param {(error: Error|null, busy: boolean) => void} tell
   */
  constructor(device, panels, range, tell) {
    Object.assign(this, { device, panels, range, tell });
  }

  close() {
    this.#abort.abort();
    clearTimeout(this.#timer);
  }

  /** From and to, in ms: a live range ends now. */
  get window() {
    const width = this.range.to - this.range.from;
    return this.range.live ? [now() - width, now()] : [this.range.from, this.range.to];
  }

  async load({ quiet = false } = {}) {
    const { signal } = this.#abort;
    const run = (this.#runs += 1);
    clearTimeout(this.#timer);
    const long = this.range.to - this.range.from > COARSE_FROM_MS;
    if (!quiet) this.tell(null, true);
    try {
      if (long && !quiet) await this.#all({ coarse: 1 });
      await this.#all({});
      this.tell(null, false);
    } catch (error) {
      if (signal.aborted) return;
      this.tell(error, false);
    }
    if (!this.range.live || signal.aborted || run !== this.#runs) return;
    const usual = Math.max(MIN_RELOAD_MS, (this.range.to - this.range.from) / RELOAD_SHARE);
    const pause = run === 1 ? FIRST_RELOAD_MS : usual;
    this.#timer = setTimeout(() => this.load({ quiet: true }), pause);
  }

  async #all(extra) {
    const waiting = [...this.panels];
    const worker = async () => {
      for (let panel = waiting.shift(); panel; panel = waiting.shift()) await this.#panel(panel, extra);
    };
    await Promise.all(Array.from({ length: MAX_REQUESTS }, worker));
  }

  async #panel({ chart, curves }, extra) {
    const [from, to] = this.window.map(Math.round);
    const { points } = chart;
    for (const curve of curves) {
      const query = {
        device: this.device,
        field: curve.field,
        measurement: curve.measurement,
        from,
        to,
        points,
        ...extra,
      };
      const answer = await get("/v1/query", query, this.#abort.signal);
      const fresh = new Series(answer, (to - from) / points);
      if (this.range.live) fresh.keep(curve.series);
      curve.series = fresh;
    }
    if (!this.#abort.signal.aborted) chart.show(curves, this.window);
  }

  /** Append what the device sent just now: an entry of an event `readings`. */
  append({ last_data: came, time = came, times = {}, latest }) {
    if (!this.range.live) return;
    for (const { curves } of this.panels)
      for (const curve of curves) {
        const at = Object.hasOwn(times, curve.field) ? times[curve.field] : time;
        const value = latest[curve.field];
        if (typeof value === "number" || typeof value === "boolean") curve.series.append(at, Number(value));
      }
    this.slide();
  }

  /** Move a live range up to now. */
  slide() {
    if (this.range.live && !this.#abort.signal.aborted) for (const { chart } of this.panels) chart.update(this.window);
  }
}
