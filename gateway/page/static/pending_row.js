/** A device pending approval: its claim code, large enough to compare, and a form to approve or refuse it. */

import { post } from "./api.js";
import { now } from "./clock.js";
import { el, setText } from "./dom.js";
import { age, duration } from "./format.js";
import { tagsOf } from "./tags.js";

const SURE_MS = 5000;
const CONTESTED =
  "Another device has shown the same code: neither can be approved. Refuse it and restart the device.";
const REGISTERED = "This id is registered already. Approving gives it a new token; the old one stops working.";

export class PendingRow {
  #facts = el("p", { class: "note" });
  /** The device's own claims, on a line of their own: a device can claim anything. */
  #info = el("p", { class: "note" });
  #note = el("p", { class: "note caution" });
  #profile = el("input", { type: "text", list: "profiles", autocomplete: "off", autocapitalize: "off" });
  #tags = el("input", {
    type: "text",
    autocomplete: "off",
    autocapitalize: "off",
    placeholder: "room=kitchen, floor=2",
  });
  #replace = el("input", { type: "checkbox", required: true });
  #replaceLabel = el("label", { class: "check" }, this.#replace, "Give it a new token");
  #approve = el("button", { type: "submit", class: "main" }, "Approve");
  #refuse = el("button", { type: "button", class: "danger", onclick: () => this.#refused() }, "Refuse");
  #wrong = el("p", { class: "wrong", role: "alert" });
  node;

  /** @param {{id: string, claim: string}} request @param {(sentence: string) => void} decided */
  constructor({ id, claim }, decided) {
    Object.assign(this, { id, claim, decided });
    this.#approve.setAttribute("aria-label", `Approve ${id} with the code ${claim}`);
    this.#refuse.setAttribute("aria-label", `Refuse ${id} with the code ${claim}`);
    this.node = el(
      "li",
      {},
      el(
        "div",
        { class: "requester" },
        el("code", { class: "claim" }, claim),
        el("b", {}, id),
        this.#facts,
        this.#info,
        this.#note,
      ),
      el(
        "form",
        { class: "decide", onsubmit: (event) => this.#approved(event) },
        el("label", {}, "Profile", this.#profile),
        el("label", {}, "Tags", this.#tags),
        this.#replaceLabel,
        el("div", { class: "actions" }, this.#approve, this.#refuse),
        this.#wrong,
      ),
    );
  }

  show({ address, since, expires, info, contested = false, registered = false, connected = true }) {
    const left = duration(Math.max(0, (expires - now()) / 1000));
    const away = connected ? "" : "; not connected now";
    const asked = age(since, now());
    setText(
      this.#facts,
      `from ${address}, ${asked === "now" ? "just now" : `${asked} ago`}, for another ${left}${away}`,
    );
    const told = Object.entries(info ?? {}).map(([name, value]) => `${name} ${value}`);
    setText(this.#info, `The device says: ${told.join("; ")}`);
    this.#info.hidden = told.length === 0;
    setText(this.#note, contested ? CONTESTED : registered ? REGISTERED : "");
    this.#note.hidden = !contested && !registered;
    this.#profile.placeholder = registered ? "as it is" : "default";
    this.#approve.disabled = contested;
    this.#replaceLabel.hidden = !registered;
    this.#replace.disabled = !registered;
  }

  async #approved(event) {
    event.preventDefault();
    const decision = { claim: this.claim };
    try {
      const tags = tagsOf(this.#tags.value);
      if (Object.keys(tags).length) decision.tags = tags;
    } catch (error) {
      this.#tags.focus();
      return setText(this.#wrong, error.message);
    }
    if (this.#profile.value.trim()) decision.profile = this.#profile.value.trim();
    if (!this.#replace.disabled) decision.replace = this.#replace.checked;
    return this.#decide("approve", decision, `${this.id} is approved. It gets its token on its own connection.`);
  }

  #refused() {
    const { dataset } = this.#refuse;
    if (dataset.sure) return this.#decide("refuse", { claim: this.claim }, `${this.id} is refused.`);
    dataset.sure = "yes";
    setText(this.#refuse, "Really refuse?");
    return setTimeout(() => {
      delete dataset.sure;
      setText(this.#refuse, "Refuse");
    }, SURE_MS);
  }

  async #decide(what, decision, sentence) {
    setText(this.#wrong, "");
    try {
      await post(`/v1/enrolments/${encodeURIComponent(this.id)}/${what}`, decision);
      this.decided(sentence);
    } catch (error) {
      setText(this.#wrong, error.message);
    }
  }
}
