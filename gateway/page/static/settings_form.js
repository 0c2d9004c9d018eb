/**
 * Changing a setting: a key and its value as JSON. The change is based on the version that was on the page when the person
 * began to type. If the settings have changed since then, nothing is saved, and the form says so.
 */

import { devicePath, put } from "./api.js";
import { el, setText } from "./dom.js";
import { JsonField } from "./json_field.js";

export class SettingsForm {
  /** Whether the device is connected, as far as the page knows. */
  connected = false;
  /** The version that the page shows. */
  #version = 0;
  /** The version on which the change in the form is based; null while the form is untouched. */
  #base = null;
  #keys = el("datalist", { id: "setting-keys" });
  #key = el("input", {
    type: "text",
    required: true,
    list: "setting-keys",
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: "false",
  });
  #value = new JsonField({
    label: "Value as JSON; an object changes only the keys it has, null deletes the key",
    rows: 3,
    rule: () => null,
  });
  #save = el("button", { type: "submit", class: "main" }, "Save");
  /** The result of the last save. */
  #said = el("p", { class: "said", role: "status" });
  #abort = new AbortController();
  node;

  /** @param {string} id the device @param {(twin: object) => void} saved @param {() => void} outdated */
  constructor(id, saved, outdated) {
    Object.assign(this, { id, saved, outdated });
    this.node = el(
      "form",
      { class: "setting", onsubmit: (event) => this.#submit(event), oninput: () => this.#begin() },
      el("label", {}, "Key", this.#key, this.#keys),
      this.#value.node,
      this.#save,
      this.#said,
    );
  }

  close() {
    this.#abort.abort();
  }

  /** The page shows `version` now, with these keys. */
  saw(version, keys) {
    this.#version = version;
    const shown = [...this.#keys.children].map((option) => option.value);
    if (JSON.stringify(shown) !== JSON.stringify(keys))
      this.#keys.replaceChildren(...keys.map((value) => el("option", { value })));
  }

  /** Begin to change a key. */
  fill(key, text) {
    this.#base = this.#version;
    this.#key.value = key;
    this.#value.fill(text);
    this.#tell("");
    this.#value.input.focus();
  }

  #begin() {
    this.#base ??= this.#version;
  }

  #tell(text, wrong = false) {
    this.#said.classList.toggle("wrong", wrong);
    setText(this.#said, text);
  }

  async #submit(event) {
    event.preventDefault();
    const read = this.#value.read();
    if (!read || this.#save.disabled) return;
    this.#begin();
    const settings = Object.fromEntries([[this.#key.value, read.value]]);
    this.#save.disabled = true;
    const { signal } = this.#abort;
    try {
      const twin = await put(`${devicePath(this.id)}/settings`, { settings, version: this.#base }, { signal });
      this.#done(twin);
    } catch (error) {
      if (!signal.aborted) this.#failed(error);
    }
    this.#save.disabled = false;
  }

  #done(twin) {
    const { version } = twin.desired;
    const way = this.connected ? "it is on its way to the device" : "the device gets it when it connects";
    this.#tell(
      version === this.#base ? "Nothing to change: the setting has this value already." : `Saved as version ${version}; ${way}.`,
    );
    this.saved(twin);
    this.#base = null;
    this.outdated();
  }

  #failed(error) {
    if (error.code !== "version_conflict") return this.#tell(error.message, true);
    this.#tell(
      "Not saved: somebody else has changed the settings since you began. The current settings are shown above, and your change" +
        " is still in the form. Save again to apply it to them.",
      true,
    );
    this.#base = null;
    return this.outdated();
  }
}
