/** Repeats a request for data that the live feed does not bring, one at a time, while the page is visible. */

import { live } from "./live.js";

const HIDDEN_MS = 2000;

export class Polling {
  #load;
  #abort = null;
  #timer = 0;

  /** @param {(signal: AbortSignal) => Promise<number>} load never fails; resolves to the ms until the next call */
  constructor(load) {
    this.#load = load;
  }

  /** Request now, even if a request is under way: its answer may be old. */
  async start() {
    this.stop();
    const abort = new AbortController();
    this.#abort = abort;
    const idle = document.hidden || live.state === "lost";
    const pause = idle ? HIDDEN_MS : await this.#load(abort.signal);
    if (!abort.signal.aborted) this.#timer = setTimeout(() => this.start(), pause);
  }

  /** Request now because the data has changed; does nothing if polling has stopped. */
  soon() {
    if (this.#abort !== null) this.start();
  }

  stop() {
    this.#abort?.abort();
    this.#abort = null;
    clearTimeout(this.#timer);
  }
}
