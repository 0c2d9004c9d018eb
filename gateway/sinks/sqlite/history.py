"""Answers to history queries: from summaries where there are any, from the points elsewhere.

Rules that hold here:

* Both give the same, so an answer does not show what was summarised; only its speed does.
* Buckets are counted from the query's start, or from the last minute or hour before it where summaries of that step are
  used; the first then begins at the start all the same. There are at most as many as asked for, and those without
  values are absent.
* A coarse answer reads no more than a little of each bucket from the points: it is for a picture until the other comes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.delivery.sink import Bucket, History
from gateway.sinks.sqlite.schema import HOUR, MINUTE, SLOTS, hour_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

    from gateway.delivery.sink import SeriesQuery

    Found = tuple[int, float, float, float, int]
    """Where a bucket begins, low, high, total, count."""

WORTH = 4
"""Steps in a bucket from which on summaries are used: rounding a bucket up to whole steps then loses few of them."""
COARSE_POINTS = 120
SAMPLE = 16
"""Points of a bucket that a coarse answer looks at where there is no summary."""

_PLACES = """
SELECT series, slot FROM fields JOIN series ON series.id = series
WHERE device = :device AND field = :field AND type != 'string'
    AND series.measurement = coalesce(:measurement, series.measurement)
"""
_STALE = "SELECT hour_ns FROM stale WHERE series = ? AND hour_ns >= ? AND hour_ns < ? ORDER BY hour_ns"
_ROLLED = """
SELECT :origin + (time_ns - :origin) / :interval * :interval AS bucket, min(low), max(high), total(total), sum(count)
FROM rollups
WHERE series = :series AND slot = :slot AND step_ns = :step AND time_ns >= :low AND time_ns < :high GROUP BY bucket
"""
_RAW = [
    f"""
SELECT :origin + (time_ns - :origin) / :interval * :interval AS bucket, min(v{slot}), max(v{slot}), total(v{slot}),
    count(v{slot})
FROM points
WHERE series = :series AND time_ns >= :low AND time_ns < :high AND v{slot} IS NOT NULL GROUP BY bucket
"""
    for slot in range(SLOTS)
]
_SAMPLED = [
    f"""
SELECT :low, min(value), max(value), total(value), count(value) FROM (
    SELECT v{slot} AS value FROM points WHERE series = :series AND time_ns >= :low AND time_ns < :high LIMIT {SAMPLE})
"""
    for slot in range(SLOTS)
]


@dataclass(frozen=True, slots=True)
class BucketGrid:
    """Buckets of ``interval`` from ``origin`` on, in ns; ``step`` is that of the summaries they are made of, or 1."""

    origin: int
    interval: int
    step: int

    @classmethod
    def of(cls, query: SeriesQuery) -> BucketGrid:
        """As many buckets as the query wants, or fewer."""
        points = min(query.points, COARSE_POINTS) if query.coarse else query.points
        least = (query.end_ns - query.start_ns) // (points * (1 if query.coarse else WORTH))
        step = next((step for step in (HOUR, MINUTE) if step <= least), 1)
        origin = query.start_ns - query.start_ns % step
        return cls(origin, -(-(query.end_ns - origin) // (points * step)) * step, step)


def answer(connection: sqlite3.Connection, query: SeriesQuery) -> History:
    """The history of a series, in one snapshot of the database.

    Raises:
        sqlite3.Error, OverflowError: it cannot be read.
    """
    grid = BucketGrid.of(query)
    connection.execute("BEGIN")
    named = {"device": query.device, "field": query.field, "measurement": query.measurement}
    same: dict[int, list[Found]] = {}
    for series, slot in connection.execute(_PLACES, named).fetchall():
        for found in _of_series(connection, query, grid, series, slot):
            same.setdefault(max(found[0], query.start_ns), []).append(found)
    return History([_bucket(at, same[at]) for at in sorted(same)], grid.interval)


def pieces(start: int, end: int, step: int, stale: Iterable[int]) -> Iterator[tuple[int, int, bool]]:
    """The range cut into what summaries of ``step`` ns answer (True) and what the points have to (False)."""
    first, last = -(-start // step) * step, end - end % step
    if step == 1 or first >= last:
        yield start, end, False
        return
    at = start
    hours = ((max(hour, first), min(hour + HOUR, last)) for hour in stale)
    for low, high in ((start, first), *hours, (last, end)):
        if low < high:
            if at < low:
                yield at, low, True
            yield low, high, False
            at = high
    if at < end:
        yield at, end, True


def _of_series(
    connection: sqlite3.Connection, query: SeriesQuery, grid: BucketGrid, series: int, slot: int
) -> Iterator[Found]:
    asked = (series, hour_of(query.start_ns), query.end_ns)
    stale = [hour for (hour,) in connection.execute(_STALE, asked).fetchall()] if grid.step > 1 else []
    bound = {"series": series, "slot": slot, "step": grid.step, "origin": grid.origin, "interval": grid.interval}
    for low, high, rolled in pieces(query.start_ns, query.end_ns, grid.step, stale):
        bound |= {"low": low, "high": high}
        if rolled or not query.coarse:
            yield from connection.execute(_ROLLED if rolled else _RAW[slot], bound).fetchall()
        else:
            yield from _sampled(connection, grid, bound, slot)


def _sampled(connection: sqlite3.Connection, grid: BucketGrid, bound: dict[str, int], slot: int) -> Iterator[Found]:
    low, high = bound["low"], bound["high"]
    while low < high:
        bucket = low - (low - grid.origin) % grid.interval
        here = {"series": bound["series"], "low": low, "high": min(bucket + grid.interval, high)}
        found = connection.execute(_SAMPLED[slot], here).fetchone()
        if found[4]:
            yield bucket, *found[1:]
        low = here["high"]


def _bucket(at: int, found: list[Found]) -> Bucket:
    _, lows, highs, totals, counts = zip(*found, strict=True)
    count = sum(counts)
    return Bucket(at, float(min(lows)), sum(totals) / count, float(max(highs)), count)
