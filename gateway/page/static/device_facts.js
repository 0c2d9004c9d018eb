/** Facts about a device beside its values: its rhythm, its clock, its limits, and its own information. */

import { count, duration, latency, moment, rate } from "./format.js";

/** Readings whose time is further than this from their arrival are mentioned. */
const CLOCK_MS = 30_000;

/**
 * How far its clock is from the gateway's: as was measured with the device, or else by how far the times of its readings
 * (`behind`, ms) are from their arrival, if that is worth telling.
 */
function clock(measured, behind) {
  if (measured) {
    const { offset_ms: offset, uncertainty_ms: uncertainty } = measured;
    const within = `to within ${latency(uncertainty)}`;
    if (Math.abs(offset) <= uncertainty) return `right, ${within}`;
    return `${distance(Math.abs(offset))} ${offset > 0 ? "behind" : "ahead"}, ${within}`;
  }
  if (Math.abs(behind) < CLOCK_MS) return null;
  return `${spoken(Math.abs(behind))} ${behind > 0 ? "behind, or readings are sent late" : "ahead"}`;
}

function distance(ms) {
  return ms < 60_000 ? latency(ms) : spoken(ms);
}

/** Rounded before it is cut to units: a millisecond less than an hour is an hour. */
function spoken(ms) {
  return duration(Math.round(ms / 1000));
}

/** @returns {string} which of its limits a device is over, and by how much; empty if it is over none */
export function limited(limits) {
  if (!limits?.throttled) return "";
  const { limit, observed, allowed } = limits;
  return limit ? `throttled: ${count(observed)} of ${count(allowed)} ${said(limit)}` : "throttled";
}

/** How often a limit paused the device, and which limit did so last. */
function throttled(limits) {
  if (!limits?.throttles) return null;
  const times = `${count(limits.throttles)} ${limits.throttles === 1 ? "time" : "times"}`;
  return limits.limit ? `${times}, last at ${moment(limits.at)} for ${said(limits.limit)}` : times;
}

/** `backlog.readings_per_second`: old readings have limits of their own. */
function said(limit) {
  const words = limit.replaceAll("_", " ");
  return words.startsWith("backlog.") ? `${words.slice("backlog.".length)} of old readings` : words;
}

/** @returns {Object<string, unknown>} facts by name; those without a value are not shown */
export function factsOf(device, behind) {
  const { rate: perSecond, rhythm_ms: rhythm, address, profile, tags = {}, info = {}, keepalive } = device;
  return {
    Messages: rate(perSecond),
    "Usual rhythm": rhythm ? `every ${duration(rhythm / 1000)}` : "not known yet",
    "Clock": clock(device.clock, behind),
    "Throttled": throttled(device.limits),
    "Silent for": keepalive ? duration(keepalive.silent_ms / 1000) : null,
    Address: address,
    Profile: profile,
    ...info,
    ...tags,
  };
}
