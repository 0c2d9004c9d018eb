/**
 * One device: its state, its history and live tail, its refused readings and the stages of its readings. Commands and
 * settings have tabs of their own, which are links like any other view.
 */

import { devicePath, get } from "./api.js";
import { now } from "./clock.js";
import { commandsPanel } from "./commands.js";
import { DeviceCharts } from "./device_charts.js";
import { MEANINGS, said, stateOf } from "./devices.js";
import { el, placeholder, setAttribute, setText } from "./dom.js";
import { NONE_YET, age, moment } from "./format.js";
import { factsBox, ledgerBox, problemsBox, valuesBox } from "./device_boxes.js";
import { factsOf, limited } from "./device_facts.js";
import { live } from "./live.js";
import { deviceLink } from "./device_row.js";
import { settingsPanel } from "./settings.js";
import { whyForm } from "./why.js";

const REFRESH_MS = 5000;
const TABS = { data: "Data", commands: "Commands", settings: "Settings" };
const PANELS = { commands: commandsPanel, settings: settingsPanel };

function tabOf(query) {
  return Object.hasOwn(TABS, query.get("tab")) ? query.get("tab") : "data";
}

class DeviceView {
  #abort = new AbortController();
  #mark = el("span", { class: "mark", "aria-hidden": "true" });
  #state = el("b", {});
  #since = el("span", {});
  #data = el("span", {});
  #limits = el("span", { class: "limits" });
  #facts = factsBox();
  #body = el("div", { class: "device" });
  #values = valuesBox();
  #ledger = ledgerBox();
  #problems = problemsBox();
  #charts;
  #dataTab;
  #links = Object.entries(TABS).map(([tab, title]) => [tab, el("a", {}, title)]);
  #tabs = el("nav", { class: "tabs", "aria-label": "Views of this device" }, ...this.#links.map(([, link]) => link));
  /** The content of the open tab. The tabs themselves are not replaced, so that they keep the focus. */
  #content = el("div", {});
  /** Panels that were open, by tab: they keep text that is half typed. */
  #panels = {};
  #presence;
  /** The last answer of `/v1/devices/{id}`; null before the first. */
  #device = null;
  /** When data arrived last, in ms by the gateway's clock; 0: none since the gateway started. */
  #lastData = 0;
  /** How far the time of the newest reading was behind its arrival, in ms. */
  #behind = 0;

  constructor(root, { id, query, session, go, logIn }) {
    Object.assign(this, { id, query, go, session, logIn, tab: tabOf(query) });
    this.#charts = new DeviceCharts(id, (range) => go(`/devices/${encodeURIComponent(id)}`, range));
    this.#dataTab = el(
      "section",
      { class: "history", "aria-label": "History" },
      ...this.#charts.nodes,
      this.#problems.node,
    );
    this.#presence = el(
      "p",
      { class: "presence" },
      this.#mark,
      this.#state,
      " ",
      this.#since,
      el("span", { class: "data" }, "Last data ", this.#data),
      this.#limits,
    );
    root.append(
      el("p", { class: "crumb" }, el("a", { href: "#/" }, "Fleet")),
      el("h1", { class: "device-id" }, id),
      this.#presence,
      this.#body,
    );
    this.#body.append(placeholder("loading", "Loading the device…", ""));
    this.#listen();
    live.follow({ devices: [id] });
  }

  close() {
    this.#abort.abort();
    this.#charts.close();
    Object.values(this.#panels).forEach((panel) => panel.close());
  }

  #listen() {
    const { signal } = this.#abort;
    const on = (name, handler) => live.addEventListener(name, handler, { signal });
    on("resync", () => this.#load());
    on("readings", (event) => this.#readings(event.detail.devices[this.id]));
    on("presence", ({ detail }) => detail.device === this.id && this.#changed(detail));
    const ticking = setInterval(() => this.#tick(), 1000);
    const refreshing = setInterval(() => this.#device && live.state !== "lost" && this.#refresh(), REFRESH_MS);
    signal.addEventListener("abort", () => [ticking, refreshing].forEach(clearInterval));
  }

  async #load() {
    const { signal } = this.#abort;
    try {
      const device = await get(devicePath(this.id), {}, signal);
      const first = this.#device === null;
      if (first) await this.#charts.load(device, signal);
      if (signal.aborted) return;
      if (first) this.#body.replaceChildren(el("div", { class: "history" }, this.#tabs, this.#content), this.#aside());
      this.#show(device);
      if (first) this.#open();
      else this.#charts.reload();
    } catch (error) {
      if (signal.aborted || this.#device || error.status === 401) return;
      const unknown = error.status === 404;
      const again = { label: "Try again", run: () => this.#load() };
      this.#body.replaceChildren(
        placeholder(
          "error",
          unknown ? "There is no such device." : "The device could not be loaded.",
          error.message,
          again,
        ),
      );
    }
  }

  async #refresh() {
    const device = await get(devicePath(this.id), {}, this.#abort.signal).catch(() => null);
    if (device && !this.#abort.signal.aborted) this.#show(device);
  }

  #aside() {
    return el("div", { class: "aside" }, this.#values.node, this.#ledger.node, this.#facts.node, whyForm(this.id));
  }

  /** Another tab, or another range, of the same device. */
  ranged(query) {
    const tab = tabOf(query);
    Object.assign(this, { query, tab });
    if (this.#device) this.#open();
  }

  #open() {
    const { tab, query } = this;
    this.#showTabs();
    for (const [name, panel] of Object.entries(this.#panels)) if (name !== tab) panel.hide();
    if (tab === "data") {
      this.#turnTo(this.#dataTab);
      return this.#charts.show(query);
    }
    this.#charts.pause();
    this.#panels[tab] ??= this.session.role === "admin" ? PANELS[tab](this.id) : adminsOnly(TABS[tab], this.logIn);
    this.#turnTo(this.#panels[tab].node);
    return this.#panels[tab].show(this.#device.connected);
  }

  #turnTo(node) {
    if (!node.isConnected) this.#content.replaceChildren(node);
  }

  #showTabs() {
    for (const [tab, link] of this.#links) {
      const query = new URLSearchParams(this.query);
      query.delete("tab");
      if (tab !== "data") query.set("tab", tab);
      link.href = `${deviceLink(this.id)}${query.size ? "?" : ""}${query}`;
      setAttribute(link, "aria-current", tab === this.tab ? "page" : null);
    }
  }

  #show(device) {
    this.#device = device;
    this.#showPresence(stateOf(device), device.state_since, device.state_reason);
    this.#lastData = Math.max(this.#lastData, device.last_data ?? 0);
    this.#values.show(device.latest, device.units ?? {});
    this.#ledger.show(device.ledger);
    this.#problems.show(device.problems ?? []);
    this.#facts.show(factsOf(device, this.#behind));
    setText(this.#limits, limited(device.limits));
    this.#tick();
  }

  #changed(changed) {
    this.#showPresence(stateOf(changed), changed.since, changed.reason);
    if (!this.#device) return;
    this.#device.connected = changed.state !== "offline";
    this.#panels[this.tab]?.show(this.#device.connected);
  }

  #showPresence(state, since, reason) {
    this.#presence.classList.add("known");
    setAttribute(this.#mark, "class", `mark ${state}`);
    setText(this.#state, said(state));
    this.#state.title = MEANINGS[state] ?? "";
    const told = since && state !== "by-request"; // for that state, `since` is when the last socket closed
    setText(
      this.#since,
      told ? `since ${moment(since)}${reason && reason !== "connected" ? ` (${reason})` : ""}` : "",
    );
  }

  #readings(changed) {
    if (!changed) return;
    if (changed.by_request) this.#showPresence("by-request", null, null);
    this.#behind = changed.last_data - (changed.time ?? changed.last_data);
    this.#lastData = changed.last_data;
    if (this.#device) this.#values.show(changed.latest, this.#device.units ?? {});
    this.#charts.append(changed);
    this.#tick();
  }

  #tick() {
    const text = this.#lastData ? age(this.#lastData, now()) : NONE_YET;
    setText(this.#data, text === NONE_YET || text === "now" ? text : `${text} ago`);
    this.#charts.slide();
  }
}

/** Shown in place of a panel to a person who is not an administrator. */
function adminsOnly(title, logIn) {
  const text = logIn
    ? "Parameters and settings may be secrets. Log in with the administrator's token to see and change them."
    : "Parameters and settings may be secrets. To see them, set auth.admin_token in the configuration and log in with it.";
  const node = placeholder("empty", `${title} are for administrators.`, text, logIn && { label: "Log in", run: logIn });
  return { node, show() {}, hide() {}, close() {} };
}

/** Show a device in `root`. @returns {{close: () => void, ranged: (query: URLSearchParams) => void}} */
export function mount(root, options) {
  return new DeviceView(root, options);
}
