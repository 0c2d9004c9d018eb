/**
 * A chart of one or several series over time: uPlot with this page's colours, its own legend, and zoom by dragging.
 * uPlot is a classic script (vendor/), so it is `window.uPlot`.
 */

import { timeLabels, valueLabels } from "./axis.js";
import { el, setText } from "./dom.js";
import { moment, reading } from "./format.js";
import { colour, themes } from "./themes.js";

const { uPlot } = window;
const AXIS_WIDTH = 58;
/** Columns of a table in uPlot's data: mean, low, high. */
const COLUMNS = 3;

/** Values between two gaps: no line can be drawn to them, so they are drawn as points. */
function lonely(plot, index, show) {
  if (show) return null;
  const values = plot.data[index];
  const alone = (at) => values[at] != null && values[at - 1] == null && values[at + 1] == null;
  return values.map((_, at) => at).filter(alone);
}

function seriesOptions({ tint }) {
  const line = {
    stroke: colour(`series-${tint}`),
    width: 1.5,
    points: { size: 4, fill: colour(`series-${tint}`), filter: lonely },
  };
  const edge = { stroke: "transparent", width: 0, points: { show: false } };
  return [line, edge, edge];
}

/** Room for a second line, the date, where there is one. */
function timeHeight(_plot, labels) {
  return labels?.some((label) => label.includes("\n")) ? 42 : 28;
}

/** The digits of a mean that are significant, given the spread of its bucket. */
function meanDigits(mean, low, high) {
  if (mean == null || !(high > low)) return undefined;
  return Math.min(6, Math.max(3, Math.ceil(Math.log10(Math.abs(mean) / (high - low))) + 2));
}

function axes() {
  const line = { stroke: colour("grid"), width: 1 };
  const common = {
    stroke: colour("muted"),
    grid: line,
    ticks: { ...line, size: 4 },
    font: "11px system-ui, sans-serif",
  };
  return [
    { ...common, values: timeLabels, size: timeHeight, space: 76 },
    { ...common, values: valueLabels, size: AXIS_WIDTH, space: 26 },
  ];
}

/** Values that cannot be below zero are shown from zero, so that a calm curve looks calm. */
function fromZero(_plot, _low, high) {
  return [0, high > 0 ? high * 1.1 : 1];
}

/** @typedef {{label: string, tint: number, unit?: string, digits?: number, series: import("./series.js").Series}} Curve */

export class Chart {
  #plot = null;
  #curves = [];
  /** The first and last moment shown, in ms. */
  #range = [0, 1];
  /** Whether the drag began in this chart: uPlot reports the selection to every chart that shares the cursor. */
  #mine = false;
  /** The animation frame that was requested; 0: none. */
  #frame = 0;
  #abort = new AbortController();
  #box = el("div", { class: "plot", role: "img" });
  #legend = el("div", { class: "legend" });
  #when = el("span", { class: "when" });
  /** The nodes of the legend, one entry for each curve. */
  #entries = [];
  #none = el("p", { class: "none", hidden: true });
  #observer;
  node;

  /**
   * @param {{title: string, height?: number, sync?: string, zero?: boolean, optional?: boolean,
   *   onZoom?: (from: number, to: number) => void}} options `optional`: not shown without values
   */
  constructor({ title, height = 180, sync = "time", zero = false, optional = false, onZoom = null }) {
    Object.assign(this, { title, height, sync, zero, optional, onZoom });
    this.node = el(
      "figure",
      { class: "chart" },
      el("figcaption", {}, el("h3", {}, title), this.#when, this.#legend),
      this.#box,
    );
    this.node.hidden = optional; // until it has values
    this.#box.style.height = `${height}px`;
    this.#observer = new ResizeObserver(() => this.#resize());
    this.#observer.observe(this.#box);
    themes.addEventListener("change", () => this.#rebuild(), { signal: this.#abort.signal });
  }

  close() {
    this.#abort.abort();
    this.#observer.disconnect();
    cancelAnimationFrame(this.#frame);
    this.#plot?.destroy();
  }

  /** How many buckets to request for this width. */
  get points() {
    return Math.min(800, Math.max(150, Math.round((this.#box.clientWidth - AXIS_WIDTH) / 2 / 50) * 50));
  }

  /** Show these curves. @param {Curve[]} curves */
  show(curves, range) {
    const same =
      this.#plot &&
      curves.length === this.#curves.length &&
      curves.every((curve, at) => curve.label === this.#curves[at].label);
    this.#curves = curves;
    this.#range = range;
    if (!same) this.#rebuild();
    else this.update(range);
    this.#describe();
  }

  /** Draw what was appended, and the time up to now, with the next frame. */
  update(range) {
    this.#range = range;
    if (this.#frame === 0) this.#frame = requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#frame = 0;
    if (!this.#plot) return;
    this.#plot.batch(() => {
      this.#plot.setData(this.#data(), false);
      this.#plot.setScale("x", { min: this.#range[0], max: this.#range[1] });
    });
    this.#showValues();
    if (!this.#none.hidden) this.#describe();
  }

  #data() {
    return uPlot.join(this.#curves.map((curve) => curve.series.table()));
  }

  #rebuild() {
    this.#plot?.destroy();
    this.#plot = null;
    this.#entries = this.#curves.map((curve) => this.#entry(curve));
    this.#legend.replaceChildren(...this.#entries.map((entry) => entry.node));
    if (!this.#curves.length || !this.#box.clientWidth) return;
    this.#plot = new uPlot(this.#options(), this.#data(), this.#box);
    this.#box.append(this.#none);
    this.#plot.setScale("x", { min: this.#range[0], max: this.#range[1] });
    this.#plot.over.addEventListener("mousedown", () => {
      this.#mine = true;
    });
    this.#showValues();
  }

  #options() {
    return {
      width: this.#box.clientWidth,
      height: this.height,
      ms: 1,
      legend: { show: false },
      padding: [8, 8, 0, 0],
      cursor: { drag: { x: true, y: false, setScale: false }, sync: { key: this.sync }, points: { size: 6 }, y: false },
      scales: { x: { time: true, auto: false }, y: this.zero ? { range: fromZero } : {} },
      axes: axes(),
      series: [{}, ...this.#curves.flatMap((curve) => seriesOptions(curve))],
      bands: this.#curves.map((curve, at) => ({
        series: [at * COLUMNS + 3, at * COLUMNS + 2],
        fill: colour(`series-${curve.tint}`) + (this.#curves.length > 1 ? "20" : "38"),
      })),
      hooks: { setCursor: [() => this.#showValues()], setSelect: [(plot) => this.#selected(plot)] },
    };
  }

  #selected(plot) {
    const { left, width } = plot.select;
    const mine = this.#mine;
    this.#mine = false;
    if (width < 3) return;
    const [from, to] = [plot.posToVal(left, "x"), plot.posToVal(left + width, "x")];
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    if (mine) this.onZoom?.(Math.round(from), Math.round(to));
  }

  #entry(curve) {
    const value = el("b", { class: "value" });
    const spread = el("span", { class: "spread" });
    const swatch = el("span", { class: `swatch tint-${curve.tint}`, "aria-hidden": "true" });
    const name = this.#curves.length > 1 ? el("span", { class: "name" }, curve.label) : null;
    return { node: el("span", { class: "entry" }, swatch, name, value, spread), value, spread };
  }

  /** The legend shows the values under the crosshair, or the newest. */
  #showValues() {
    const plot = this.#plot;
    const at = plot?.cursor.idx ?? null;
    setText(this.#when, at === null || !plot ? "" : moment(plot.data[0][at]));
    this.#entries.forEach((entry, position) => {
      const { series, unit, digits } = this.#curves[position];
      const column = position * COLUMNS + 1;
      const mean = at === null ? series.mean.at(-1) : plot.data[column][at];
      const [low, high] =
        at === null ? [series.low.at(-1), series.high.at(-1)] : [plot.data[column + 1][at], plot.data[column + 2][at]];
      setText(entry.value, reading(mean ?? null, unit, digits ?? meanDigits(mean, low, high)));
      setText(entry.spread, low != null && low !== high ? `${reading(low)} to ${reading(high)}` : "");
    });
  }

  #describe() {
    const newest = Math.max(...this.#curves.map(({ series }) => series.newest));
    const inside = this.#curves.some(({ series }) => series.within(...this.#range));
    setText(
      this.#none,
      `No values in this range${Number.isFinite(newest) ? `; the newest value is from ${moment(newest)}` : ""}`,
    );
    this.#none.hidden = inside;
    this.node.hidden = this.optional && !inside;
    const parts = this.#curves.map(({ label, unit, series }) => {
      const summary = series.summary(...this.#range);
      if (!summary) return `${label}: no values in this range`;
      return `${label}: lowest ${reading(summary.low, unit)}, mean ${reading(summary.mean, unit)}, highest ${reading(summary.high, unit)}`;
    });
    this.#box.setAttribute(
      "aria-label",
      `Chart of ${this.title}, ${moment(this.#range[0])} to ${moment(this.#range[1])}. ${parts.join(". ")}`,
    );
  }

  #resize() {
    const width = this.#box.clientWidth;
    if (!width || width === this.#plot?.width) return;
    if (this.#plot) this.#plot.setSize({ width, height: this.height });
    else this.#rebuild();
  }
}
