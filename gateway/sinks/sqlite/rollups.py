"""Rollups: minimum, maximum, sum and number of the values of every numeric field, in every minute and hour.

Rules that hold here:

* The rollups of an hour that is not marked stale are exact. A write, an overwritten value and a deletion mark the hour
  stale in their own transaction. Another transaction later makes all rollups of that hour again, from the points, and
  removes the mark. So a crash leaves nothing to repair, and a changed value needs nothing added or subtracted.
* An hour is rolled up once it has ended, so that a point is read again once, not with every batch.
* The points are read on a connection of their own, while writes go on. If a point is written into the hour meanwhile,
  the result is thrown away: the hour stays stale and its turn comes later.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from gateway.sinks.sqlite.layout import MIN_INT64
from gateway.sinks.sqlite.schema import HOUR_NS, MINUTE_NS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    Hour = tuple[int, int]
    """Series, and the start of the hour (ns since 1970)."""
    Rollup = tuple[int, int, int, int, float, float, float, int]
    """Series, slot, step (ns), start (ns since 1970), low, high, total, count."""

READ_SECONDS = 0.05
"""After so much reading, the rollups made so far are stored."""
MAX_HOURS = 64
"""Hours in one transaction."""

_PICK = """
SELECT series, hour_ns FROM stale WHERE (series, hour_ns) > (?, ?) AND hour_ns > ? AND hour_ns <= ?
ORDER BY series, hour_ns LIMIT ?
"""
_NUMERIC = "SELECT slot FROM fields WHERE series = ? AND type != 'string' ORDER BY slot"
_STEPS = ", ".join(str(step) for step in (MINUTE_NS, HOUR_NS))
_DELETE = f"""
DELETE FROM rollups WHERE series = :series AND slot IN (SELECT slot FROM fields WHERE series = :series)
    AND step_ns IN ({_STEPS}) AND time_ns >= :hour AND time_ns < :hour + {HOUR_NS}
"""
_INSERT = "INSERT INTO rollups VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_UNMARK = "DELETE FROM stale WHERE series = ? AND hour_ns = ?"


def pick(connection: sqlite3.Connection, after: Hour, now_ns: int) -> list[Hour]:
    """The stale hours after ``after`` that have ended and whose start fits into 64 bits, at most `MAX_HOURS`."""
    return connection.execute(_PICK, (*after, MIN_INT64, now_ns - HOUR_NS, MAX_HOURS)).fetchall()


def compute(connection: sqlite3.Connection, hours: Sequence[Hour]) -> dict[Hour, list[Rollup]]:
    """The rollups of the first of these hours, as many as are made in about `READ_SECONDS`; reads only."""
    until = time.monotonic() + READ_SECONDS
    found: dict[Hour, list[Rollup]] = {}
    for series, hour in hours:
        found[series, hour] = list(_of_hour(connection, series, hour))
        if time.monotonic() > until:
            break
    return found


def replace(connection: sqlite3.Connection, found: dict[Hour, list[Rollup]], unchanged: set[Hour]) -> None:
    """Store the rollups of the ``unchanged`` hours; ``connection`` is the writing one, in a transaction."""
    for hour, rows in found.items():
        if hour in unchanged:
            connection.execute(_DELETE, {"series": hour[0], "hour": hour[1]})
            connection.executemany(_INSERT, rows)
            connection.execute(_UNMARK, hour)


def _of_hour(connection: sqlite3.Connection, series: int, hour: int) -> Iterable[Rollup]:
    slots = [slot for (slot,) in connection.execute(_NUMERIC, (series,)).fetchall()]
    if not slots:
        return
    columns = ", ".join(f"min(v{slot}), max(v{slot}), total(v{slot}), count(v{slot})" for slot in slots)
    minutes: list[tuple[Any, ...]] = connection.execute(
        f"SELECT :hour + (time_ns - :hour) / {MINUTE_NS} * {MINUTE_NS} AS minute, {columns} FROM points "
        f"WHERE series = :series AND time_ns >= :hour AND time_ns < :hour + {HOUR_NS} GROUP BY minute",
        {"series": series, "hour": hour},
    ).fetchall()
    for position, slot in enumerate(slots):
        first = 1 + 4 * position
        parts = [(row[0], *row[first : first + 4]) for row in minutes if row[first + 3]]
        for at, low, high, total, count in parts:
            yield series, slot, MINUTE_NS, at, low, high, total, count
        if parts:
            _, lows, highs, totals, counts = zip(*parts, strict=True)
            yield series, slot, HOUR_NS, hour, min(lows), max(highs), sum(totals), sum(counts)
