/** JSON as people type it, and as they read it. Nothing is sent that is not exactly what was typed. */

/** Numbers that JavaScript would round in silence are refused; what a browser does not tell the source of passes. */
function exact(_key, value, context) {
  if (typeof value !== "number") return value;
  if (!Number.isFinite(value)) throw new RangeError("a number is too large");
  const { source = "" } = context ?? {};
  if (/^-?\d+$/.test(source) && BigInt(source) !== BigInt(value))
    throw new RangeError(`${source} has more digits than this page can send`);
  return value;
}

/**
 * @param {string} text
 * @returns {unknown}
 * @throws {SyntaxError|RangeError} its message is for whoever typed it
 */
export function parseJson(text) {
  return JSON.parse(text, exact);
}

/** @returns {boolean} whether a value is an object, and neither an array nor null */
export function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** @returns {string} a value over several lines, if it has several parts */
export function pretty(value) {
  return JSON.stringify(value, null, 2);
}
