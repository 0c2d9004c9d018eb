/** Settings of a device: desired beside reported values, key by key, and a form to change them. */

import { devicePath, get } from "./api.js";
import { box } from "./device_boxes.js";
import { el, setAttribute, setText, table } from "./dom.js";
import { moment } from "./format.js";
import { pretty } from "./json.js";
import { Polling } from "./polling.js";
import { SettingsForm } from "./settings_form.js";
import { linesOf, MEANINGS, nested } from "./settings_diff.js";

const USUAL_MS = 3000;
/** While the device has to confirm a version. */
const SOON_MS = 1000;
const MARKS = { "in sync": "done", pending: "open", differs: "failed", "reported only": "none" };
const ABSENT = "–";

function shown(value) {
  return value === undefined ? ABSENT : JSON.stringify(value);
}

/** One key. Narrow screens lay it out as a block, so each cell carries its own label. */
class Line {
  #desired = el("code", {});
  #reported = el("code", {});
  #mark = el("span", { class: "mark", "aria-hidden": "true" });
  #word = el("b", {});
  #line = null;
  #button;
  node;

  constructor({ path }, edit) {
    const name = path.join(" › ");
    this.#button = el("button", { type: "button", onclick: () => edit(this.#line) });
    this.name = name;
    this.node = el(
      "tr",
      { role: "row", "data-key": path.join(".") },
      el("th", { role: "rowheader", scope: "row" }, name),
      el("td", { role: "cell", "data-side": "should be" }, this.#desired),
      el("td", { role: "cell", "data-side": "is" }, this.#reported),
      el("td", { role: "cell", class: "state" }, this.#mark, this.#word),
      el("td", { role: "cell", class: "do" }, this.#button),
    );
  }

  show(line) {
    this.#line = line;
    const own = line.desired === undefined;
    setText(this.#desired, shown(line.desired));
    setText(this.#reported, shown(line.reported));
    setAttribute(this.node, "data-state", line.state);
    setAttribute(this.#mark, "class", `mark ${MARKS[line.state]}`);
    setText(this.#word, line.state);
    setAttribute(this.#word, "title", MEANINGS[line.state]);
    setText(this.#button, own ? "Set" : "Edit");
    setAttribute(this.#button, "aria-label", `${own ? "Set" : "Edit"} ${this.name}`);
  }
}

class Settings {
  #polling = new Polling((signal) => this.#load(signal));
  /** @type {Map<string, Line>} by path */
  #lines = new Map();
  #body = el("tbody", { role: "rowgroup" });
  #versions = el("p", { class: "calm", role: "status" }, "Loading…");
  #form;
  #table;
  node;

  constructor(id) {
    this.id = id;
    this.#form = new SettingsForm(
      id,
      (twin) => this.#show(twin),
      () => this.#polling.soon(),
    );
    this.#table = table("settings", ["Key", "Should be", "Reported by the device", "State", ""], this.#body);
    this.node = el(
      "section",
      { class: "control", "aria-label": "Settings" },
      box("Settings", this.#versions, this.#table),
      box("Change a setting", this.#form.node),
    );
  }

  /** The panel has opened, or the device has connected or disconnected. */
  show(connected) {
    this.#form.connected = connected;
    this.#polling.start();
  }

  hide() {
    this.#polling.stop();
  }

  close() {
    this.#polling.stop();
    this.#form.close();
  }

  async #load(signal) {
    try {
      return this.#show(await get(`${devicePath(this.id)}/settings`, {}, signal));
    } catch (error) {
      if (!signal.aborted) setText(this.#versions, `The settings could not be loaded: ${error.message}`);
      return USUAL_MS;
    }
  }

  /** @returns {number} ms until the next request */
  #show(twin) {
    const lines = linesOf(twin);
    this.#form.saw(twin.desired.version, [...new Set(lines.map(({ path }) => path[0]))]);
    setText(this.#versions, versions(twin));
    this.#table.hidden = lines.length === 0;
    const keys = lines.map(({ path }) => JSON.stringify(path));
    const same = keys.length === this.#lines.size && keys.every((key) => this.#lines.has(key));
    if (!same) this.#arrange(lines, keys);
    lines.forEach((line, at) => this.#lines.get(keys[at]).show(line));
    return lines.some(({ state }) => state === "pending") ? SOON_MS : USUAL_MS;
  }

  /** Make the table anew: the keys have changed. */
  #arrange(lines, keys) {
    const made = lines.map((line, at) => this.#lines.get(keys[at]) ?? new Line(line, (chosen) => this.#edit(chosen)));
    this.#lines = new Map(keys.map((key, at) => [key, made[at]]));
    this.#body.replaceChildren(...made.map((line) => line.node));
  }

  #edit({ path, desired = undefined, reported }) {
    this.#form.fill(path[0], pretty(nested(path, desired === undefined ? reported : desired)));
  }
}

function versions({ desired, reported }) {
  if (!desired.version && !reported.at) return "No settings are set, and the device has reported none.";
  const set = desired.version
    ? `Version ${desired.version}, set on ${moment(desired.changed_at)} by ${desired.by.role} at ${desired.by.address}.`
    : "No settings are set.";
  if (!reported.at) return `${set} The device has reported no settings.`;
  const seen = reported.version === null ? "" : `, when it had version ${reported.version}`;
  return `${set} The device reported at ${moment(reported.at)}${seen}.`;
}

/** The panel of device `id`; it requests nothing before `show()`. */
export function settingsPanel(id) {
  return new Settings(id);
}
