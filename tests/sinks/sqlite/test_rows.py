"""The short way through a line gives the same rows as the long way."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.delivery.write_result import PointRefused, Stored
from gateway.line_protocol import Series, parse_line
from gateway.sinks.sqlite import SqliteSink
from gateway.sinks.sqlite import rows as rows_module
from tests.support.readings import FIELDS, MEASUREMENTS, TAGS, VALUES
from tests.support.sqlite_file import rows

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = st.tuples(
    st.sampled_from(["m", "n"]),
    st.sampled_from([{"device": "d1"}, {"device": "d2"}, {"device": "d1", "site": "a b"}]),
    st.dictionaries(st.sampled_from("abcdefghijk"), VALUES, min_size=1, max_size=11),
    st.integers(0, 3),
)
WILD = st.tuples(MEASUREMENTS, TAGS, FIELDS, st.integers(0, 3))


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(st.one_of(PLAIN, WILD), min_size=1, max_size=8), min_size=1, max_size=3))
def test_the_last_value_of_every_series_and_time_is_there(tmp_path: Path, batches: list[list[Any]]) -> None:
    path = tmp_path / f"{uuid.uuid4()}.db"
    sink = SqliteSink(path)
    expected: dict[tuple[Any, ...], str] = {}
    for batch in batches:
        for measurement, tags, fields, time_ns in batch:
            line = Series(measurement, tags).line(fields, time_ns)
            if sink.write(line + line) == Stored():
                for name, value in fields.items():
                    others = sorted((key, text) for key, text in tags.items() if key != "device")
                    number = int(value) if isinstance(value, bool) else value
                    expected[tags.get("device", ""), measurement, name, str(others), time_ns] = repr(number)
    sink.close()
    found = (
        {
            (device, measurement, field, str(sorted(_tags(tags))), time_ns): repr(value)
            for device, measurement, field, tags, time_ns, value, _ in rows(path)
        }
        if expected
        else {}
    )
    assert found == expected


def _tags(text: str) -> list[tuple[str, str]]:
    return list(json.loads(text).items())


def test_ordinary_lines_go_the_short_way(sink: SqliteSink, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []

    def counting(line: bytes) -> Any:
        parsed.append(line)
        return parse_line(line)

    monkeypatch.setattr(rows_module, "parse_line", counting)
    line = 'm,device=d{0},site=a x={1}.5,i={1}i,on=true,s="t{1}" {1}\n'
    assert sink.write("".join(line.format(at % 5, at) for at in range(100)).encode()) == Stored()
    assert len(parsed) == 5
    assert len(rows(path)) == 400


@pytest.mark.parametrize(
    "line",
    [
        "m,device=d1 x=1,y=2i 5 6", "m,device=d1 x,y=2i 5", "m,device=d1 x=1,y 5", "m,device=d1 x=1,y=2 5",
        "m,device=d1 x=true,y=2i 5", "m,device=d1 x=1,y=2.5i 5", "m,device=d1 x=1,y=9223372036854775808i 5",
        "m,device=d1 x=1,y=2i 9223372036854775808", "m,device=d1 x=1,y=2i five", "m,device=d1 x=,y=2i 5",
        'm,device=d1 x=1,y="2i" 5', "m,device=d1 x=1,y=i 5",
    ],
)  # fmt: skip
def test_a_malformed_line_that_looks_like_an_earlier_one_is_refused(sink: SqliteSink, path: Path, line: str) -> None:
    good = b"m,device=d1 x=1,y=2i 1\n"
    assert sink.write(good) == Stored()
    assert isinstance(sink.write(good.replace(b" 1\n", b" 2\n") + line.encode() + b"\n"), PointRefused)
    assert len(rows(path)) == 2


def test_values_keep_their_order_when_a_series_gets_more_columns(sink: SqliteSink, path: Path) -> None:
    assert sink.write(b"m,device=d1 x=1 5\nm,device=d1 x=2,y=2 5\nm,device=d1 x=3 5\nm,device=d1 y=4 5\n") == Stored()
    assert rows(path, "field, value") == [("x", 3), ("y", 4)]


def test_a_series_may_have_more_fields_than_a_row_has_slots(sink: SqliteSink, path: Path) -> None:
    names = [f"f{at:02d}" for at in range(20)]
    for value in 1, 2:
        pairs = ",".join(f"{name}={value}" for name in names)
        assert sink.write(f"m,device=d1 {pairs} 5\nm,device=d1 f19=7,f00=8 6\n".encode()) == Stored()
    assert rows(path, "field, value") == [*((name, 2) for name in names), ("f00", 8), ("f19", 7)]
