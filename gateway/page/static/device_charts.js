/** The charts of a device: which fields are drawn, over which range, kept while the view shows something else. */

import { get } from "./api.js";
import { Chart } from "./chart.js";
import { el, placeholder, setAttribute, setText } from "./dom.js";
import { History } from "./history.js";
import { panelsOf } from "./panels.js";
import { rangeBar, rangeOf } from "./range.js";

/** Fields drawn at first: a device may have hundreds. */
const MAX_FIELDS = 24;
const PRESENCE = "device_status";

export class DeviceCharts {
  #charts = el("div", { class: "charts" });
  #progress = el("p", { class: "progress", role: "status" });
  #none = placeholder("empty", "Nothing to draw.", "This device has sent no numbers in this range.");
  #bar = el("div", {});
  /** Loads the range that is shown; null while paused. */
  #history = null;
  /** Each chart with its curves; null before `load()`. */
  #panels = null;
  nodes;

  /** @param {string} id @param {(query: object) => void} choose goes to another range */
  constructor(id, choose) {
    Object.assign(this, { id, choose });
    this.nodes = [el("div", { class: "ranges" }, this.#bar, this.#progress), this.#charts];
  }

  /** Find the fields and make their charts. @param {{latest: object, units?: object}} device @param {AbortSignal} signal */
  async load(device, signal) {
    this.#draw(await this.#series(device, signal));
  }

  /**
   * The fields that can be drawn, those that the device has sent lately first. A database may know a measurement's
   * fields only, not which device sent them: charts of such fields are optional.
   */
  async #series({ latest, units = {} }, signal) {
    const { series } = await get("/v1/series", { device: this.id }, signal).catch((error) => {
      if (error.status === 401) throw error;
      return { series: [] }; // the database does not answer: use the fields of the latest values
    });
    const stored = series.filter((each) => each.type !== "string" && each.measurement !== PRESENCE);
    const names = new Set(stored.map((each) => each.field));
    const fresh = Object.keys(latest).filter((field) => typeof latest[field] !== "string" && !names.has(field));
    return [
      ...stored,
      ...fresh.map((field) => ({ field, unit: Object.hasOwn(units, field) ? units[field] : undefined })),
    ]
      .map((each) => ({ ...each, known: each.field in latest }))
      .sort((a, b) => b.known - a.known);
  }

  #draw(series, most = MAX_FIELDS) {
    this.close();
    const drawn = series.slice(0, most);
    const onZoom = (from, to) => this.choose({ from, to });
    this.#panels = panelsOf(drawn).map(({ title, curves, optional }) => ({
      curves,
      chart: new Chart({ title, onZoom, optional, sync: this.id }),
    }));
    this.#charts.replaceChildren(this.#none, ...this.#panels.map(({ chart }) => chart.node));
    const left = series.length - drawn.length;
    if (left > 0) {
      const all = () => {
        this.#draw(series, Infinity);
        this.show(this.query);
      };
      this.#charts.append(el("button", { type: "button", onclick: all }, `Draw ${left} more fields`));
    }
  }

  /** Show the range of `query`: the charts stay where they are. */
  show(query) {
    this.query = query;
    const bar = rangeBar(rangeOf(query), this.choose);
    this.#bar.replaceWith(bar);
    this.#bar = bar;
    if (!this.#panels) return;
    this.#history?.close();
    this.#history = new History(this.id, this.#panels, rangeOf(query), (error, busy) => this.#tell(error, busy));
    this.#history.load();
  }

  /** The charts are out of sight: cancel their requests. */
  pause() {
    this.#history?.close();
    this.#history = null;
    setAttribute(this.#charts, "aria-busy", "false");
    setText(this.#progress, "");
  }

  /** Load again what the feed may have missed. */
  reload() {
    this.#history?.load({ quiet: true });
  }

  append(changed) {
    this.#history?.append(changed);
  }

  slide() {
    this.#history?.slide();
  }

  close() {
    this.pause();
    this.#panels?.forEach(({ chart }) => chart.close());
  }

  #tell(error, busy) {
    this.#none.hidden = busy || this.#panels.some(({ chart }) => !chart.node.hidden);
    setAttribute(this.#charts, "aria-busy", String(busy));
    this.#progress.classList.toggle("wrong", error !== null);
    setText(this.#progress, error ? `History could not be loaded: ${error.message}` : busy ? "Loading history…" : "");
  }
}
