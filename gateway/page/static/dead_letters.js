/** Dead letters: readings that the database refused, with its reason; an administrator can replay or drop them. */

import { get, post, remove } from "./api.js";
import { box } from "./device_boxes.js";
import { el } from "./dom.js";
import { count, moment } from "./format.js";
import { deviceLink } from "./device_row.js";

const PAGE = 50;
const SURE_MS = 5000;
/** The answer comes after all dead letters were tried. */
const REPLAY_MS = 3_600_000;

class DeadLetters {
  #offset = 0;
  /** Only dead letters with this reason are shown; null: all. */
  #reason = null;
  #body = el("tbody", {});
  #filter = el("div", { class: "states", role: "group", "aria-label": "Filter by reason" });
  #actions = el("div", { class: "actions" });
  #pages = el("div", { class: "pages" });
  #said = el("p", { class: "said", role: "status" });
  #table;
  node;

  constructor(admin) {
    this.admin = admin;
    const head = ["When", "Device", "Kind", "Reason of the database", "Point"].map((name) =>
      el("th", { scope: "col" }, name),
    );
    this.#table = el(
      "div",
      { class: "wide" },
      el("table", { class: "letters" }, el("thead", {}, el("tr", {}, ...head)), this.#body),
    );
    this.node = box(
      "Dead letters",
      el("div", { class: "toolbar" }, this.#filter, this.#actions),
      this.#said,
      this.#table,
      this.#pages,
    );
    this.load();
  }

  async load() {
    try {
      const {
        total,
        by_reason: reasons,
        letters,
      } = await get("/v1/dead-letters", { offset: this.#offset, limit: PAGE, reason: this.#reason });
      this.#show(total, reasons, letters);
    } catch (error) {
      this.#said.textContent = `Dead letters could not be loaded: ${error.message}`;
    }
  }

  #show(total, reasons, found) {
    const all = Object.values(reasons).reduce((sum, each) => sum + each, 0);
    this.#table.hidden = found.length === 0;
    if (!found.length && !this.#said.textContent) this.#said.textContent = "There are no dead letters: the database has refused no reading.";
    this.#body.replaceChildren(...found.map(deadLetterRow));
    this.#filter.hidden = all === 0;
    this.#filter.replaceChildren(
      this.#choice(null, "all", all),
      ...Object.entries(reasons).map(([reason, n]) => this.#choice(reason, reason, n)),
    );
    this.#actions.replaceChildren(
      ...(all ? this.#buttons(this.#reason === null ? all : (reasons[this.#reason] ?? 0)) : []),
    );
    const turn = (label, step, off) =>
      el(
        "button",
        {
          type: "button",
          disabled: off,
          onclick: () => {
            this.#offset += step;
            this.load();
          },
        },
        label,
      );
    const last = this.#offset + found.length;
    this.#pages.hidden = total <= PAGE;
    this.#pages.replaceChildren(
      turn("Newer", -PAGE, this.#offset === 0),
      el("span", {}, `${count(this.#offset + 1)} to ${count(last)} of ${count(total)}`),
      turn("Older", PAGE, last >= total),
    );
  }

  #choice(reason, label, n) {
    const choose = () => {
      this.#reason = reason;
      this.#offset = 0;
      this.load();
    };
    return el(
      "button",
      { type: "button", "aria-pressed": String(reason === this.#reason), onclick: choose },
      label,
      " ",
      el("b", {}, count(n)),
    );
  }

  #buttons(n) {
    if (!this.admin) return [el("span", { class: "calm" }, "An administrator can replay them here.")];
    const what = this.#reason === null ? {} : { reason: this.#reason };
    const replay = el("button", { type: "button", class: "main" }, `Replay ${count(n)}`);
    replay.addEventListener("click", () =>
      this.#change(replay, () => post("/v1/dead-letters/replay", what, { longest: REPLAY_MS }), replayed),
    );
    const drop = el("button", { type: "button", class: "danger" }, `Drop ${count(n)}`);
    drop.addEventListener("click", () => {
      if (drop.dataset.sure)
        return this.#change(
          drop,
          () => remove("/v1/dead-letters", what),
          ({ dropped }) => `${count(dropped)} dropped.`,
        );
      drop.dataset.sure = "yes";
      drop.textContent = `Really delete ${count(n)}?`;
      return setTimeout(() => {
        delete drop.dataset.sure;
        drop.textContent = `Drop ${count(n)}`;
      }, SURE_MS);
    });
    return [replay, drop];
  }

  async #change(button, call, sentence) {
    button.disabled = true;
    try {
      this.#said.textContent = sentence((await call()) ?? {});
      this.#offset = 0;
      await this.load();
    } catch (error) {
      this.#said.textContent = error.message;
      button.disabled = false;
    }
  }
}

function replayed({ replayed: stored, refused = 0, stopped }) {
  const again = refused ? ` ${count(refused)} were refused again.` : "";
  return `${count(stored)} are in the database now.${again}${stopped ? ` Stopped early: ${stopped}` : ""}`;
}

function deadLetterRow({ device, reason, message, line, at }) {
  const link = el("a", { href: deviceLink(device) }, device);
  const cells = [moment(at), link, reason, message, el("code", {}, line)];
  return el("tr", {}, ...cells.map((content) => el("td", {}, content)));
}

/** The box, which loads itself; `admin` may replay and drop. */
export function deadLetters(admin) {
  return new DeadLetters(admin);
}
