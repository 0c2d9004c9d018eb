from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.ledger import NO_SEQ
from gateway.protocol.codec import MAX_READINGS, decode
from gateway.protocol.encoder import MAX_MISSES, Encoder
from gateway.protocol.field_rules import KEPT_SHAPES
from gateway.protocol.messages import Readings
from gateway.protocol.subprotocols import CBOR
from tests.support.sessions import NOW_NS, Bench, encoder

if TYPE_CHECKING:
    import pytest

FIELDS = ["temp", "hum", "x1", "x2", "pm2.5", "7", "-", "a-1.b", "é", "e5"]
STYLES = st.sampled_from([(",", ":"), (", ", ": ")])
NUMBERS = st.integers(-(2**63), 2**64 - 1).map(str) | st.floats(allow_nan=False, allow_infinity=False).map(repr)
DECIMALS = st.integers(-(10**9), 10**9).map(lambda thousandths: f"{thousandths / 1000:.3f}")
ODD = ["-0", "0", "-0.0", "1.50", "1e5", "1E-7", "01", ".5", "1.", "-", "1.2.3", "1-2", "0.00000001", "", " 1", "1 2"]
ODD += ["NaN", "null", "true", '"x"', "{}", "[]", "1}", "1]", "1,2", '1,"temp":3', "9" * 30, "9" * 400, "0." + "3" * 60]
TIMES = st.integers(10**11, 9_223_372_036_854).map(str)
ODD_TIMES = ["99999999999", "9223372036855", "1700000000000.0", "-1700000000000", "null", '"x"', ""]
SEQS = st.integers(0, 2**53).map(str)
ODD_SEQS = ["-1", "9007199254740993", "1.0", "null", "", "-0", "00"]


class LongWay(Encoder):
    """Recognises nothing."""

    __slots__ = ()

    def recognised(self, _data: bytes, _now_ns: int) -> None:
        pass


def text(seq: str, names: list[str], rows: list[tuple[str, list[str]]], style: tuple[str, str]) -> bytes:
    comma, colon = style

    def written(pairs: list[tuple[str, str]]) -> str:
        return "{" + comma.join(f'"{name}"{colon}{value}' for name, value in pairs) + "}"

    readings = [written([("ts", ts), ("values", written(list(zip(names, row, strict=True))))]) for ts, row in rows]
    return written([("seq", seq), ("readings", f"[{comma.join(readings)}]")]).encode()


@st.composite
def messages(draw: st.DrawFn, *, odd: bool) -> tuple[list[str], bytes]:
    """The names in a message and its text, perhaps with something wrong in it."""
    names = draw(st.lists(st.sampled_from(FIELDS), min_size=1, max_size=4, unique=True))
    values, times, seqs = (DECIMALS | NUMBERS.filter(lambda text: "e" not in text)), TIMES, SEQS
    if odd:
        values |= st.sampled_from(ODD)
        times |= st.sampled_from(ODD_TIMES)
        seqs |= st.sampled_from(ODD_SEQS)
    row = st.tuples(times, st.lists(values, min_size=len(names), max_size=len(names)))
    data = text(draw(seqs), names, draw(st.lists(row, min_size=1, max_size=4)), draw(STYLES))
    return names, data


def expecting(names: list[str], profile: dict[str, Any] | None = None) -> Encoder:
    """An encoder that has met `FIELDS`, and a message with ``names``."""
    made = encoder(profile)
    made.encode(Readings(NO_SEQ, [{"values": dict.fromkeys(FIELDS, 1)}]), NOW_NS)
    made.encode(Readings(NO_SEQ, [{"ts": NOW_NS // 1_000_000, "values": dict.fromkeys(names, 1)}] * 2), NOW_NS)
    assert made.shape == tuple(names)
    return made


def check(names: list[str], data: bytes) -> bool:
    """Whether a message was recognised; if so, the long way makes the same of it."""
    short = expecting(names)
    rows = short.recognised(data, NOW_NS)
    if rows is None:
        return False
    message = decode(data)
    assert isinstance(message, Readings)
    assert (rows.seq, rows.count) == (message.seq, message.count)
    assert short.encode(rows, NOW_NS) == short.encode(message, NOW_NS)
    return True


@given(messages(odd=False))
def test_a_message_of_numbers_in_the_shape_of_the_last_is_recognised(message: tuple[list[str], bytes]) -> None:
    assert check(*message)


@settings(max_examples=200)
@given(messages(odd=True))
def test_a_recognised_message_is_what_the_long_way_reads(message: tuple[list[str], bytes]) -> None:
    check(*message)


def test_each_odd_number_by_itself() -> None:
    ordinary = [("1", "1700000000000", "1")]
    odd = [("1", "1700000000000", value) for value in ODD] + [("1", ts, "1") for ts in ODD_TIMES]
    for seq, ts, value in ordinary + odd + [(seq, "1700000000000", "1") for seq in ODD_SEQS]:
        check(["temp"], text(seq, ["temp"], [(ts, [value]), ("1700000000001", ["2"])], (",", ":")))


@settings(max_examples=300)
@given(
    messages(odd=False),
    st.lists(st.tuples(st.integers(0), st.integers(0, 3), st.sampled_from([*' ,:"{}[]0-.1xe\\é', "", "},{"]))),
)
@example((["x1", "x2"], b'{"seq":1,"readings":[{"ts":100000000000,"values":{"x1":1,"x2":2}}]}'), [(47, 1, "1")])
def test_a_few_bytes_more_or_less_are_noticed(
    message: tuple[list[str], bytes], changes: list[tuple[int, int, str]]
) -> None:
    names, data = message
    for at, gone, instead in changes:
        start = at % len(data)
        data = data[:start] + instead.encode() + data[start + gone :]
    check(names, data)


BATCH = b'{"seq":%d,"readings":[{"ts":1700000000123,"values":{"a":%d}},{"ts":1700000000124,"values":{"a":1}}]}'


def test_the_second_message_of_a_shape_is_not_read_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench().ready()
    bench.send_bytes(BATCH % (1, 1))  # its names are new
    bench.send_bytes(BATCH % (2, 1))
    monkeypatch.setattr(Encoder, "_encode_ordinary", None)
    (entry,) = bench.send_bytes(BATCH % (3, 2))
    assert entry["stores"]["lines"] == [
        "telemetry,device=d1 a=2 1700000000123000000",
        "telemetry,device=d1 a=1 1700000000124000000",
    ]
    assert bench.queue[-1].latest == {"a": 1}
    assert bench.send_bytes(BATCH % (3, 2)) == [{"stores": {"boot": "b1", "seq": 3, "duplicate": 2}}]


def test_latest_is_of_the_last_of_the_newest() -> None:
    rows = [("1700000000002", ["1"]), ("1700000000002", ["2"]), ("1700000000001", ["3"])]
    short = expecting(["temp"])
    recognised = short.recognised(text("1", ["temp"], rows, (",", ":")), NOW_NS)
    assert recognised is not None
    encoded = short.encode(recognised, NOW_NS)
    assert (encoded.latest, encoded.time_ns) == ({"temp": 2}, 1_700_000_000_002_000_000)


def test_no_more_readings_than_a_message_may_have() -> None:
    rows = [("1700000000000", ["1"])] * MAX_READINGS
    assert check(["temp"], text("1", ["temp"], rows, (",", ":")))
    assert not check(["temp"], text("1", ["temp"], rows + rows[:1], (",", ":")))


def test_a_shape_is_forgotten_when_the_type_of_a_field_is_doubted() -> None:
    bench = Bench().ready()
    for seq in (1, 2):
        bench.send_bytes(BATCH % (seq, 1))
    assert bench.encoder.recognised(BATCH % (3, 1), NOW_NS) is not None
    bench.encoder._book._types.doubt("telemetry", ["a"])
    assert bench.encoder.recognised(BATCH % (3, 1), NOW_NS) is None


def test_times_outside_of_the_bounds_go_the_long_way() -> None:
    made = expecting(["temp"], {"timestamps": {"max_future": "1s", "when_outside": "refuse"}})
    rows = [(str(NOW_NS // 1_000_000 + off), ["1"]) for off in (0, 1000, -5, 1001)]
    assert made.recognised(text("1", ["temp"], rows[:3], (",", ":")), NOW_NS) is not None
    assert made.recognised(text("1", ["temp"], rows, (",", ":")), NOW_NS) is None
    assert made.recognised(text("1", ["temp"], rows, (",", ":")), NOW_NS + 1_000_000) is not None


def test_no_shape_is_expected_of_a_device_that_never_repeats_one() -> None:
    made = expecting(["temp"])
    for number in range(MAX_MISSES):
        names = FIELDS[: 1 + number % 2]
        made.encode(Readings(NO_SEQ, [{"ts": 10**12, "values": dict.fromkeys(names, 1)}] * 2), NOW_NS)
    assert made.shape is None


def test_shapes_are_bounded() -> None:
    made = encoder()
    for number in range(3 * KEPT_SHAPES):
        for _ in range(2):
            made._misses = 0
            made.encode(Readings(NO_SEQ, [{"ts": 10**12, "values": {f"a{number}": 1}}]), NOW_NS)
        assert 0 < len(made._rules.shapes) <= KEPT_SHAPES


def test_only_json_is_read_as_json() -> None:
    bench = Bench(subprotocol=CBOR).ready()
    for seq in range(4):
        (entry,) = bench.send(json.loads(BATCH % (seq, 1)))
        assert len(entry["stores"]["lines"]) == 2


SCRIPT = st.lists(
    st.tuples(
        st.integers(0, 9) | st.just(-1) | st.just(2**53 + 1),
        st.lists(st.tuples(st.integers(10**11 - 1, 10**12), NUMBERS | st.sampled_from(ODD)), min_size=1, max_size=3),
        st.sampled_from(["none", "commit", "fail"]),
        st.booleans(),
    ),
    max_size=12,
)


@given(SCRIPT)
def test_a_session_does_the_same_either_way(script: list[tuple[int, list[tuple[int, str]], str, bool]]) -> None:
    short, long = Bench(max_unacked=3).ready(), Bench(max_unacked=3).ready()
    long.encoder.__class__ = LongWay
    for seq, rows, then, room in script:
        data = text(str(seq), ["temp"], [(str(ts), [value]) for ts, value in rows], (",", ":"))
        sent: list[Any] = [bench.send_bytes(data, room=room, after_ms=1) for bench in (short, long)]
        assert sent[0] == sent[1]
        if then == "commit":
            assert short.commit() == long.commit()
        elif then == "fail":
            assert short.commit_fails() == long.commit_fails()
    assert short.queue == long.queue
    assert short.ledger.account("d1") == long.ledger.account("d1")
