/** Commands of a device: the form, and every command with its sender and its outcome. */

import { devicePath, get } from "./api.js";
import { CommandForm } from "./command_form.js";
import { box } from "./device_boxes.js";
import { el, setAttribute, setText, table } from "./dom.js";
import { moment } from "./format.js";
import { recorded } from "./outcomes.js";
import { Polling } from "./polling.js";

const USUAL_MS = 3000;
/** While a command is open. */
const SOON_MS = 1000;
const SHOWN = 25;
/** The most that the gateway returns: commands that have ended and open ones. */
const ALL = 300;
const MAX_NAMES = 30;
const OPEN = ["waiting", "sent"];

function said({ state, ok, value, error }) {
  if (state !== "answered") return "–";
  if (!ok) return error;
  return value === null ? "no value" : JSON.stringify(value);
}

function cell(name, ...content) {
  return el("td", { role: "cell", class: name }, ...content);
}

/** A row is made once; the state of the command is filled in later. */
class Row {
  #mark = el("span", { class: "mark", "aria-hidden": "true" });
  #word = el("b", {});
  #text = el("span", { class: "note" });
  #reply = el("code", {});
  node;

  constructor(entry, again) {
    const params = JSON.stringify(entry.params);
    const by = `${entry.by.role} at ${entry.by.address}`;
    const fill = `Fill the form with ${entry.name} again`;
    this.node = el(
      "tr",
      { role: "row", "data-command": entry.id },
      cell("when", moment(entry.created_at)),
      cell(
        "what",
        el("b", {}, entry.name),
        params === "{}" ? null : el("code", {}, params),
        entry.keep ? el("span", { class: "note" }, "kept") : null,
      ),
      cell("state", this.#mark, this.#word, this.#text),
      cell("reply", this.#reply),
      cell("by", by),
      cell("do", el("button", { type: "button", "aria-label": fill, onclick: () => again(entry) }, "Again")),
    );
  }

  show(entry) {
    const { mark, word, text } = recorded(entry);
    setAttribute(this.#mark, "class", `mark ${mark}`);
    setText(this.#word, word);
    setText(this.#text, entry.sends > 1 ? `${text}, sent ${entry.sends} times` : text);
    setText(this.#reply, said(entry));
  }
}

class Commands {
  #polling = new Polling((signal) => this.#load(signal));
  #limit = SHOWN;
  /** @type {Map<string, Row>} */
  #rows = new Map();
  #body = el("tbody", { role: "rowgroup" });
  #said = el("p", { class: "said calm", role: "status" }, "Loading…");
  #more = el("button", { type: "button", hidden: true, onclick: () => this.#all() }, "Show all commands in the history");
  #form;
  #table;
  node;

  constructor(id) {
    this.id = id;
    this.#form = new CommandForm(id, () => this.#polling.soon());
    this.#table = table("commands", ["When", "Command", "State", "Answer", "Sent by", ""], this.#body);
    this.node = el(
      "section",
      { class: "control", "aria-label": "Commands" },
      box("Send a command", this.#form.node),
      box("Command history", this.#said, this.#table, this.#more),
    );
  }

  /** The panel has opened, or the device has connected or disconnected. */
  show() {
    this.#polling.start();
  }

  hide() {
    this.#polling.stop();
  }

  close() {
    this.#polling.stop();
    this.#form.close();
  }

  #all() {
    this.#limit = ALL;
    this.#polling.start();
  }

  async #load(signal) {
    try {
      const { commands } = await get(`${devicePath(this.id)}/commands`, { limit: this.#limit }, signal);
      this.#show(commands);
      return commands.some(({ state }) => OPEN.includes(state)) ? SOON_MS : USUAL_MS;
    } catch (error) {
      if (!signal.aborted) setText(this.#said, `The history could not be loaded: ${error.message}`);
      return USUAL_MS;
    }
  }

  #show(commands) {
    setText(this.#said, commands.length ? "" : "No command was sent to this device yet.");
    this.#table.hidden = commands.length === 0;
    this.#more.hidden = this.#limit === ALL || commands.length < this.#limit;
    this.#form.suggest([...new Set(commands.map(({ name }) => name))].slice(0, MAX_NAMES));
    const known = new Set(commands.map(({ id }) => id));
    for (const [id, row] of this.#rows)
      if (!known.has(id)) {
        row.node.remove();
        this.#rows.delete(id);
      }
    // Rows that exist are not moved, so that they keep the focus: newer rows go above them, older rows below.
    let before = this.#body.firstChild;
    for (const entry of commands) {
      let row = this.#rows.get(entry.id);
      if (row === undefined) {
        row = new Row(entry, (given) => this.#form.again(given));
        this.#rows.set(entry.id, row);
        this.#body.insertBefore(row.node, before);
      } else before = row.node.nextSibling;
      row.show(entry);
    }
  }
}

/** The panel of device `id`; it requests nothing before `show()`. */
export function commandsPanel(id) {
  return new Commands(id);
}
