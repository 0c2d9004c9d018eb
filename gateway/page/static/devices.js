/**
 * All devices that the page knows: loaded once, then changed by the live feed. Views request an ordered list.
 * A trail is a quarter of an hour of one field, for the small curve in a row.
 */

import { get } from "./api.js";
import { now } from "./clock.js";

const PAGE = 1000;
/** Devices that the page holds at most; in a larger fleet the search asks the gateway. */
export const MAX_DEVICES = 20_000;
export const TRAIL_MS = 15 * 60_000;
const TRAIL_POINTS = 60;
/** From what needs attention to what does not. */
export const STATES = ["offline", "stale", "late", "by-request", "live"];
export const MEANINGS = {
  live: "connected, and data comes in its usual rhythm",
  late: "connected, but the next reading is overdue by the device's own rhythm",
  stale: "connected, but silent for several times its usual rhythm",
  "by-request": "sends by HTTP request and keeps no connection; the age of its data says when it sent last",
  offline: "not connected",
};

/** @returns {string} one of `STATES`: from an entry of the device list, or an event `presence` */
export function stateOf({ state, by_request: byRequest }) {
  return state === "offline" && byRequest ? "by-request" : state;
}

/** @returns {string} a state in words */
export function said(state) {
  return state.replace("-", " ");
}

/**
 * @typedef {Object} Device
 * @property {string} id
 * @property {string} order what rows are sorted by for the id
 * @property {string} state one of `STATES`
 * @property {number|null} since when the state began, in ms since 1970
 * @property {number} lastData ms since 1970; 0: none since the gateway started
 * @property {number|null} rate messages a second
 * @property {Object<string, unknown>} latest
 * @property {string|null} profile
 * @property {string|null} trailField
 * @property {{time: number, value: number}[]} trail the newest last
 */

/** Numbers in ids count as numbers: pump-2 comes before pump-10. */
function orderOf(id) {
  return id.toLowerCase().replace(/\d+/g, (digits) => digits.padStart(12, "0"));
}

function blank(id) {
  return {
    id,
    order: orderOf(id),
    state: "offline",
    since: null,
    lastData: 0,
    rate: null,
    latest: {},
    profile: null,
    trailField: null,
    trail: [],
    asked: false,
  };
}

function plottable(latest) {
  return Object.keys(latest).find((field) => typeof latest[field] === "number") ?? null;
}

const KEYS = {
  id: () => 0,
  state: (device) => STATES.indexOf(device.state),
  last_data: (device) => device.lastData,
  rate: (device) => device.rate ?? -1,
};

export class Devices {
  /** @type {Map<string, Device>} */
  all = new Map();
  /** How many the gateway has; more than `all` holds where the fleet is larger than `MAX_DEVICES`. */
  total = 0;
  /** Whether the list has been loaded; before that the feed has brought only some devices, without units. */
  loaded = false;
  /** Units by profile, then by field. */
  #units = {};

  /** Load everything, or what the gateway finds for `search`. */
  async load(signal, search = "") {
    for (let offset = 0; offset < MAX_DEVICES; offset += PAGE) {
      const page = await get("/v1/devices", { limit: PAGE, offset, search }, signal);
      for (const device of page.devices) this.#take(device);
      Object.assign(this.#units, page.units);
      if (!search) this.total = page.total;
      if (offset + page.devices.length >= page.total || page.devices.length === 0) break;
    }
    this.loaded = true;
  }

  #take(found) {
    const device = this.#known(found.id);
    device.state = stateOf(found);
    device.since = found.state_since ?? null;
    device.profile = found.profile ?? device.profile;
    this.#update(device, found);
  }

  #known(id) {
    let device = this.all.get(id);
    if (device === undefined) this.all.set(id, (device = blank(id)));
    return device;
  }

  #update(device, { last_data: lastData, rate = device.rate, latest = {} }) {
    if ((lastData ?? 0) < device.lastData) return; // the feed was quicker than the list
    const fresh = (lastData ?? 0) > device.lastData;
    device.lastData = lastData ?? device.lastData;
    device.rate = rate;
    device.latest = { ...device.latest, ...latest };
    device.trailField ??= plottable(device.latest);
    const value = device.latest[device.trailField];
    if (!fresh || typeof value !== "number") return;
    const last = device.trail.at(-1);
    if (device.trail.length > 1 && lastData < last.time + TRAIL_MS / TRAIL_POINTS) last.value = value;
    else device.trail.push({ time: lastData, value });
    if (device.trail.length > TRAIL_POINTS + 1) device.trail.shift();
  }

  /** Take over an event `readings`. @returns {boolean} whether there are new rows */
  readings({ devices }) {
    const before = this.all.size;
    for (const [id, changed] of Object.entries(devices)) {
      const device = this.#known(id);
      if (changed.by_request) device.state = "by-request"; // the gateway sends no event `presence` for this
      this.#update(device, changed);
    }
    this.total = Math.max(this.total, this.all.size);
    return this.all.size !== before;
  }

  /** Take over an event `presence`. @returns {boolean} whether there are new rows */
  presence(changed) {
    const before = this.all.size;
    Object.assign(this.#known(changed.device), { state: stateOf(changed), since: changed.since });
    this.total = Math.max(this.total, this.all.size);
    return this.all.size !== before;
  }

  /** Load a device's trail from the database, once, when its row comes into view. */
  async loadTrail(device, signal) {
    device.asked = true;
    if (device.trailField === null) return;
    const from = now() - TRAIL_MS;
    const query = { device: device.id, field: device.trailField, from, points: TRAIL_POINTS };
    try {
      const { points } = await get("/v1/query", query, signal);
      const newest = points.at(-1)?.time ?? 0;
      const before = points.map(({ time, mean }) => ({ time, value: mean }));
      device.trail = [...before, ...device.trail.filter(({ time }) => time > newest)];
    } catch {
      device.asked = signal.aborted ? false : device.asked; // without an answer the curve begins now
    }
  }

  /** @returns {string|undefined} the unit of a device's field by its profile */
  unit(device, field) {
    return this.#units[device.profile ?? "default"]?.[field];
  }

  /** @returns {string[]} the profiles that devices have */
  profiles() {
    return [...this.all.values()].map(({ profile }) => profile).filter(Boolean);
  }

  /** @returns {Object<string, number>} how many devices are in each state */
  counts() {
    const counts = Object.fromEntries(STATES.map((state) => [state, 0]));
    for (const device of this.all.values()) if (device.state in counts) counts[device.state] += 1;
    return counts;
  }

  /** @returns {Device[]} those whose id holds `search` (and that are in `state`), in order */
  list({ search, state, sort, descending }) {
    const wanted = search.toLowerCase();
    const found = [];
    for (const device of this.all.values())
      if ((!state || device.state === state) && device.id.toLowerCase().includes(wanted)) found.push(device);
    const key = KEYS[sort];
    const sign = descending ? -1 : 1;
    const byId = (a, b) => (a.order < b.order ? -1 : a.order > b.order ? 1 : 0);
    return found.sort((a, b) => sign * (key(a) - key(b) || byId(a, b)));
  }
}
