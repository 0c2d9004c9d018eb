/** The fleet: every device in one table that stays fast with thousands of rows; totals above it, states as filters. */

import { now } from "./clock.js";
import { Devices, MEANINGS, MAX_DEVICES, STATES, said } from "./devices.js";
import { el, placeholder, setAttribute, setText } from "./dom.js";
import { count } from "./format.js";
import { live } from "./live.js";
import { pending } from "./pending.js";
import { DeviceRow, deviceLink } from "./device_row.js";
import { totalsStrip } from "./totals.js";
import { VirtualRows } from "./virtual.js";

/** Values change the order at most this often, and never under the pointer. */
const ORDER_MS = 3000;
const TYPING_MS = 250;
const TRAIL_WAIT_MS = 300;
const COLUMNS = [
  ["state", "State", "state"],
  ["id", "Device", "id"],
  ["last_data", "Last data", "age"],
  [null, "Latest values", "values"],
  [null, "Trend", "spark"],
  ["rate", "Messages", "rate"],
];

/** The choices of the person; they are kept while the page goes to another view and back. */
const view = { search: "", state: "", sort: "id", descending: false, top: 0 };
const devices = new Devices();

class Fleet {
  #abort = new AbortController();
  /** The devices in the order of the table. */
  #shown = [];
  /** Index of the row chosen with the arrow keys; -1: none. */
  #active = -1;
  /** When the rows were ordered last, in ms. */
  #ordered = 0;
  /** Whether there are new devices since then. */
  #grown = false;
  #frame = 0;
  #typing = 0;
  /** Timer after which the curves of the rows in sight are loaded. */
  #trails = 0;
  #totals = totalsStrip();
  /** The devices pending approval; null for a viewer. */
  #pending = null;
  #search = el("input", {
    type: "search",
    placeholder: "Search devices",
    "aria-label": "Search devices by id",
    value: view.search,
  });
  #states = el("div", { class: "states", role: "group", "aria-label": "Filter by state" });
  #found = el("span", { class: "found", role: "status" });
  #head = el("div", { role: "row", class: "row head" });
  #canvas = el("div", { class: "canvas", role: "presentation" });
  #viewport = el("div", {
    class: "viewport",
    role: "rowgroup",
    tabindex: "0",
    "aria-label": "Devices; move with the arrow keys",
  });
  #table = el("div", { class: "table", role: "table", "aria-label": "Devices" });
  #message = el("div", { class: "message" });
  #rows;

  constructor(root, session) {
    this.#viewport.append(this.#canvas);
    this.#table.append(el("div", { role: "rowgroup", class: "heading" }, this.#head), this.#viewport);
    const tools = el("div", { class: "toolbar" }, this.#search, this.#states, this.#found);
    if (session.role === "admin") this.#pending = pending(() => devices.profiles());
    const top = el("div", { class: "top" }, this.#totals.node, this.#pending?.node);
    root.append(el("h1", { class: "unseen" }, "Fleet"), top, tools, this.#table, this.#message);
    this.#columns();
    this.#stateButtons();
    this.#rows = new VirtualRows(
      this.#viewport,
      this.#canvas,
      () => new DeviceRow(),
      (row, index) => this.#fill(row, index),
    );
    this.#listen();
    const before = view.top;
    if (devices.loaded) this.#order();
    else this.#say(placeholder("loading", "Loading devices…", ""));
    this.#viewport.scrollTop = before;
    live.follow();
  }

  close() {
    this.#abort.abort();
    this.#pending?.close();
    this.#rows.close();
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#typing);
    clearTimeout(this.#trails);
  }

  #listen() {
    const { signal } = this.#abort;
    const on = (target, name, handler) => target.addEventListener(name, handler, { signal });
    on(live, "resync", () => this.#load());
    on(live, "totals", (event) => this.#totals.show(event.detail));
    on(live, "readings", (event) => this.#changed(devices.readings(event.detail)));
    on(live, "presence", (event) => this.#changed(devices.presence(event.detail)));
    on(this.#search, "input", () => this.#searched());
    on(this.#viewport, "keydown", (event) => this.#key(event));
    on(this.#viewport, "scroll", () => this.#settle());
    on(document, "keydown", (event) => this.#shortcut(event));
    const ticking = setInterval(() => (this.#grown ? this.#changed(false) : this.#rows.refresh()), 1000);
    signal.addEventListener("abort", () => clearInterval(ticking));
  }

  async #load() {
    try {
      await devices.load(this.#abort.signal);
      this.#order();
    } catch (error) {
      if (this.#abort.signal.aborted || devices.loaded || error.status === 401) return;
      this.#say(
        placeholder("error", "The devices could not be loaded.", error.message, {
          label: "Try again",
          run: () => this.#load(),
        }),
      );
    }
  }

  /** Events come in bursts; what they change is shown once, with the next frame. */
  #changed(grown) {
    this.#grown ||= grown;
    if (this.#frame === 0) this.#frame = requestAnimationFrame(() => this.#refresh());
  }

  #refresh() {
    this.#frame = 0;
    if (!devices.loaded) return;
    const settled = Date.now() - this.#ordered < ORDER_MS;
    const held = view.sort !== "id" && this.#viewport.matches(":hover, :focus-within");
    if (!settled && (this.#grown || (!held && (view.sort !== "id" || view.state)))) this.#order();
    this.#showCounts();
    this.#rows.refresh();
  }

  #order() {
    this.#ordered = Date.now();
    this.#grown = false;
    this.#shown = devices.list(view);
    this.#rows.setCount(this.#shown.length);
    setAttribute(this.#table, "aria-rowcount", String(this.#shown.length + 1));
    const part =
      devices.total > devices.all.size ? `; the first ${count(MAX_DEVICES)} are loaded; the search finds all` : "";
    setText(this.#found, `${count(this.#shown.length)} of ${count(devices.total)} devices${part}`);
    this.#showCounts();
    this.#explain();
    this.#settle();
  }

  #explain() {
    if (this.#shown.length) return this.#say(null);
    if (devices.all.size)
      return this.#say(placeholder("empty", "No device matches.", "", { label: "Show all", run: () => this.#reset() }));
    if (!devices.loaded) return undefined;
    const connect = {
      label: "Connect a device",
      run: () => {
        location.hash = "#/connect";
      },
    };
    return this.#say(
      placeholder("empty", "No device has connected yet.", "A device appears here as soon as it connects.", connect),
    );
  }

  #say(node) {
    this.#message.replaceChildren(...(node ? [node] : []));
    this.#table.classList.toggle("covered", node !== null);
  }

  #reset() {
    Object.assign(view, { search: "", state: "" });
    this.#search.value = "";
    this.#order();
    this.#stateButtons();
  }

  #fill(row, index) {
    const device = this.#shown[index];
    if (device) row.show(device, index, now(), (field) => devices.unit(device, field), index === this.#active);
  }

  #columns() {
    for (const [sort, label, name] of COLUMNS) {
      const cell = el("div", { role: "columnheader", class: name });
      if (sort)
        cell.append(el("button", { type: "button", "data-sort": sort, onclick: () => this.#sortBy(sort) }, label));
      else cell.append(label);
      this.#head.append(cell);
    }
    this.#showSort();
  }

  #sortBy(sort) {
    view.descending = view.sort === sort ? !view.descending : sort === "last_data" || sort === "rate";
    view.sort = sort;
    this.#showSort();
    this.#viewport.scrollTop = 0;
    this.#order();
  }

  #showSort() {
    for (const button of this.#head.querySelectorAll("button")) {
      const chosen = button.dataset.sort === view.sort;
      setAttribute(button.parentElement, "aria-sort", chosen ? (view.descending ? "descending" : "ascending") : null);
    }
  }

  #stateButtons() {
    const choose = (state) => () => {
      view.state = view.state === state ? "" : state;
      this.#viewport.scrollTop = 0;
      this.#order();
      this.#stateButtons();
    };
    const button = (state, label) =>
      el(
        "button",
        {
          type: "button",
          "aria-pressed": String(view.state === state),
          "data-state": state,
          title: MEANINGS[state],
          onclick: choose(state),
        },
        state ? el("span", { class: `mark ${state}`, "aria-hidden": "true" }) : null,
        said(label),
        " ",
        el("b", {}, "–"),
      );
    const focused = this.#states.contains(document.activeElement) ? document.activeElement.dataset.state : null;
    this.#states.replaceChildren(button("", "all"), ...STATES.toReversed().map((state) => button(state, state)));
    if (focused !== null) this.#states.querySelector(`[data-state="${focused}"]`).focus();
    this.#showCounts();
  }

  #showCounts() {
    const counts = devices.counts();
    for (const button of this.#states.children)
      setText(button.lastElementChild, count(button.dataset.state ? counts[button.dataset.state] : devices.total));
  }

  #searched() {
    view.search = this.#search.value.trim();
    this.#viewport.scrollTop = 0;
    this.#order();
    clearTimeout(this.#typing);
    if (devices.total <= devices.all.size || !view.search) return;
    this.#typing = setTimeout(async () => {
      await devices.load(this.#abort.signal, view.search).catch(() => null);
      this.#order();
    }, TYPING_MS);
  }

  /** When scrolling has stopped, load the curves of the rows in sight, two at a time. */
  #settle() {
    view.top = this.#viewport.scrollTop;
    clearTimeout(this.#trails);
    this.#trails = setTimeout(async () => {
      const started = this.#trails;
      const waiting = this.#shown.slice(...this.#rows.range).filter((device) => !device.asked);
      const worker = async () => {
        for (let next = waiting.shift(); next && started === this.#trails; next = waiting.shift())
          await devices.loadTrail(next, this.#abort.signal);
      };
      await Promise.all([worker(), worker()]);
      this.#rows.refresh();
    }, TRAIL_WAIT_MS);
  }

  #key(event) {
    const page = Math.max(1, this.#rows.range[1] - this.#rows.range[0] - 2);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key === "Enter" && event.target === this.#viewport && this.#shown[this.#active])
      location.hash = deviceLink(this.#shown[this.#active].id);
    if (!(event.key in steps) || !this.#shown.length) return;
    event.preventDefault();
    const start = this.#active < 0 ? this.#rows.range[0] - Math.sign(steps[event.key]) : this.#active;
    this.#active = Math.min(this.#shown.length - 1, Math.max(0, start + steps[event.key]));
    this.#rows.reveal(this.#active)?.focus();
  }

  #shortcut(event) {
    if (event.key !== "/" || event.target.matches("input, textarea, select")) return;
    event.preventDefault();
    this.#search.focus();
  }
}

/** Show the fleet in `root`. @returns {{close: () => void}} */
export function mount(root, { session }) {
  return new Fleet(root, session);
}
