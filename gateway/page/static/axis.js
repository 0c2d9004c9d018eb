/** Labels of a chart's axes: local time in 24 hours with the date where it changes, and numbers that are not too long. */

import { number } from "./format.js";

const DAY_MS = 86_400_000;
const MINUTE_MS = 60_000;
const DATE = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const MINUTE = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const SECOND = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** uPlot's `values` of a time axis in ms. */
export function timeLabels(_plot, splits, _axis, _space, step) {
  const day = (ms) => new Date(ms).toDateString();
  return splits.map((ms, index) => {
    if (step >= DAY_MS) return DATE.format(ms);
    const text = (step < MINUTE_MS ? SECOND : MINUTE).format(ms);
    const turned = index > 0 && day(ms) !== day(splits[index - 1]);
    return turned ? `${text}\n${DATE.format(ms)}` : text;
  });
}

/** uPlot's `values` of a value axis. */
export function valueLabels(_plot, splits) {
  return splits.map((value) => (value === null ? "" : number(value)));
}
