/** The small curve in a row: shape only, drawn to its own lowest and highest value. */

import { setAttribute, svg } from "./dom.js";

const WIDTH = 96;
const HEIGHT = 20;
const LENGTH = 60;

export class Spark {
  #line = svg("polyline", { points: "" });
  node = svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true", preserveAspectRatio: "none" },
    this.#line,
  );

  /** @param {number[]} values the newest last; the right edge is now */
  show(values) {
    if (values.length < 2) return setAttribute(this.#line, "points", "");
    const low = Math.min(...values);
    const span = Math.max(...values) - low;
    const step = WIDTH / (LENGTH - 1);
    const start = WIDTH - (values.length - 1) * step;
    const y = (value) => (span === 0 ? HEIGHT / 2 : HEIGHT - 2 - ((value - low) / span) * (HEIGHT - 4));
    const points = values.map((value, index) => `${(start + index * step).toFixed(1)},${y(value).toFixed(1)}`);
    return setAttribute(this.#line, "points", points.join(" "));
  }
}
