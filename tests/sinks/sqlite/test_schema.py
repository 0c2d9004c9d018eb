from __future__ import annotations

import contextlib
import json
import sqlite3
import uuid
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.delivery.sink import SeriesQuery
from gateway.delivery.write_result import OperatorNeeded, Stored
from gateway.line_protocol import Series
from gateway.sinks.sqlite import SqliteSink
from tests.support.readings import FIELDS, MEASUREMENTS, TAGS
from tests.support.sqlite_file import rows

if TYPE_CHECKING:
    from pathlib import Path

START = 1_700_000_000_000_000_000
SECOND = 1_000_000_000


def test_every_type_is_stored_unchanged(sink: SqliteSink, path: Path) -> None:
    line = f'm,device=d1,site=n,area=b f=22,i=9007199254740993i,t=true,u=false,s="a \\"b\\"\n\\\\ c" {START + 1}\n'
    assert sink.write(line.encode()) == Stored()
    tags = '{"area": "b", "site": "n"}'
    found = rows(path)
    assert found == [
        ("d1", "m", "f", tags, START + 1, 22.0, "float"),
        ("d1", "m", "i", tags, START + 1, 9007199254740993, "integer"),
        ("d1", "m", "s", tags, START + 1, 'a "b"\n\\ c', "string"),
        ("d1", "m", "t", tags, START + 1, 1, "boolean"),
        ("d1", "m", "u", tags, START + 1, 0, "boolean"),
    ]
    assert [type(row[5]) for row in found] == [float, int, str, int, int]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(MEASUREMENTS, TAGS, FIELDS, st.integers(-(2**63) + 2, 2**63 - 2))
def test_every_value_of_a_point_comes_back(
    tmp_path: Path, measurement: str, tags: dict[str, str], fields: dict[str, Any], time_ns: int
) -> None:
    path = tmp_path / f"{uuid.uuid4()}.db"
    sink = SqliteSink(path)
    assert sink.write(Series(measurement, tags).line(fields, time_ns)) == Stored()
    sink.close()
    found = rows(path)
    assert {row[2]: repr(row[5]) for row in found} == {
        name: repr(int(value) if isinstance(value, bool) else value) for name, value in fields.items()
    }
    for device, name, _, others, at, _, _ in found:
        assert {**json.loads(others), **({"device": device} if "device" in tags else {})} == tags
        assert (name, at) == (measurement, time_ns)


def test_a_person_can_read_the_time(sink: SqliteSink, path: Path) -> None:
    times = [-1, 0, START + 7, -(2**63) + 2, 2**63 - 2]
    assert sink.write("".join(f"m,device=d1 x=1 {at}\n" for at in times).encode()) == Stored()
    assert rows(path, "time") == [
        ("1677-09-21T00:12:43.145224194Z",),
        ("1969-12-31T23:59:59.999999999Z",),
        ("1970-01-01T00:00:00.000000000Z",),
        ("2023-11-14T22:13:20.000000007Z",),
        ("2262-04-11T23:47:16.854775806Z",),
    ]


def test_a_commit_survives_a_power_cut(sink: SqliteSink) -> None:
    assert sink.write(b"m,device=d1 x=1 5\n") == Stored()
    connection, _ = sink._connect()
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,), "FULL"
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_file_of_a_later_version_needs_an_operator(sink: SqliteSink, path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 99")
    result = sink.write(b"m,device=d1 x=1 5\n")
    assert isinstance(result, OperatorNeeded)
    assert "version 99" in result.reason


def test_missing_directories_are_created(tmp_path: Path) -> None:
    sink = SqliteSink(tmp_path / "a" / "b" / "telemetry.db")
    assert sink.query(SeriesQuery("d1", "x", 0, 10, 1)).buckets == [], "a database not yet made is empty"
    assert sink.write(b"m,device=d1 x=1 5\n") == Stored()
    sink.close()
