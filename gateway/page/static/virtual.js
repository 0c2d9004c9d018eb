/**
 * A list of any length in a scrolling box: only the rows in sight exist; scrolling moves and refills them.
 * Rows stay in the order of their indexes in the document, so keyboards and screen readers follow the order on the screen.
 */

const SPARE = 6;

export class VirtualRows {
  #viewport;
  #canvas;
  #create;
  #fill;
  #rows = [];
  /** The index of the item in the first row. */
  #first = 0;
  /** How many items there are. */
  #count = 0;
  /** The height of a row in pixels. */
  #height = 1;
  #frame = 0;
  #observer;

  /**
   * @param {HTMLElement} viewport scrolls @param {HTMLElement} canvas is as tall as all rows
   * @param {() => object} create makes a row: an object with `node`
   * @param {(row: object, index: number) => void} fill shows item `index` in a row
   */
  constructor(viewport, canvas, create, fill) {
    [this.#viewport, this.#canvas, this.#create, this.#fill] = [viewport, canvas, create, fill];
    viewport.addEventListener("scroll", () => this.refresh(), { passive: true });
    this.#observer = new ResizeObserver(() => this.#measure());
    this.#observer.observe(viewport);
  }

  close() {
    this.#observer.disconnect();
    cancelAnimationFrame(this.#frame);
  }

  /** How many items there are. */
  setCount(count) {
    this.#count = count;
    this.#measure();
  }

  /** Show the items anew, with the next frame. */
  refresh() {
    if (this.#frame === 0) this.#frame = requestAnimationFrame(() => this.#draw());
  }

  /** @returns {[number, number]} the first index in sight and the one after the last */
  get range() {
    const top = Math.floor(this.#viewport.scrollTop / this.#height);
    return [top, Math.min(this.#count, top + Math.ceil(this.#viewport.clientHeight / this.#height) + 1)];
  }

  /** Scroll as little as it takes to see item `index`. @returns {object|undefined} its row */
  reveal(index) {
    const top = index * this.#height;
    const { scrollTop, clientHeight } = this.#viewport;
    if (top < scrollTop) this.#viewport.scrollTop = top;
    else if (top + this.#height > scrollTop + clientHeight)
      this.#viewport.scrollTop = top + this.#height - clientHeight;
    this.#draw();
    return this.#rows[index - this.#first];
  }

  #measure() {
    this.#height = parseFloat(getComputedStyle(this.#viewport).getPropertyValue("--row")) || 34;
    const wanted = Math.min(this.#count, Math.ceil(this.#viewport.clientHeight / this.#height) + 2 * SPARE);
    while (this.#rows.length > wanted) this.#rows.pop().node.remove();
    while (this.#rows.length < wanted) {
      const row = this.#create();
      this.#rows.push(row);
      this.#canvas.append(row.node);
    }
    this.#canvas.style.height = `${this.#count * this.#height}px`;
    this.refresh();
  }

  #draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const last = Math.max(0, this.#count - this.#rows.length);
    const first = Math.min(last, Math.max(0, Math.floor(this.#viewport.scrollTop / this.#height) - SPARE));
    this.#rotate(first - this.#first);
    this.#first = first;
    this.#canvas.style.setProperty("--offset", `${first * this.#height}px`);
    this.#rows.forEach((row, position) => this.#fill(row, first + position));
  }

  /** Move rows that are out of sight to the other end; the other rows keep their items. */
  #rotate(steps) {
    if (Math.abs(steps) >= this.#rows.length) return;
    for (let step = 0; step < steps; step += 1) {
      const row = this.#rows.shift();
      this.#rows.push(row);
      this.#canvas.append(row.node);
    }
    for (let step = 0; step < -steps; step += 1) {
      const row = this.#rows.pop();
      this.#rows.unshift(row);
      this.#canvas.prepend(row.node);
    }
  }
}
