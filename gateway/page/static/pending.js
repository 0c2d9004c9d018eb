/** Devices pending approval: a list above the fleet for administrators, hidden while it is empty. */

import { get } from "./api.js";
import { el, setText } from "./dom.js";
import { count } from "./format.js";
import { PendingRow } from "./pending_row.js";
import { Polling } from "./polling.js";

const USUAL_MS = 2000;
/** On a narrow screen the list begins closed, so that it does not push the table out of sight. */
const NARROW = "(max-width: 640px)";

class Pending {
  #polling = new Polling((signal) => this.#load(signal));
  /** @type {Map<string, PendingRow>} by id and claim */
  #rows = new Map();
  #badge = el("b", { class: "badge" });
  #list = el("ul", {});
  #profiles = el("datalist", { id: "profiles" });
  #said = el("p", { class: "said", role: "status", tabindex: "-1" });
  #details;
  node;

  /** @param {() => Iterable<string>} profiles profiles to suggest */
  constructor(profiles) {
    this.profiles = profiles;
    this.#details = el(
      "details",
      { open: !matchMedia(NARROW).matches },
      el("summary", {}, "New devices ", this.#badge),
      el("p", { class: "note" }, "Approve a device only if the device itself shows the same code: any device can use any id."),
      this.#list,
      this.#profiles,
    );
    this.node = el(
      "section",
      { class: "pending", "aria-label": "New devices", hidden: true },
      this.#details,
      this.#said,
    );
    this.#polling.start();
  }

  close() {
    this.#polling.stop();
  }

  async #load(signal) {
    try {
      this.#show((await get("/v1/enrolments", {}, signal)).enrolments);
    } catch {
      // The list stays: if a request has ended meanwhile, the gateway refuses a decision about it.
    }
    return USUAL_MS;
  }

  #show(requests) {
    const waiting = new Map(requests.map((request) => [JSON.stringify([request.id, request.claim]), request]));
    for (const [key, row] of this.#rows)
      if (!waiting.has(key)) {
        row.node.remove();
        this.#rows.delete(key);
      }
    for (const [key, request] of waiting) {
      if (!this.#rows.has(key)) this.#add(key, request);
      this.#rows.get(key).show(request);
    }
    setText(this.#badge, count(this.#rows.size));
    this.#badge.setAttribute("aria-label", `${this.#rows.size} pending`);
    this.#details.hidden = this.#rows.size === 0;
    this.node.hidden = this.#details.hidden && !this.#said.textContent;
  }

  #add(key, request) {
    const row = new PendingRow(request, (sentence) => this.#decided(key, sentence));
    this.#rows.set(key, row);
    this.#list.append(row.node);
    this.#profiles.replaceChildren(...[...new Set(this.profiles())].sort().map((value) => el("option", { value })));
  }

  /** Remove the row, and move the focus to the sentence about the decision. */
  #decided(key, sentence) {
    this.#rows.get(key)?.node.remove();
    this.#rows.delete(key);
    setText(this.#said, sentence);
    this.#said.focus();
    this.#polling.soon();
  }
}

/** The list, which loads itself. */
export function pending(profiles) {
  return new Pending(profiles);
}
