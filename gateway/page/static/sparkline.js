/** The small curve in a row: shape only, scaled to its lowest and highest value; the right edge is now. */

import { TRAIL_MS } from "./devices.js";
import { setAttribute, svg } from "./dom.js";

const WIDTH = 96;
const HEIGHT = 20;

export class Sparkline {
  #line = svg("polyline", { points: "" });
  node = svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true", preserveAspectRatio: "none" },
    this.#line,
  );

  /** @param {{time: number, value: number}[]} trail the newest last @param {number} now in ms */
  show(trail, now) {
    if (trail.length < 2) return setAttribute(this.#line, "points", "");
    const values = trail.map(({ value }) => value);
    const low = Math.min(...values);
    const span = Math.max(...values) - low;
    const x = (time) => WIDTH * (1 - (now - time) / TRAIL_MS);
    const y = (value) => (span === 0 ? HEIGHT / 2 : HEIGHT - 2 - ((value - low) / span) * (HEIGHT - 4));
    const points = trail.map(({ time, value }) => `${x(time).toFixed(1)},${y(value).toFixed(1)}`);
    return setAttribute(this.#line, "points", points.join(" "));
  }
}
