/**
 * The live feed: one `EventSource` for the open view, which reconnects by itself.
 *
 * Rules that hold here:
 * - Without an event for `SILENT_MS` the feed counts as lost, even if the socket is open.
 * - Where events do not come through (behind a proxy that buffers them), the page polls the same data.
 * - A hidden page closes its feed; when it is visible again, it starts anew with `resync`.
 */

import { access, get } from "./api.js";
import { now, setClock } from "./clock.js";

const SILENT_MS = 12_000;
const HIDDEN_MS = 30_000;
const POLL_MS = 5_000;
const MAX_POLLS = 12;
/** How long a view waits for the feed before it loads its data without it. */
const HELLO_MS = 1_500;
const MAX_PAUSE_MS = 15_000;
/** Attempts without one event before the feed falls back to fetching. */
const ATTEMPTS = 3;

/** Events: `readings`, `presence`, `totals` (with `detail`), `resync` (fetch anew), `state`. */
class Live extends EventTarget {
  /** @type {"idle"|"connecting"|"open"|"polling"|"lost"} */
  state = "idle";
  /** When the last event came, by the gateway's clock: the data shown is as old as this. */
  heard = 0;
  #source = null;
  /** The query of `/v1/live`: devices, readings. */
  #filter = "";
  /** Attempts since the last event. */
  #failed = 0;
  /** Timer of the next step: a load without `hello`, another attempt, another poll. */
  #timer = 0;
  /** Timer that closes the feed of a hidden page. */
  #hidden = 0;
  /** When the last event came, by the browser's clock. */
  #newest = 0;

  constructor() {
    super();
    setInterval(() => this.#watch(), 1000);
    document.addEventListener("visibilitychange", () => this.#seen());
    // A browser may keep a page for Back, and with it its feed: one of the six connections that it opens to a host.
    window.addEventListener("pagehide", () => this.#shut());
    window.addEventListener("pageshow", () => this.#seen());
  }

  /** Follow `devices` (all of them if none is named); without `readings`, presence and totals only. */
  follow({ devices = [], readings = true } = {}) {
    const query = new URLSearchParams(devices.map((id) => ["device", id]));
    if (!readings) query.set("readings", "0");
    this.#filter = query.toString();
    this.#failed = 0;
    this.#open();
  }

  /** Try again at once. */
  retry() {
    this.#open();
  }

  stop() {
    this.#shut();
    this.#become("idle");
  }

  #open() {
    this.#shut();
    if (this.state !== "lost") this.#become("connecting");
    this.#newest = Date.now();
    const source = new EventSource(`/v1/live${this.#filter ? `?${this.#filter}` : ""}`);
    this.#source = source;
    this.#timer = setTimeout(() => this.dispatchEvent(new Event("resync")), HELLO_MS);
    source.addEventListener("hello", (event) => {
      clearTimeout(this.#timer);
      setClock(JSON.parse(event.data).now);
      this.#heard();
      this.dispatchEvent(new Event("resync"));
    });
    for (const name of ["readings", "presence", "totals"]) {
      source.addEventListener(name, (event) => {
        this.#heard();
        this.dispatchEvent(new CustomEvent(name, { detail: JSON.parse(event.data) }));
      });
    }
    source.addEventListener("error", () => this.#broke(source));
  }

  #heard() {
    this.#failed = 0;
    this.#newest = Date.now();
    this.heard = now();
    this.#become("open");
  }

  #broke(source) {
    if (source !== this.#source) return;
    this.#become("lost");
    if (source.readyState !== EventSource.CLOSED) return; // it tries again by itself
    access.dispatchEvent(new Event("lost")); // refused: perhaps the login has ended
    this.#failed += 1;
    this.#shut();
    if (this.#failed === 1) this.dispatchEvent(new Event("resync")); // views load their data without the feed
    const pause = Math.min(MAX_PAUSE_MS, 1000 * 2 ** Math.min(this.#failed, 4));
    this.#timer = setTimeout(() => (this.#failed >= ATTEMPTS ? this.#poll() : this.#open()), pause);
  }

  /** Poll until the gateway answers again after it did not, or `MAX_POLLS` is reached; then try the feed again. */
  async #poll(polls = 1, away = false) {
    const source = this.#source;
    let missed = false;
    try {
      const totals = await get("/v1/status");
      if (source !== this.#source) return;
      if (away || polls > MAX_POLLS) return void this.#open();
      this.heard = now();
      this.#become("polling");
      this.dispatchEvent(new CustomEvent("totals", { detail: totals }));
      this.dispatchEvent(new Event("resync"));
    } catch {
      missed = true;
      this.#become("lost");
    }
    if (source === this.#source) this.#timer = setTimeout(() => this.#poll(polls + 1, missed), POLL_MS);
  }

  #watch() {
    if (this.#source === null || Date.now() - this.#newest < SILENT_MS) return;
    this.#failed += 1;
    this.#become("lost");
    if (this.#failed < ATTEMPTS) return this.#open();
    this.#shut();
    return this.#poll();
  }

  #seen() {
    clearTimeout(this.#hidden);
    if (document.hidden) this.#hidden = setTimeout(() => this.state !== "idle" && this.#shut(), HIDDEN_MS);
    else if (this.#source === null && this.state !== "idle") this.#open();
  }

  #shut() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  #become(state) {
    if (state === this.state) return;
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }
}

export const live = new Live();
