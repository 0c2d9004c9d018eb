/**
 * Desired and reported settings, key by key. The gateway says which keys differ (`difference`). Objects are
 * split into their keys where both sides have one, as a merge patch (RFC 7396) does.
 */

import { isObject } from "./json.js";

export const MEANINGS = {
  "in sync": "the device reports the desired value",
  pending: "the device has not confirmed this version yet",
  differs: "the device has confirmed this version, and reports something else",
  "reported only": "the device has this setting, and no value is desired",
};

/** @typedef {{path: string[], desired: unknown, reported: unknown, state: string}} Line undefined: the side has no such key */

function own(object, key) {
  return object !== undefined && Object.hasOwn(object, key) ? object[key] : undefined;
}

function apart(desired, reported) {
  const [one, other] = [desired ?? {}, reported ?? {}];
  return isObject(one) && isObject(other) && Object.keys(one).length + Object.keys(other).length > 0;
}

function* lines(desired, reported, difference, path) {
  const keys = new Set([...Object.keys(desired), ...Object.keys(reported)]);
  for (const key of [...keys].sort()) {
    const [should, is, missing] = [desired, reported, difference].map((side) => own(side, key));
    const here = [...path, key];
    if (apart(should, is)) yield* lines(should ?? {}, is ?? {}, missing, here);
    else yield { path: here, desired: should, reported: is, missing: missing !== undefined };
  }
}

/** @returns {Line[]} */
export function linesOf({ desired, reported, difference }) {
  const confirmed = reported.version === desired.version;
  return [...lines(desired.settings, reported.settings, difference, [])].map(({ missing, ...line }) => ({
    ...line,
    state: line.desired === undefined ? "reported only" : !missing ? "in sync" : confirmed ? "differs" : "pending",
  }));
}

/** @returns {unknown} what a patch has under the first key of `path` to make the last one `value` */
export function nested(path, value) {
  return path.slice(1).reduceRight((inner, key) => Object.fromEntries([[key, inner]]), value);
}
