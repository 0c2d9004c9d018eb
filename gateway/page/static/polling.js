/** What the live feed does not tell is asked for again and again, one request at a time, while somebody can see it. */

import { live } from "./live.js";

const UNSEEN_MS = 2000;

export class Polling {
  #load;
  #abort = null;
  #timer = 0;

  /** @param {(signal: AbortSignal) => Promise<number>} load never fails; answers in how many ms it wants to be called again */
  constructor(load) {
    this.#load = load;
  }

  /** Ask now, also if a request is under way: what it answers may be old. */
  async start() {
    this.stop();
    const abort = new AbortController();
    this.#abort = abort;
    const idle = document.hidden || live.state === "lost";
    const pause = idle ? UNSEEN_MS : await this.#load(abort.signal);
    if (!abort.signal.aborted) this.#timer = setTimeout(() => this.start(), pause);
  }

  /** There is news; nothing happens while nobody wants any. */
  soon() {
    if (this.#abort !== null) this.start();
  }

  stop() {
    this.#abort?.abort();
    this.#abort = null;
    clearTimeout(this.#timer);
  }
}
