from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import MessageError
from gateway.line_protocol import parse_line, split_lines
from gateway.protocol import blocks
from gateway.protocol.codec import decode
from gateway.protocol.messages import Block, Hello
from tests.support.readings import FLOATS, NAMES
from tests.support.sessions import NOW_NS, encoder

if TYPE_CHECKING:
    from gateway.protocol.encoded_message import EncodedMessage
    from tests.support.servers import Influxd

NUMBERS = st.one_of(FLOATS, st.integers(-(2**63), 2**64 - 1), st.integers(-20, 20))
CELLS = st.one_of(NUMBERS, st.sampled_from([None, True, "x", [], {"y": 1}]))
PROFILE = {"fields": {"n": {"type": "int", "min": -9}, "x": {"type": "float", "max": 9}, "s": {"type": "string"}}}


@st.composite
def block_messages(draw: st.DrawFn, cells: st.SearchStrategy[Any] = CELLS) -> dict[str, Any]:
    samples = draw(st.integers(1, 6))
    names = draw(st.lists(st.one_of(NAMES, st.sampled_from(["n", "x", "s"])), min_size=1, max_size=4, unique=True))
    steps = st.one_of(st.integers(-5, 5), st.floats(-5, 5)).filter(bool)
    offsets = st.lists(st.one_of(steps, st.just(0)), min_size=samples, max_size=samples)
    return {
        "t0": draw(st.one_of(st.integers(0, 2 * 10**12), st.floats(0, 2e12), st.just(9_223_372_036_850))),
        "dt": draw(st.one_of(steps, offsets)),
        "columns": {name: draw(st.lists(cells, min_size=samples, max_size=samples)) for name in names},
    }


def encode(message: dict[str, Any], profile: dict[str, Any] | None = None) -> EncodedMessage:
    block = decode(orjson.dumps(message))
    assert isinstance(block, Block)
    return encoder(profile).encode(block, NOW_NS)


def points(encoded: EncodedMessage) -> list[Any]:
    return [parse_line(line) for line in split_lines(encoded.payload, encoded.lines)]


@given(st.one_of(block_messages(), block_messages(NUMBERS), block_messages(st.integers(-20, 20))))
def test_writing_at_once_and_sample_by_sample_agree(message: dict[str, Any]) -> None:
    quick = encode(message, PROFILE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_write_at_once", lambda *_: False)
        careful = encode(message, PROFILE)
    assert points(quick) == points(careful)
    assert (quick.received, quick.rejects, quick.time_ns, quick.latest) == (
        careful.received,
        careful.rejects,
        careful.time_ns,
        careful.latest,
    )


@given(block_messages(NUMBERS.filter(lambda value: value is not None)))
def test_a_block_says_what_its_samples_say_as_readings(message: dict[str, Any]) -> None:
    block = encode(message)
    dt, columns = message["dt"], message["columns"]
    samples = len(next(iter(columns.values())))
    for index, point in enumerate(points(block) if block.lines == samples else []):
        _, _, fields, time_ns = point
        assert fields == {name: float(column[index]) for name, column in columns.items()}
        offset = dt[index] if isinstance(dt, list) else dt * index
        assert abs(time_ns - (message["t0"] + offset) * 1e6) <= 1_500


def test_an_ordinary_block_is_written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_point", None)
    message = {"t0": 0, "dt": 10, "columns": {"x": [1, 2.5], "y": [3, 4]}}
    assert encode(message).lines == 2
    assert encode(message, {"fields": {"x": {"type": "float", "min": 0, "max": 5}, "y": {"type": "int"}}}).lines == 2


def test_latest_is_the_newest_sample() -> None:
    encoded = encode({"t0": 1000, "dt": [5, 9, 9, 0], "columns": {"x": [1, 2, 3, 4]}})
    assert (encoded.latest, encoded.time_ns) == ({"x": 3}, 1_009_000_000)
    assert encode({"t0": 1000, "dt": -1, "columns": {"x": [1, 2]}}).latest == {"x": 1}


def test_nothing_to_store() -> None:
    assert encode({"t0": 0, "dt": 1, "columns": {}}).received == 0
    assert encode({"t0": 0, "dt": 1, "columns": {"x": []}}).received == 0
    assert encode({"t0": 0, "dt": 1, "columns": {"x": [None, None]}}).received == 0


def test_more_columns_than_fields() -> None:
    encoded = encode({"t0": 0, "dt": 1, "columns": {f"c{n}": [1, None] for n in range(300)}})
    assert [(fault["index"], fault["code"]) for fault in encoded.rejects] == [(0, "too_many_fields")]
    assert encode({"t0": 0, "dt": 1, "columns": {f"c{n}": [1, 2] for n in range(256)}}).lines == 2


def test_nesting_too_deep_refuses_the_block() -> None:
    with pytest.raises(MessageError) as caught:
        encode({"seq": 3, "t0": 0, "dt": 1, "columns": {"x": [1, {"a": {"b": {"c": 1}}}]}})
    assert (caught.value.seq, caught.value.readings) == (3, 2)
    assert encode({"t0": 0, "dt": 1, "columns": {"x": [{"a": {"b": 1}}]}}).latest == {"x.a.b": 1}


@pytest.mark.parametrize("dt", [1e308, -1e308, 2**63, [1e308, 1e308]])
def test_absurd_distances(dt: Any) -> None:
    encoded = encode({"t0": 0, "dt": dt, "columns": {"x": [1, 2]}})
    assert encoded.rejects[-1]["code"] == "timestamp_out_of_range"
    assert encoded.rejects[-1]["field"] == "dt"
    assert encoded.received == 2


def test_5000_samples() -> None:
    encoded = encode({"t0": 0, "dt": 1, "columns": {"x": list(range(5000))}})
    assert encoded.lines == 5000
    assert points(encoded)[-1][2:] == ({"x": 4999.0}, 4_999_000_000)


def test_influxdb_reads_the_numbers_that_are_written_at_once(influxd: Influxd) -> None:
    column = [-0.0, 1e22, 1e-5, 5e-324, 1.7976931348623157e308, 0.1, 2**64 - 1, -(2**63), 123456789.123456789]
    database = influxd.create_database()
    influxd.write(database, encode({"t0": 1_700_000_000_000, "dt": 0.03125, "columns": {"50% x": column}}).payload)
    found = influxd.points(database, "telemetry")
    influxd.query(f'DROP DATABASE "{database}"')
    assert [float(point["50% x"]) for point in found] == [float(value) for value in column]
    assert [point["time"] for point in found] == [
        1_700_000_000_000_000_000 + 31_250 * index for index in range(len(column))
    ]


@pytest.mark.parametrize("column", [[1.5, 2], [1.5, None]])
def test_a_block_teaches_the_types_of_its_columns(column: list[Any]) -> None:
    one = encoder()
    for values, refused in ((column, []), (["x", "y"], [0, 1])):
        message = decode(orjson.dumps({"t0": 0, "dt": 1, "columns": {"v": values, "w": [1, 2]}}))
        assert not isinstance(message, Hello)
        encoded = one.encode(message, NOW_NS)
        assert [fault["index"] for fault in encoded.rejects] == refused
    assert encoded.rejects[0] == {
        "index": 0, "field": "v", "code": "wrong_type", "message": "expected float, got string",
    }  # fmt: skip
