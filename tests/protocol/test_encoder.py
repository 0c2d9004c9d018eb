from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import MessageError
from gateway.ledger import NO_SEQ
from gateway.line_protocol import parse_line, split_lines
from gateway.protocol.codec import decode
from gateway.protocol.encoder import RESERVED, Encoder
from gateway.protocol.field_rules import too_deep
from gateway.protocol.messages import Readings
from tests.support.readings import FLOATS, NAMES, TEXT
from tests.support.sessions import NOW_NS, encoder

if TYPE_CHECKING:
    from gateway.protocol.time_bounds import Vetting

VALUES = st.one_of(FLOATS, st.integers(-(2**63), 2**64 - 1), st.booleans(), TEXT)
STAMPS = st.one_of(st.none(), st.integers(10**11, 9_223_372_036_853), st.integers(0, 9_000_000_000))
READINGS = st.lists(st.tuples(st.dictionaries(NAMES, VALUES, min_size=1, max_size=4), STAMPS), max_size=5)


def of_one_type(readings: list[tuple[dict[str, Any], int | None]]) -> bool:
    """Whether every field is numbers, texts or booleans throughout: what else there is, is refused."""
    types = {(name, type(as_float(value))) for values, _ in readings for name, value in values.items()}
    return len(types) == len({name for name, _ in types})


def encode(*readings: Any, now_ns: int = NOW_NS, **message: Any) -> Any:
    return encoder().encode(Readings(NO_SEQ, readings, **message), now_ns)


def as_float(value: Any) -> Any:
    return float(value) if type(value) is int else value


@given(READINGS.filter(of_one_type))
def test_the_lines_mean_what_the_message_means(readings: list[tuple[dict[str, Any], int | None]]) -> None:
    """Fields as sent, numbers as floats, times as given or made unique."""
    sent = [{"values": values} | ({} if ts is None else {"ts": ts}) for values, ts in readings]
    encoded = encode(*sent)
    assert (encoded.received, encoded.lines, encoded.rejects) == (len(sent), len(sent), [])
    times = []
    for line, (values, ts) in zip(split_lines(encoded.payload, encoded.lines), readings, strict=True):
        measurement, tags, fields, time_ns = parse_line(line)
        assert (measurement, tags) == ("telemetry", {"device": "d1"})
        assert fields == {name: as_float(value) for name, value in values.items()}
        if ts is None:
            times.append(time_ns)
        else:
            assert time_ns == ts * (1_000_000 if ts >= 10**11 else 1_000_000_000)
    assert times == list(range(NOW_NS, NOW_NS + len(times)))


NOW_MS = NOW_NS // 1_000_000


class LongWay(Encoder):
    """Takes no message for an ordinary one."""

    __slots__ = ()

    def _encode_ordinary(self, message: Readings, vetting: Vetting | None) -> None:
        pass


# No exponents, which the two ways may write differently.
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.integers(-(10**9), 10**9).map(lambda thousandths: thousandths / 1000)
FIELDS = ["a", "b", "c d", "[e]", "f}", 'g"', "h:", "i,", "é"]
NEARLY_ORDINARY = st.fixed_dictionaries(
    {
        "ts": st.integers(10**11, 10**12) | st.integers(NOW_MS - 2_000, NOW_MS + 2_000),
        "values": st.sampled_from(FIELDS).flatmap(
            lambda name: st.dictionaries(st.sampled_from(["a", "é", name]), NUMBERS, min_size=1)
        ),
    }
)
ODD = st.one_of(
    st.fixed_dictionaries({"ts": st.just(5), "values": st.just({"a": 1})}),
    st.fixed_dictionaries({"ts": st.just(10**12), "values": st.sampled_from([{}, {"a": True}, {"z": "x"}, [], None])}),
    st.sampled_from([{"a": 1}, [], None, {"ts": 10**12, "m": "n", "values": {"a": 1}}]),
)


@pytest.mark.parametrize("when_outside", ["keep", "refuse", "correct"])
@given(st.lists(st.lists(NEARLY_ORDINARY, max_size=4) | st.lists(NEARLY_ORDINARY | ODD, max_size=4), max_size=4))
def test_the_short_way_of_ordinary_readings_writes_what_the_long_way_does(
    when_outside: str, messages: list[list[Any]]
) -> None:
    profile = {"timestamps": {"max_future": "1s", "max_age": "1s", "when_outside": when_outside}}
    short, long = encoder(profile), encoder(profile)
    long.__class__ = LongWay
    for each in (short, long):  # a name is ordinary once it was met
        assert each.encode(Readings(NO_SEQ, [{"values": dict.fromkeys(FIELDS, 1)}]), NOW_NS).rejects == []
    for readings in messages:
        assert short.encode(Readings(NO_SEQ, readings), NOW_NS) == long.encode(Readings(NO_SEQ, readings), NOW_NS)


@pytest.mark.parametrize(
    ("off_ms", "ordinary"), [(-1001, False), (-1000, True), (0, True), (1000, True), (1001, False)]
)
def test_a_reading_within_the_bounds_is_ordinary(off_ms: int, ordinary: bool) -> None:
    made = encoder({"timestamps": {"max_future": "1s", "max_age": "1s", "when_outside": "refuse"}})
    reading = {"ts": NOW_MS + off_ms, "values": {"a": 1}}
    made.encode(Readings(NO_SEQ, [{"a": 1}]), NOW_NS)
    assert (made.ordinary(reading, 2, NOW_NS) is not None) is ordinary
    assert encoder().ordinary(reading, 2, NOW_NS) is None, "a name that was not met"


@given(READINGS)
def test_flat_and_with_values_are_the_same(readings: list[tuple[dict[str, Any], int | None]]) -> None:
    for values, ts in readings:
        flat = {name: value for name, value in values.items() if name not in RESERVED}
        assert encode({"ts": ts, **flat}).payload == encode({"ts": ts, "values": flat}).payload


def test_a_numbered_entry() -> None:
    encoded = encode({"ts": 1, "values": {"a": 1}}, {"a": []})
    entry = encoded.entry(NOW_NS, "b", 7, 2)
    assert (entry.device, entry.boot, entry.seq, entry.lines, entry.rejected, entry.gaps) == ("d1", "b", 7, 1, 1, 2)
    assert (entry.received, entry.accepted, entry.duplicate) == (2, 1, 0)
    assert entry.payload == b"telemetry,device=d1 a=1 1000000000\n"
    assert (entry.arrived_ns, entry.latest, entry.time_ns) == (NOW_NS, {"a": 1}, 1_000_000_000)
    assert entry.verdicts == (b'[{"index":1,"field":"a","code":"wrong_type","message":"expected float, got array"}]')


def test_latest_is_of_the_newest_point_whatever_the_order() -> None:
    encoded = encode(
        {"ts": 2, "values": {"a": 2}}, {"ts": 3, "values": {"a": 3, "b": {"c": 4}, "d": None}}, {"ts": 1, "a": 1}
    )
    assert (encoded.latest, encoded.time_ns) == ({"a": 3, "b.c": 4}, 3_000_000_000)
    before_1970 = encode({"ts": -5, "a": 1})
    assert (before_1970.latest, before_1970.time_ns) == ({"a": 1}, -5_000_000_000)
    nothing = encode({"a": []})
    assert (nothing.latest, nothing.time_ns) == (None, 0)


def test_latest_of_a_flat_reading_has_no_keys_but_fields() -> None:
    assert encode({"seq": 1, "ts": 1, "m": "x", "a": 1}).latest == {"a": 1}


def test_moments_of_arrival_never_repeat_even_if_the_clock_does() -> None:
    some = encoder()
    times = []
    for now in (NOW_NS, NOW_NS, NOW_NS - 10**9, NOW_NS + 1, NOW_NS + 10):
        payload = some.encode(Readings(NO_SEQ, ({"a": 1}, {"a": []}, {"a": 2})), now).payload
        times += [parse_line(line)[3] for line in split_lines(payload, 2)]
    assert len(set(times)) == len(times)
    assert times == sorted(times)
    assert times[-2:] == [NOW_NS + 10, NOW_NS + 11]


def test_the_error_of_a_whole_message_has_place_number_and_readings() -> None:
    deep = {"a": {"b": {"c": {"d": 1}}}}
    with pytest.raises(MessageError) as caught:
        encoder().encode(Readings(7, ({"x": 1}, deep)), NOW_NS)
    assert (caught.value.code, caught.value.seq, caught.value.readings) == ("bad_message", 7, 2)
    assert caught.value.message == "reading 1: expected at most 3 levels of objects"
    with pytest.raises(MessageError) as caught:
        encoder().encode(Readings(NO_SEQ, ({"values": deep},)), NOW_NS)
    assert caught.value.seq is None


@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [
        ({"a": "1"}, None, {"a": "1"}),
        ({"a": "1"}, {"b": "2"}, {"a": "1", "b": "2"}),
        ({"a": "1"}, {"a": "2"}, {"a": "2"}),
        ({"a": "1"}, {"a": None}, {}),
        (None, {"a": "1"}, {"a": "1"}),
    ],
)
def test_tags_of_message_and_reading(outer: Any, inner: Any, expected: dict[str, str]) -> None:
    some = encoder({"allowed_tags": ["a", "b"]})
    payload = some.encode(Readings(NO_SEQ, ({"tags": inner, "x": 1},), None, outer), NOW_NS).payload
    assert parse_line(payload)[1] == {"device": "d1", **expected}


@pytest.mark.parametrize(("outer", "inner"), [(["a"], None), (["a"], {"b": "2"}), ({"a": "1"}, "a"), (5, {})])
def test_tags_that_are_not_an_object_are_refused_everywhere(outer: Any, inner: Any) -> None:
    [fault] = encode({"tags": inner, "x": 1}, tags=outer).rejects
    assert (fault["code"], fault["field"]) == ("wrong_type", "tags")


JSON: Any = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), FLOATS, st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=4)),
    max_leaves=12,
)
KEYS = st.one_of(st.sampled_from(sorted(RESERVED)), st.text(max_size=3))


@given(st.lists(st.one_of(JSON, st.dictionaries(KEYS, JSON, max_size=6)), max_size=6))
def test_every_reading_is_stored_refused_or_empty_whatever_it_is(items: list[Any]) -> None:
    try:
        encoded = encode(*items)
    except MessageError:
        assert any(too_deep(item) for item in items)
        return
    assert encoded.received == encoded.lines + len(encoded.rejects) <= len(items)
    assert len({fault["index"] for fault in encoded.rejects}) == len(encoded.rejects)
    for line in split_lines(encoded.payload, encoded.lines):
        parse_line(line)


def test_a_whole_message_from_text_to_lines() -> None:
    message = decode(b'{"seq":1,"m":"vib","readings":[{"ts":1700000000123,"values":{"x":0.5,"y":-1}}]}')
    assert isinstance(message, Readings)
    assert encoder().encode(message, NOW_NS).payload == b"vib,device=d1 x=0.5,y=-1 1700000000123000000\n"
