/** Sending a command: a form that waits for the device's result and shows the outcome. */

import { devicePath, post } from "./api.js";
import { el, setText } from "./dom.js";
import { isObject, pretty } from "./json.js";
import { JsonField } from "./json_field.js";
import { answered, refused } from "./outcomes.js";

const MAX_NAME_LENGTH = 64;
/** Time for the answer to travel, in addition to the time that the device has. */
const GRACE_MS = 10_000;
const WAIT = { label: "Wait for the answer (seconds)", ms: 1000, usual: "10", least: "0.1", most: "120" };
const KEEP = { label: "Keep it for (hours)", ms: 3_600_000, usual: "24", least: "0.01", most: "168" };

/** The outcome of the last command sent; a screen reader reads it out. */
function outcome() {
  const node = el("div", { class: "outcome", role: "status" });
  const show = ({ mark, word, text, value }) => {
    const shown =
      value === undefined || value === null
        ? null
        : el("pre", { tabindex: "0", "aria-label": "Result" }, pretty(value));
    const line = el(
      "p",
      {},
      el("span", { class: `mark ${mark}`, "aria-hidden": "true" }),
      el("b", {}, word),
      " ",
      text,
    );
    node.replaceChildren(line, ...(shown ? [shown] : []));
  };
  return { node, show };
}

export class CommandForm {
  #names = el("datalist", { id: "command-names" });
  #name = el("input", {
    type: "text",
    required: true,
    maxlength: MAX_NAME_LENGTH,
    list: "command-names",
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: "false",
  });
  #params = new JsonField({
    label: "Parameters, a JSON object",
    rows: 3,
    rule: (value) => (isObject(value) ? null : 'Parameters are a JSON object, such as {"delay_s": 3}.'),
  });
  #time = el("input", { type: "number", required: true, step: "any", inputmode: "decimal" });
  #timeLabel = el("span", {});
  #keep = el("input", { type: "checkbox", onchange: () => this.#limits() });
  #send = el("button", { type: "submit", class: "main" }, "Send");
  #outcome = outcome();
  #abort = new AbortController();
  node;

  /** @param {string} id the device @param {() => void} changed is called when the history has changed */
  constructor(id, changed) {
    Object.assign(this, { id, changed });
    this.node = el(
      "form",
      { class: "command", onsubmit: (event) => this.#submit(event) },
      el("label", {}, "Command", this.#name, this.#names),
      el("label", {}, this.#timeLabel, this.#time),
      this.#params.node,
      el("label", { class: "check" }, this.#keep, "Keep until the device connects"),
      this.#send,
      this.#outcome.node,
    );
    this.#params.fill("{}");
    this.#limits();
  }

  /** Stop waiting. The command is not withdrawn: its outcome appears in the history. */
  close() {
    this.#abort.abort();
  }

  suggest(names) {
    const shown = [...this.#names.children].map((option) => option.value);
    if (shown.join("\n") !== names.join("\n"))
      this.#names.replaceChildren(...names.map((value) => el("option", { value })));
  }

  /** Fill the form with a command that was sent before. */
  again({ name, params, keep }) {
    this.#name.value = name;
    this.#params.fill(pretty(params));
    if (this.#keep.checked !== keep) {
      this.#keep.checked = keep;
      this.#limits();
    }
    this.#name.focus();
  }

  #limits() {
    const { label, usual, least, most } = this.#keep.checked ? KEEP : WAIT;
    setText(this.#timeLabel, label);
    Object.assign(this.#time, { min: least, max: most, value: usual });
  }

  async #submit(event) {
    event.preventDefault();
    const params = this.#params.read();
    if (!params || this.#send.disabled) return;
    const keep = this.#keep.checked;
    const timeout = Math.round(Number(this.#time.value) * (keep ? KEEP : WAIT).ms);
    const command = { name: this.#name.value.trim(), params: params.value, timeout_ms: timeout, keep };
    this.#send.disabled = true;
    this.#outcome.show({
      mark: "open",
      word: command.name,
      text: keep ? "is on its way…" : "is sent; the device has not answered yet…",
    });
    setTimeout(this.changed, 200); // it is in the history by then
    await this.#told(command);
    this.#send.disabled = false;
    this.changed();
  }

  async #told(command) {
    const { signal } = this.#abort;
    const longest = (command.keep ? 0 : command.timeout_ms) + GRACE_MS;
    const started = performance.now();
    try {
      const answer = await post(`${devicePath(this.id)}/commands`, command, { signal, longest });
      this.#outcome.show(answered(answer, (performance.now() - started) / 1000));
    } catch (error) {
      if (!signal.aborted) this.#outcome.show(refused(error));
    }
  }
}
