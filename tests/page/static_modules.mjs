// Tests of the modules that need no DOM. test_static.py copies the modules beside this file and runs it.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Devices, STATES } from "./devices.js";
import { factsOf, limited } from "./device_facts.js";
import { age, bytes, duration, latency, number, rate, reading, roughly } from "./format.js";
import { isObject, parseJson } from "./json.js";
import { answered, recorded, refused } from "./outcomes.js";
import { panelsOf } from "./panels.js";
import { Series } from "./series.js";
import { SNIPPETS } from "./snippets.js";
import { tagsOf } from "./tags.js";
import { linesOf, nested } from "./settings_diff.js";

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
  assert.equal(age(0, 5), "–");
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

test("a field of two measurements has both names as its label", () => {
  const found = [
    { measurement: "telemetry", field: "x", unit: "g", known: true },
    { measurement: "vibration", field: "x", unit: "g", known: true },
    { measurement: "vibration", field: "y", unit: "g", known: true },
    { field: "temp", known: true },
  ];
  const titles = panelsOf(found).map(({ title }) => title);
  assert.deepEqual(titles, ["telemetry: x, vibration: x, y in g", "temp"]);
});

test("snippets hold the address and the token", () => {
  for (const text of Object.values(SNIPPETS)) {
    const filled = text({ host: "gw.example:8080", secure: true, device: "a:b", token: "T0KEN" });
    assert.match(filled, /(wss:\/\/gw\.example:8080\/v1\/devices\/a%3Ab\/stream|https:.*a%3Ab\/readings)/);
    assert.match(filled, /T0KEN/);
  }
});

test("a device that sends by request does not count as offline, in rows, counts, filters and order", () => {
  const devices = new Devices();
  const readings = (id, more) => devices.readings({ devices: { [id]: { last_data: 1, rate: 0, latest: {}, ...more } } });
  const listed = (state, sort = "id") =>
    devices.list({ search: "", state, sort, descending: false }).map(({ id }) => id);
  devices.presence({ device: "live", state: "live", since: 1, by_request: false });
  devices.presence({ device: "gone", state: "offline", since: 1, by_request: false });
  devices.presence({ device: "hook", state: "offline", since: null, by_request: true });
  devices.presence({ device: "fell", state: "offline", since: 1, by_request: false });
  readings("fell", { by_request: true });
  readings("gone", {});
  assert.deepEqual(devices.counts(), { offline: 1, stale: 0, late: 0, "by-request": 2, live: 1 });
  assert.deepEqual([listed("offline"), listed("by-request")], [["gone"], ["fell", "hook"]]);
  assert.deepEqual(listed("", "state"), ["gone", "fell", "hook", "live"]);
  devices.presence({ device: "hook", state: "live", since: 2, by_request: false });
  readings("hook", {});
  assert.deepEqual(listed("live"), ["hook", "live"]);
  assert.equal(STATES.length, Object.keys(devices.counts()).length);
});

test("JSON is what was typed, or refused", () => {
  assert.deepEqual(parseJson('{"a":[1,-2.5,9007199254740991,1e300]}'), { a: [1, -2.5, 9007199254740991, 1e300] });
  assert.throws(() => parseJson('{"a":}'), SyntaxError);
  assert.throws(() => parseJson("[1e999]"), /too large/);
  if (JSON.parse("1", (_key, _value, context) => context?.source === "1"))
    assert.throws(() => parseJson("[12345678901234567891]"), /more digits/);
  assert.deepEqual([{}, [], null, 1].map(isObject), [true, false, false, false]);
});

const twin = (desired, reported, difference, versions = [1, 1]) => ({
  desired: { version: versions[0], settings: desired },
  reported: { version: versions[1], settings: reported },
  difference,
});
const states = (found) => Object.fromEntries(linesOf(found).map(({ path, state }) => [path.join("."), state]));

test("settings key by key", () => {
  const both = twin(
    { a: 1, b: { c: 2, d: [3] }, e: {} },
    { b: { c: 2, x: 0 }, e: {}, f: "own" },
    { a: 1, b: { d: [3] } },
  );
  const said = {
    a: "differs",
    "b.c": "in sync",
    "b.d": "differs",
    "b.x": "reported only",
    e: "in sync",
    f: "reported only",
  };
  assert.deepEqual(states(both), said);
  assert.equal(states(twin({ a: 1 }, {}, { a: 1 }, [2, 1])).a, "pending");
  assert.equal(states(twin({ a: 1 }, {}, { a: 1 }, [1, null])).a, "pending");
  assert.deepEqual(states(twin({ a: { b: 1 } }, { a: 7 }, { a: { b: 1 } })), { a: "differs" });
  assert.deepEqual(states(twin({ a: { b: 1 } }, {}, { a: { b: 1 } })), { "a.b": "differs" });
  const odd = JSON.parse('{"__proto__":{"constructor":1}}');
  assert.deepEqual(states(twin(odd, {}, odd)), { "__proto__.constructor": "differs" });
});

test("the patch for a key within keys", () => {
  assert.equal(nested(["a"], 1), 1);
  assert.deepEqual(nested(["a", "b", "c"], null), { b: { c: null } });
  assert.equal(JSON.stringify(nested(["a", "__proto__"], 1)), '{"__proto__":1}');
});

test("the outcome of a command", () => {
  assert.deepEqual(answered({ id: "c", ok: true, value: 7 }, 0.12), {
    mark: "done",
    word: "done",
    text: `in ${duration(0.12)}`,
    value: 7,
  });
  assert.deepEqual(answered({ id: "c", ok: false, error: "no" }, 1).text, "no");
  assert.equal(answered({ id: "c", keep: true, expires_at: 1 }, 1).word, "kept");
  assert.match(refused({ status: 504, code: "no_answer", message: "" }).text, /not known/);
  assert.match(refused({ status: 409, code: "not_connected", message: "" }).text, /nothing was sent/);
  assert.match(
    refused({ status: 0, code: "unreachable", message: "It did not answer." }).text,
    /^It did not answer\. If/,
  );
  for (const [status, code, message] of [
    [502, "error", "502 Bad Gateway"], // a proxy's page
    [504, "error", "504 Gateway Time-out"],
    [503, "error", "503 Service Unavailable"],
    [500, "internal_server_error", "Internal Server Error"],
    [undefined, undefined, "cannot read properties of null"],
  ])
    assert.deepEqual(refused({ status, code, message }), {
      mark: "unsure",
      word: "no answer of the gateway",
      text: `The answer was: ${message}. If the gateway accepted the command, it is in the history below.`,
    });
  for (const odd of [null, {}, { message: "a page of the proxy" }]) assert.equal(answered(odd, 1).mark, "unsure");
  assert.equal(refused({ status: 504, code: "not_sent", message: "" }).word, "not sent");
  assert.equal(refused({ status: 503, code: "restarting", message: "" }).word, "not sent");
  assert.deepEqual(refused({ status: 429, code: "too_many_commands", message: "100 are open" }).text, "100 are open");
  const entry = { state: "answered", ok: true, sent_at: 1000, ended_at: 1120, expires_at: 2000, error: null };
  assert.equal(plain(recorded(entry).text), "after 120 ms");
  assert.equal(plain(recorded({ ...entry, ended_at: 3000 }).text), "late, after 2.0 s");
  assert.equal(recorded({ ...entry, ok: false }).word, "error");
  assert.equal(recorded({ ...entry, state: "expired", error: "no_answer" }).mark, "unsure");
  assert.equal(recorded({ ...entry, state: "failed", error: "restart" }).word, "gateway restarted");
  assert.equal(recorded({ ...entry, state: "sent" }).mark, "open");
});

test("facts of a device", () => {
  const facts = (more, behind = 0) => factsOf({ rate: 1, ...more }, behind)["Clock"];
  assert.equal(facts({}), null);
  assert.equal(plain(facts({}, 40_000)), "40 s behind, or readings are sent late");
  assert.equal(plain(facts({ clock: { offset_ms: -3, uncertainty_ms: 8, at: 1 } }, 40_000)), "right, to within 8.0 ms");
  assert.equal(
    plain(facts({ clock: { offset_ms: 1500, uncertainty_ms: 20, at: 1 } })),
    "1.5 s behind, to within 20 ms",
  );
  assert.equal(
    plain(facts({ clock: { offset_ms: -90_000, uncertainty_ms: 20, at: 1 } })),
    "1 min ahead, to within 20 ms",
  );
  assert.equal(
    plain(facts({ clock: { offset_ms: -3_599_999.3, uncertainty_ms: 20, at: 1 } })),
    "1 h ahead, to within 20 ms",
  );
  assert.deepEqual([undefined, null, { throttled: false }].map(limited), ["", "", ""]);
  const limits = {
    throttled: true,
    throttles: 2,
    limit: "backlog.readings_per_second",
    observed: 1200,
    allowed: 50,
    at: 1e12,
  };
  assert.equal(limited(limits), "throttled: 1,200 of 50 readings per second of old readings");
  assert.match(factsOf({ limits }, 0)["Throttled"], /^2 times, last at .* for readings per second of old readings$/);
  assert.equal(factsOf({ limits: { throttled: false, throttles: 0 } }, 0)["Throttled"], null);
});

test("tags as a person types them", () => {
  assert.deepEqual(tagsOf(""), {});
  assert.deepEqual(tagsOf(" room=kitchen,floor = 2,"), { room: "kitchen", floor: "2" });
  assert.deepEqual(tagsOf("a=b=c"), { a: "b=c" });
  assert.throws(() => tagsOf("room"), /room/);
  assert.throws(() => tagsOf("=1"), /=1/);
  assert.throws(() => tagsOf("a=1,a=2"), /twice/);
});
