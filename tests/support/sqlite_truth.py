"""What history should say, computed from what the view of a SQLite database shows."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

from gateway.sinks.sqlite.history import BucketGrid
from tests.support.history import assert_same_buckets, expected_buckets

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.delivery.sink import SeriesQuery
    from gateway.sinks.sqlite import SqliteSink


def assert_history_is_true(sink: SqliteSink, path: Path, query: SeriesQuery) -> int:
    """The sink's answer is that of the values themselves; how many there are."""
    grid = BucketGrid.of(query)
    points, found = _points(path, query), sink.query(query)
    while (now := _points(path, query)) != points:  # the sink's own thread deleted what is old meanwhile
        points, found = now, sink.query(query)
    assert found.interval_ns == grid.interval
    assert len(found.buckets) <= query.points
    assert_same_buckets(found.buckets, expected_buckets(points, query, grid.origin, grid.interval))
    return len(points)


def _points(path: Path, query: SeriesQuery) -> list[tuple[int, float]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(
            "SELECT time_ns, value FROM readings WHERE device = ? AND field = ? AND type != 'string' AND measurement = "
            "coalesce(?, measurement)",
            (query.device, query.field, query.measurement),
        ).fetchall()


def count(path: Path, table: str) -> int:
    """The rows of a table."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        found: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        return found
