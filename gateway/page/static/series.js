/**
 * One series as the chart draws it: buckets of lowest, mean and highest value, the newest of which grows with the live feed.
 *
 * A gap is a distance without values that the series' own density does not explain. It is kept as a hole, never bridged.
 */

/** Values in an average bucket from which a bucket without any is a gap. */
const DENSE = 3;
const GAP_DENSE = 1.5;
const GAP_SPARSE = 3;

/** Beyond this number the oldest buckets are dropped: a page that stays open for days does not grow. */
const MAX_BUCKETS = 4000;

function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? 0;
}

export class Series {
  times = [];
  low = [];
  mean = [];
  high = [];
  counts = [];

  /** @param {{points: {time: number, min: number, mean: number, max: number, count: number}[]}} answer @param {number} resolution ms */
  constructor({ points = [], resolution_ms: told } = {}, resolution = 0) {
    this.resolution = told ?? resolution;
    for (const point of points) this.#push(point.time, point.min, point.mean, point.max, point.count);
    this.#measure();
  }

  #push(time, low, mean, high, count) {
    this.times.push(time);
    this.low.push(low);
    this.mean.push(mean);
    this.high.push(high);
    this.counts.push(count);
  }

  #measure() {
    const distances = this.times.slice(1).map((time, index) => time - this.times[index]);
    const readings = this.counts.reduce((sum, count) => sum + count, 0);
    const dense = readings >= DENSE * this.counts.length;
    const usual = Math.max(this.resolution, median(distances));
    /** Neighbours further apart than this, in ms, have a gap between them. */
    this.longest = dense ? GAP_DENSE * usual : GAP_SPARSE * usual;
  }

  get newest() {
    return this.times.at(-1) ?? -Infinity;
  }

  /** Whether a bucket stands for more than one value, so that its lowest and highest are worth showing. */
  get downsampled() {
    return this.counts.some((count) => count > 1);
  }

  /** Add a value that came just now; a value older than the newest bucket waits for the next load. */
  append(time, value) {
    const last = this.times.length - 1;
    if (time < this.newest) return;
    if (last < 0 || time >= this.newest + this.resolution) {
      if (time > this.newest) this.#push(time, value, value, value, 1);
      if (this.times.length > MAX_BUCKETS) for (const column of this.#columns) column.shift();
      if (this.longest === 0) this.#measure();
      return;
    }
    const count = this.counts[last] + 1;
    this.low[last] = Math.min(this.low[last], value);
    this.high[last] = Math.max(this.high[last], value);
    this.mean[last] += (value - this.mean[last]) / count;
    this.counts[last] = count;
  }

  get #columns() {
    return [this.times, this.low, this.mean, this.high, this.counts];
  }

  /** Keep the values of the live feed that the database does not have yet. */
  keep(older) {
    older.times.forEach((time, index) => {
      if (time > this.newest && time >= this.newest + this.resolution)
        this.#push(time, older.low[index], older.mean[index], older.high[index], older.counts[index]);
    });
  }

  /** @returns {[number[], (number|null)[], (number|null)[], (number|null)[]]} times, mean, low, high; null makes a gap */
  table() {
    const [times, mean, low, high] = [[], [], [], []];
    const put = (time, ...values) =>
      [times, mean, low, high].forEach((column, index) => column.push([time, ...values][index]));
    this.times.forEach((time, index) => {
      const before = this.times[index - 1];
      if (index > 0 && time - before > this.longest) put(before + Math.max(1, (time - before) / 2), null, null, null);
      put(time, this.mean[index], this.low[index], this.high[index]);
    });
    return [times, mean, low, high];
  }

  /** Whether there is a value from `from` to `to`. */
  within(from, to) {
    return this.times.some((time) => time >= from && time <= to);
  }

  /** @returns {{low: number, mean: number, high: number}|null} of the buckets from `from` to `to` */
  summary(from, to) {
    let [low, high, sum, total] = [Infinity, -Infinity, 0, 0];
    this.times.forEach((time, index) => {
      if (time < from || time > to) return;
      low = Math.min(low, this.low[index]);
      high = Math.max(high, this.high[index]);
      sum += this.mean[index] * this.counts[index];
      total += this.counts[index];
    });
    return total ? { low, mean: sum / total, high } : null;
  }
}
