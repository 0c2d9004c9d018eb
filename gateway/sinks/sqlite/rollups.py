"""Minutes and hours of every numeric field, summarised: lowest, highest, sum and number of its values.

Rules that hold here:

* What is not stale is exact. A write, a value that is overwritten, and a deletion mark the hour they touch in their own
  transaction; a summary of the whole hour, from the points, replaces the old one and the mark in another. So there is
  nothing to repair after a crash, and nothing to add up or subtract when a value changes.
* An hour is summarised once it has ended, so a point is read again once, not with every batch.
* The points are read by a connection of their own, while writes go on. What is written into the hour meanwhile ends
  that: it stays stale and has its turn later.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from gateway.sinks.sqlite.layout import MIN_INT64
from gateway.sinks.sqlite.schema import HOUR, MINUTE

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    Hour = tuple[int, int]
    """Series, and where the hour begins."""
    Rollup = tuple[int, int, int, int, float, float, float, int]
    """Series, slot, step, where it begins, low, high, total, count."""

SLICE = 0.05
"""Seconds of reading after which what was summarised is written."""
HOURS = 64
"""Most hours of one transaction."""

_PICK = """
SELECT series, hour_ns FROM stale WHERE (series, hour_ns) > (?, ?) AND hour_ns > ? AND hour_ns <= ?
ORDER BY series, hour_ns LIMIT ?
"""
_NUMERIC = "SELECT slot FROM fields WHERE series = ? AND type != 'string' ORDER BY slot"
_STEPS = ", ".join(str(step) for step in (MINUTE, HOUR))
_DELETE = f"""
DELETE FROM rollups WHERE series = :series AND slot IN (SELECT slot FROM fields WHERE series = :series)
    AND step_ns IN ({_STEPS}) AND time_ns >= :hour AND time_ns < :hour + {HOUR}
"""
_INSERT = "INSERT INTO rollups VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_FRESH = "DELETE FROM stale WHERE series = ? AND hour_ns = ?"


def pick(connection: sqlite3.Connection, after: Hour, now_ns: int) -> list[Hour]:
    """Stale hours that have ended and begin within 64 bits, those that come after one."""
    return connection.execute(_PICK, (*after, MIN_INT64, now_ns - HOUR, HOURS)).fetchall()


def summarise(connection: sqlite3.Connection, hours: Sequence[Hour]) -> dict[Hour, list[Rollup]]:
    """The rollups of some hours, as many as are done in about `SLICE` seconds; reads only."""
    until = time.monotonic() + SLICE
    found: dict[Hour, list[Rollup]] = {}
    for series, hour in hours:
        found[series, hour] = list(_of_hour(connection, series, hour))
        if time.monotonic() > until:
            break
    return found


def replace(connection: sqlite3.Connection, found: dict[Hour, list[Rollup]], unchanged: set[Hour]) -> None:
    """Store the rollups of the hours that nothing was written into; inside a transaction of the writing connection."""
    for hour, rows in found.items():
        if hour in unchanged:
            connection.execute(_DELETE, {"series": hour[0], "hour": hour[1]})
            connection.executemany(_INSERT, rows)
            connection.execute(_FRESH, hour)


def _of_hour(connection: sqlite3.Connection, series: int, hour: int) -> Iterable[Rollup]:
    slots = [slot for (slot,) in connection.execute(_NUMERIC, (series,)).fetchall()]
    if not slots:
        return
    columns = ", ".join(f"min(v{slot}), max(v{slot}), total(v{slot}), count(v{slot})" for slot in slots)
    minutes: list[tuple[Any, ...]] = connection.execute(
        f"SELECT :hour + (time_ns - :hour) / {MINUTE} * {MINUTE} AS minute, {columns} FROM points "
        f"WHERE series = :series AND time_ns >= :hour AND time_ns < :hour + {HOUR} GROUP BY minute",
        {"series": series, "hour": hour},
    ).fetchall()
    for position, slot in enumerate(slots):
        first = 1 + 4 * position
        parts = [(row[0], *row[first : first + 4]) for row in minutes if row[first + 3]]
        for at, low, high, total, count in parts:
            yield series, slot, MINUTE, at, low, high, total, count
        if parts:
            _, lows, highs, totals, counts = zip(*parts, strict=True)
            yield series, slot, HOUR, hour, min(lows), max(highs), sum(totals), sum(counts)
