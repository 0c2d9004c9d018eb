"""The expected answers to history queries, computed from the view ``readings`` of a SQLite database."""

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
    """The sink's answer is the one computed from the values; the number of values."""
    grid = BucketGrid.of(query)
    points, found = _points(path, query), sink.query(query)
    while (now := _points(path, query)) != points:  # the upkeep has deleted old points meanwhile
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
    """The number of rows of a table."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        found: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        return found
