/** Numbers, times and durations as people read them: with a unit, in the local time zone, which is named. */

const NUMBER = new Intl.NumberFormat("en", { maximumSignificantDigits: 6, useGrouping: false });
const COUNT = new Intl.NumberFormat("en");
const TIME = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const MOMENT = new Intl.DateTimeFormat("en-GB", {
  year: "numeric",
  month: "short",
  day: "numeric",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  timeZoneName: "short",
});
const MAX_TEXT_LENGTH = 80;
const SPANS = [
  ["d", 86400],
  ["h", 3600],
  ["min", 60],
  ["s", 1],
];
const SIZES = ["B", "KiB", "MiB", "GiB", "TiB"];
const CODES = {
  malformed_json: "not valid JSON",
  not_utf8: "not UTF-8",
  unknown_type: "unknown message type",
  bad_message: "message has the wrong form",
  bad_timestamp: "timestamp cannot be read",
  timestamp_out_of_range: "timestamp out of range",
  bad_name: "name not allowed",
  wrong_type: "wrong type",
  out_of_range: "value out of range",
  unknown_field: "field not in the profile",
  unknown_tag: "tag not in the profile",
  too_many_fields: "too many fields",
  too_long: "too long",
  spool_full: "the spool was full",
  throttle: "sent too fast",
};

/** @returns {string} a number with at most six significant digits, or `digits` of them */
export function number(value, digits = 6) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-4 || size >= 1e9)
    ? value.toExponential(3)
    : NUMBER.format(digits < 6 ? Number(value.toPrecision(digits)) : value);
}

/** @returns {string} a whole number with separated thousands */
export function count(value) {
  return value === null || value === undefined ? "–" : COUNT.format(Math.round(value));
}

/**
 * @param {unknown} unit a text, or no unit: of a field named "constructor", every object has something
 * @returns {string} a value as a device sent it, and its unit
 */
export function reading(value, unit, digits) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number")
    return unit && typeof unit === "string" ? `${number(value, digits)}\u00a0${unit}` : number(value, digits);
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > MAX_TEXT_LENGTH ? `${text.slice(0, MAX_TEXT_LENGTH)}…` : text;
}

/** @returns {string} 2 s, 41 min, 3 h 5 min, 2 d 4 h */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds < 1) return `${Math.round(seconds * 1000)}\u00a0ms`;
  let first = SPANS.findIndex(([, size]) => seconds >= size);
  const parts = [];
  let rest = Math.floor(seconds);
  for (; first < SPANS.length && parts.length < 2; first += 1) {
    const [name, size] = SPANS[first];
    if (rest >= size) parts.push(`${Math.floor(rest / size)}\u00a0${name}`);
    rest %= size;
    if (parts.length === 1 && (size === 60 || seconds >= 20 * size)) break;
  }
  return parts.join(" ");
}

/** @returns {string} the same in one unit, for an estimate: 41 min, 5 h, 12 d */
export function roughly(seconds) {
  const [name, size] = SPANS.find(([, unit]) => seconds >= 2 * unit) ?? SPANS.at(-1);
  return `${Math.round(seconds / size)}\u00a0${name}`;
}

/** Only the database knows of data from before the start. */
export const NONE_YET = "none since the gateway started";

/** @returns {string} how long ago `ms` is by the gateway's clock; a dash for 0 */
export function age(ms, now) {
  if (!ms) return "–";
  const seconds = (now - ms) / 1000;
  return seconds < 1 ? "now" : duration(Math.floor(seconds));
}

/** @returns {string} ms as 4.2 ms or 1.3 s */
export function latency(ms) {
  if (ms === null || ms === undefined) return "–";
  return ms < 1000 ? `${ms < 10 ? ms.toFixed(1) : Math.round(ms)}\u00a0ms` : `${(ms / 1000).toFixed(1)}\u00a0s`;
}

/** @returns {string} 4.2 MiB */
export function bytes(value) {
  if (value === null || value === undefined) return "–";
  let step = 0;
  let rest = value;
  for (; rest >= 1024 && step < SIZES.length - 1; step += 1) rest /= 1024;
  return `${rest < 10 && step > 0 ? rest.toFixed(1) : Math.round(rest)}\u00a0${SIZES[step]}`;
}

/** @returns {string} messages per second, or per minute if there are few */
export function rate(perSecond) {
  if (perSecond === null || perSecond === undefined) return "–";
  if (perSecond === 0) return "0";
  if (perSecond < 0.095) return `${(perSecond * 60).toFixed(1)}/min`;
  return `${perSecond < 100 ? perSecond.toFixed(1) : count(perSecond)}/s`;
}

/** @returns {string} the time of day */
export function time(ms) {
  return TIME.format(ms);
}

/** @returns {string} date, time and zone */
export function moment(ms) {
  return ms ? MOMENT.format(ms) : "never";
}

/** @returns {string} the viewer's time zone, by place and by its short name */
export function zone() {
  const short = MOMENT.formatToParts(Date.now()).find((part) => part.type === "timeZoneName")?.value ?? "";
  const place = Intl.DateTimeFormat().resolvedOptions().timeZone;
  return place === short ? short : `${place} (${short})`;
}

/** @returns {string} a refusal code in plain words */
export function problem(code) {
  return CODES[code] ?? String(code).replaceAll("_", " ");
}
