/** What is told of a device beside its values: its rhythm, its clock, its limits, who it says it is. */

import { duration, latency, rate } from "./format.js";

/** Times of readings further than this from their arrival are pointed out. */
const CLOCK_MS = 30_000;

/**
 * How far its clock is from the gateway's: as was measured with the device, or else by how far the times of its readings
 * (`behind`, ms) are from their arrival, if that is worth telling.
 */
function clock(measured, behind) {
  if (measured) {
    const { offset_ms: offset, uncertainty_ms: uncertainty } = measured;
    const within = `± ${latency(uncertainty)}`;
    if (Math.abs(offset) <= uncertainty) return `right, ${within}`;
    return `${distance(Math.abs(offset))} ${offset > 0 ? "ahead" : "behind"}, ${within}`;
  }
  if (Math.abs(behind) < CLOCK_MS) return null;
  return `${duration(Math.abs(behind) / 1000)} ${behind > 0 ? "behind, or readings are sent late" : "ahead"}`;
}

function distance(ms) {
  return ms < 60_000 ? latency(ms) : duration(ms / 1000);
}

/** @returns {string} that a device sends more than its limits allow; empty if it does not */
export function limited(limits) {
  return limits?.throttled ? "throttled: it sends more than its limits allow" : "";
}

/** @returns {Object<string, unknown>} facts by name; those without a value are not shown */
export function factsOf(device, behind) {
  const { rate: perSecond, rhythm_ms: rhythm, address, profile, tags = {}, info = {}, keepalive } = device;
  return {
    Messages: rate(perSecond),
    "Usual rhythm": rhythm ? `every ${duration(rhythm / 1000)}` : "not known yet",
    "Its clock": clock(device.clock, behind),
    "Silent for": keepalive ? duration(keepalive.silent_ms / 1000) : null,
    Address: address,
    Profile: profile,
    ...info,
    ...tags,
  };
}
