/** One device: what it is doing, its history and live tail, what was refused and why, and where its readings went. */

import { devicePath, get } from "./api.js";
import { Chart } from "./chart.js";
import { now } from "./clock.js";
import { MEANINGS } from "./devices.js";
import { el, placeholder, setAttribute, setText } from "./dom.js";
import { age, duration, moment, rate } from "./format.js";
import { History } from "./history.js";
import { factsBox, ledgerBox, problemsBox, valuesBox } from "./device_boxes.js";
import { live } from "./live.js";
import { rangeBar, rangeOf } from "./range.js";
import { Series } from "./series.js";
import { whyForm } from "./why.js";

const REFRESH_MS = 5000;
const TINTS = 6;
/** Fields drawn without being asked to: a device may have hundreds. */
const MOST_FIELDS = 24;
/** Times of readings further than this from their arrival are pointed out. */
const CLOCK_MS = 30_000;
const PRESENCE = "device_status";

/** @returns {{title: string, curves: object[]}[]} a panel for each unit, and one for each field without */
function panelsOf(found) {
  const panels = new Map();
  found.forEach(({ measurement = null, field, unit, known }) => {
    const key = unit ? `unit ${known} ${unit}` : `field ${measurement} ${field}`;
    const panel = panels.get(key) ?? { fields: [], curves: [], unit, known };
    panel.fields.push(field);
    panel.curves.push({
      field,
      measurement,
      unit,
      label: field,
      tint: (panel.curves.length % TINTS) + 1,
      series: new Series(),
    });
    panels.set(key, panel);
  });
  return [...panels.values()].map((panel) => ({
    title: `${panel.fields.join(", ")}${panel.unit ? ` in ${panel.unit}` : ""}`,
    curves: panel.curves,
    optional: !panel.known,
  }));
}

class DeviceView {
  #abort = new AbortController();
  #charts = el("div", { class: "charts" });
  #progress = el("p", { class: "progress", role: "status" });
  #none = placeholder("empty", "Nothing to draw.", "This device has sent no numbers in this range.");
  #mark = el("span", { class: "mark", "aria-hidden": "true" });
  #state = el("b", {});
  #since = el("span", {});
  #data = el("span", {});
  #facts = factsBox();
  #body = el("div", { class: "device" });
  #values = valuesBox();
  #ledger = ledgerBox();
  #problems = problemsBox();
  #history = null;
  #presence;
  #device = null;
  #lastData = 0;
  #behind = 0;

  constructor(root, id, query, go) {
    Object.assign(this, { id, query, go });
    this.#presence = el(
      "p",
      { class: "presence" },
      this.#mark,
      this.#state,
      " ",
      this.#since,
      el("span", { class: "data" }, "Last data ", this.#data),
    );
    root.append(
      el("p", { class: "crumb" }, el("a", { href: "#/" }, "Fleet")),
      el("h1", { class: "device-id" }, id),
      this.#presence,
      this.#body,
    );
    this.#body.append(placeholder("loading", "Loading the device…", ""));
    this.#listen();
    live.follow({ devices: [id] });
  }

  close() {
    this.#abort.abort();
    this.#endCharts();
  }

  #listen() {
    const { signal } = this.#abort;
    const on = (name, handler) => live.addEventListener(name, handler, { signal });
    on("resync", () => this.#load());
    on("readings", (event) => this.#readings(event.detail.devices[this.id]));
    on(
      "presence",
      ({ detail }) => detail.device === this.id && this.#showPresence(detail.state, detail.since, detail.reason),
    );
    const ticking = setInterval(() => this.#tick(), 1000);
    const refreshing = setInterval(() => this.#device && live.state !== "lost" && this.#refresh(), REFRESH_MS);
    signal.addEventListener("abort", () => [ticking, refreshing].forEach(clearInterval));
  }

  async #load() {
    const { signal } = this.#abort;
    try {
      const device = await get(devicePath(this.id), {}, signal);
      const series = this.#history ? null : await this.#series(device);
      if (signal.aborted) return;
      if (!this.#device) this.#body.replaceChildren(...this.#parts());
      this.#show(device);
      if (series) this.#start(series);
      else this.#history.load({ quiet: true });
    } catch (error) {
      if (signal.aborted || this.#device || error.status === 401) return;
      const unknown = error.status === 404;
      const again = { label: "Try again", run: () => this.#load() };
      this.#body.replaceChildren(
        placeholder(
          "error",
          unknown ? "There is no such device." : "The device could not be loaded.",
          error.message,
          again,
        ),
      );
    }
  }

  /**
   * The fields that can be drawn, those that the device has sent lately first. A database may know a measurement's
   * fields only, not which device sent them: charts of such are optional.
   */
  async #series({ latest, units = {} }) {
    const { series } = await get("/v1/series", { device: this.id }, this.#abort.signal).catch((error) => {
      if (error.status === 401) throw error;
      return { series: [] }; // the database is away: what is known without it
    });
    const stored = series.filter((each) => each.type !== "string" && each.measurement !== PRESENCE);
    const names = new Set(stored.map((each) => each.field));
    const fresh = Object.keys(latest).filter((field) => typeof latest[field] !== "string" && !names.has(field));
    return [...stored, ...fresh.map((field) => ({ field, unit: Object.hasOwn(units, field) ? units[field] : undefined }))]
      .map((each) => ({ ...each, known: each.field in latest }))
      .sort((a, b) => b.known - a.known);
  }

  async #refresh() {
    const device = await get(devicePath(this.id), {}, this.#abort.signal).catch(() => null);
    if (device && !this.#abort.signal.aborted) this.#show(device);
  }

  #parts() {
    const aside = el(
      "div",
      { class: "aside" },
      this.#values.node,
      this.#ledger.node,
      this.#facts.node,
      whyForm(this.id),
    );
    return [
      el(
        "section",
        { class: "history", "aria-label": "History" },
        el("div", { class: "ranges" }, this.#rangeBar(), this.#progress),
        this.#charts,
        this.#problems.node,
      ),
      aside,
    ];
  }

  #rangeBar() {
    return rangeBar(rangeOf(this.query), (query) => this.go(`/devices/${encodeURIComponent(this.id)}`, query));
  }

  #start(series, most = MOST_FIELDS) {
    this.#endCharts();
    const drawn = series.slice(0, most);
    const onZoom = (from, to) => this.go(`/devices/${encodeURIComponent(this.id)}`, { from, to });
    const panels = panelsOf(drawn).map(({ title, curves, optional }) => ({
      curves,
      chart: new Chart({ title, onZoom, optional, sync: this.id }),
    }));
    this.#charts.replaceChildren(this.#none, ...panels.map(({ chart }) => chart.node));
    const left = series.length - drawn.length;
    if (left > 0)
      this.#charts.append(
        el("button", { type: "button", onclick: () => this.#start(series, Infinity) }, `Draw ${left} more fields`),
      );
    this.#history = new History(this.id, panels, rangeOf(this.query), (error, busy) => this.#tell(error, busy));
    this.#history.load();
  }

  /** Another range for the same device: the charts stay where they are. */
  ranged(query) {
    this.query = query;
    if (!this.#history) return;
    this.#body.querySelector(".range").replaceWith(this.#rangeBar());
    const { panels } = this.#history;
    this.#history.close();
    this.#history = new History(this.id, panels, rangeOf(query), (error, busy) => this.#tell(error, busy));
    this.#history.load();
  }

  #endCharts() {
    this.#history?.close();
    this.#history?.panels.forEach(({ chart }) => chart.close());
  }

  #tell(error, busy) {
    this.#none.hidden = busy || this.#history.panels.some(({ chart }) => !chart.node.hidden);
    setAttribute(this.#charts, "aria-busy", String(busy));
    this.#progress.classList.toggle("wrong", error !== null);
    setText(this.#progress, error ? `History could not be loaded: ${error.message}` : busy ? "Loading history…" : "");
  }

  #show(device) {
    this.#device = device;
    this.#showPresence(device.state, device.state_since, device.state_reason);
    this.#lastData = Math.max(this.#lastData, device.last_data ?? 0);
    this.#values.show(device.latest, device.units ?? {});
    this.#ledger.show(device.ledger);
    this.#problems.show(device.problems ?? []);
    this.#showFacts(device);
    this.#tick();
  }

  #showPresence(state, since, reason) {
    this.#presence.classList.add("known");
    setAttribute(this.#mark, "class", `mark ${state}`);
    setText(this.#state, state);
    this.#state.title = MEANINGS[state] ?? "";
    setText(
      this.#since,
      since ? `since ${moment(since)}${reason && reason !== "connected" ? ` (${reason})` : ""}` : "",
    );
  }

  #showFacts({ rate: perSecond, rhythm_ms: rhythm, address, profile, tags = {}, info = {}, keepalive }) {
    this.#facts.show({
      Messages: rate(perSecond),
      "Usual rhythm": rhythm ? `every ${duration(rhythm / 1000)}` : "not known yet",
      "Its clock": this.#clock(),
      "Silent for": keepalive ? duration(keepalive.silent_ms / 1000) : null,
      Address: address,
      Profile: profile,
      ...info,
      ...tags,
    });
  }

  /** How far the times of its readings are from their arrival, if that is worth telling. */
  #clock() {
    if (Math.abs(this.#behind) < CLOCK_MS) return null;
    return `${duration(Math.abs(this.#behind) / 1000)} ${this.#behind > 0 ? "behind, or readings are sent late" : "ahead"}`;
  }

  #readings(changed) {
    if (!changed) return;
    this.#behind = changed.last_data - (changed.time ?? changed.last_data);
    this.#lastData = changed.last_data;
    if (this.#device) this.#values.show(changed.latest, this.#device.units ?? {});
    this.#history?.append(changed);
    this.#tick();
  }

  #tick() {
    const text = age(this.#lastData, now());
    setText(this.#data, text === "never" || text === "now" ? text : `${text} ago`);
    this.#history?.slide();
  }
}

/** Show device `id` in `root`. @returns {{close: () => void, ranged: (query: URLSearchParams) => void}} */
export function mount(root, { id, query, go }) {
  return new DeviceView(root, id, query, go);
}
