// What the page's modules without a DOM compute; run by test_static.py, which puts copies of them beside this file.
import assert from "node:assert/strict";
import { test } from "node:test";

import { age, bytes, duration, latency, number, rate, reading, roughly } from "./format.js";
import { Series } from "./series.js";
import { SNIPPETS } from "./snippets.js";

const plain = (text) => text.replaceAll("\u00a0", " ");

function series(times, { count = 1, resolution = 1000 } = {}) {
  const points = times.map((time, index) => ({ time, min: index - 1, mean: index, max: index + 1, count }));
  return new Series({ points, resolution_ms: resolution });
}

test("durations and ages", () => {
  const said = [0.25, 2, 59, 61, 41 * 60, 3 * 3600 + 300, 25 * 3600, 40 * 86400].map((seconds) =>
    plain(duration(seconds)),
  );
  assert.deepEqual(said, ["250 ms", "2 s", "59 s", "1 min", "41 min", "3 h 5 min", "1 d 1 h", "40 d"]);
  assert.deepEqual(
    [2460, 100, 4.4 * 3600, 50 * 86400, 0.4].map((seconds) => plain(roughly(seconds))),
    ["41 min", "100 s", "4 h", "50 d", "0 s"],
  );
  assert.equal(age(0, 5), "never");
  assert.equal(plain(age(1000, 4500)), "3 s");
});

test("numbers keep what a sensor resolves, and no more", () => {
  assert.deepEqual(
    [0, 21.5, 47.610995, 0.00001, 12345678901].map((value) => number(value)),
    ["0", "21.5", "47.611", "1.000e-5", "1.235e+10"],
  );
  assert.equal(number(2039.98, 3), "2040");
  assert.equal(number(null), "–");
  assert.equal(plain(reading(21.5, "°C")), "21.5 °C");
  assert.equal(reading(21.5, {}["constructor"]), "21.5");
  assert.equal(reading("x".repeat(100)).length, 81);
  assert.deepEqual([0, 0.02, 1, 2033.4].map(rate), ["0", "1.2/min", "1.0/s", "2,033/s"]);
  assert.deepEqual([6.12, 18.3, 1340].map(latency).map(plain), ["6.1 ms", "18 ms", "1.3 s"]);
  assert.deepEqual([189, 4_400_000, 2 ** 30].map(bytes).map(plain), ["189 B", "4.2 MiB", "1.0 GiB"]);
});

test("a hole in dense buckets is a gap, the rhythm of a slow device is none", () => {
  const holes = (found) => found.table()[1].filter((value) => value === null).length;
  assert.equal(holes(series([0, 1000, 2000, 4000, 5000], { count: 10 })), 1);
  assert.equal(holes(series([0, 1000, 2000, 4000, 5000])), 0);
  assert.equal(holes(series([0, 60_000, 120_000, 180_000])), 0);
  assert.equal(holes(series([0, 60_000, 120_000, 600_000])), 1);
});

test("the live tail grows the newest bucket, then begins the next", () => {
  const found = series([0, 1000], { count: 2 });
  found.append(1400, 7);
  assert.deepEqual(
    [found.low, found.high, found.counts].map((column) => column.at(-1)),
    [0, 7, 3],
  );
  assert.equal(found.mean.at(-1), 3);
  found.append(2100, 5);
  assert.deepEqual(found.times, [0, 1000, 2100]);
  found.append(900, 99);
  assert.equal(found.times.length, 3);
});

test("an answer of the database keeps the tail that it does not know yet", () => {
  const older = series([0, 1000, 2000, 3000]);
  const fresh = series([0, 1000]);
  fresh.keep(older);
  assert.deepEqual(fresh.times, [0, 1000, 2000, 3000]);
});

test("a summary weighs buckets by their values", () => {
  const found = new Series(
    {
      points: [
        { time: 0, min: 1, mean: 2, max: 3, count: 1 },
        { time: 10, min: 5, mean: 6, max: 9, count: 3 },
      ],
    },
    10,
  );
  assert.deepEqual(found.summary(0, 10), { low: 1, mean: 5, high: 9 });
  assert.equal(found.summary(20, 30), null);
});

test("snippets hold the address and the token", () => {
  for (const text of Object.values(SNIPPETS)) {
    const filled = text({ host: "gw.example:8080", secure: true, device: "a:b", token: "T0KEN" });
    assert.match(filled, /wss:\/\/gw\.example:8080\/v1\/devices\/a%3Ab\/stream/);
    assert.match(filled, /T0KEN/);
  }
});
