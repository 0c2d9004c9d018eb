/** A field for JSON that is checked during typing. The error is shown below it and linked to it for screen readers. */

import { el, setAttribute, setText } from "./dom.js";
import { parseJson } from "./json.js";

/** No error is shown before a pause in typing of this length. */
const TYPING_MS = 300;

/** Counts the fields made, for ids that are unique. */
let made = 0;

export class JsonField {
  #rule;
  #typing = 0;
  #wrong;
  input;
  node;

  /** @param {{label: string, rows: number, rule: (value: unknown) => string|null}} options `rule` says what is wrong */
  constructor({ label, rows, rule }) {
    made += 1;
    this.#rule = rule;
    this.#wrong = el("p", { class: "wrong", id: `wrong-json-${made}`, role: "status" });
    this.input = el("textarea", {
      rows,
      spellcheck: "false",
      autocapitalize: "off",
      autocomplete: "off",
      "aria-describedby": this.#wrong.id,
      oninput: () => this.#typed(),
    });
    this.node = el("div", { class: "json" }, el("label", {}, label, this.input), this.#wrong);
  }

  #typed() {
    clearTimeout(this.#typing);
    const { wrong } = this.#checked();
    if (wrong) this.#typing = setTimeout(() => this.#tell(wrong), TYPING_MS);
    else this.#tell("");
  }

  #checked() {
    try {
      const value = parseJson(this.input.value);
      return { value, wrong: this.#rule(value) };
    } catch (error) {
      return { wrong: `Not valid JSON: ${error.message}` };
    }
  }

  #tell(wrong) {
    setText(this.#wrong, wrong);
    setAttribute(this.input, "aria-invalid", wrong ? "true" : null);
  }

  fill(text) {
    this.input.value = text;
    this.#typed();
  }

  /** @returns {{value: unknown}|null} what was typed; null if it is wrong; the error is then shown */
  read() {
    clearTimeout(this.#typing);
    const { value, wrong } = this.#checked();
    this.#tell(wrong ?? "");
    if (!wrong) return { value };
    this.input.focus();
    return null;
  }
}
