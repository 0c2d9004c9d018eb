/** JSON as people type and read it. The page sends exactly the value that was typed, or refuses it. */

/** Refuse numbers that JavaScript would round. A browser that does not give the source text lets them pass. */
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
 * @throws {SyntaxError|RangeError} its message is for the person who typed it
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
