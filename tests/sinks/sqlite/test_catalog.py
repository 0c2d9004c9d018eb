from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.delivery.write_result import PointRefused, Stored
from tests.support.sqlite_file import Clock, rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gateway.sinks.sqlite import SqliteSink

START = 1_700_000_000_000_000_000
SECOND = 1_000_000_000


def test_the_same_series_and_time_overwrites_field_by_field(sink: SqliteSink, path: Path) -> None:
    assert sink.write(f"m,device=d1 x=1,y=1 {START}\nm,device=d1 x=2 {START}\n".encode()) == Stored()
    assert rows(path, "field, value") == [("x", 2), ("y", 1)], "the later of one batch wins"
    assert (
        sink.write(f"m,device=d1 x=3 {START}\nm,device=d2 x=9 {START}\nm,device=d1,a=b x=8 {START}\n".encode())
        == Stored()
    )
    assert sorted(rows(path, "device, tags, field, value")) == [
        ("d1", '{"a": "b"}', "x", 8), ("d1", "{}", "x", 3), ("d1", "{}", "y", 1), ("d2", "{}", "x", 9),
    ]  # fmt: skip


def test_a_type_conflict_is_refused_with_influxdbs_text_and_nothing_is_stored(sink: SqliteSink, path: Path) -> None:
    assert sink.write(f"m,device=d1 x=1 {START}\n".encode()) == Stored()
    batch = f"new,device=d1 y=1 {START}\nm,device=d2 x=2i {START}\nm,device=d1 x=3 {START + 2}\n".encode()
    assert sink.write(batch) == PointRefused(
        "type_conflict",
        'field type conflict: input field "x" on measurement "m" is type integer, already exists as type float',
    )
    assert rows(path, "device, measurement, value") == [("d1", "m", 1)]
    assert sink.write(f"new,device=d1 y=1 {START}\nother,device=d1 x=2i {START}\n".encode()) == Stored()
    assert rows(path, "measurement, value") == [("m", 1), ("new", 1), ("other", 2)], "what was made is made again"


def test_a_type_conflict_with_a_series_not_yet_in_the_catalog_is_refused(open_sink: Callable[..., SqliteSink]) -> None:
    first, second = open_sink(), open_sink()
    assert first.write(f'm,device=d1 x="text" {START}\n'.encode()) == Stored()
    assert isinstance(second.write(f"m,device=d2 x=1 {START}\n".encode()), PointRefused)
    assert isinstance(first.write(f"m,device=d1 x=true {START}\n".encode()), PointRefused)


def test_a_series_deleted_by_another_process_is_made_again(open_sink: Callable[..., SqliteSink], path: Path) -> None:
    sink = open_sink()
    assert sink.write(b"m,device=d1 x=1 %d\n" % START) == Stored()
    other = open_sink(retention=1.0, clock_ns=Clock(START + 10 * SECOND))
    other.expire()
    other.close()
    assert rows(path) == []
    assert sink.write(b"m,device=d1 x=2 %d\n" % START) == Stored()
    assert rows(path, "value") == [(2,)]
