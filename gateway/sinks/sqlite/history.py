"""History queries: answered from rollups where they are exact, from the points elsewhere.

Rules that hold here:

* Rollups and points give the same answer; only the speed differs.
* Buckets are counted from the query's start, or, if rollups are used, from the start of its minute or hour. The first
  bucket is still given the query's start as its time. There are at most as many buckets as the query wants; those
  without values are left out.
* A coarse query reads only a few points of each bucket: its answer is shown until the exact one is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.delivery.sink import Bucket, History
from gateway.sinks.sqlite.schema import HOUR_NS, MINUTE_NS, SLOTS_PER_ROW, hour_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

    from gateway.delivery.sink import SeriesQuery

    Found = tuple[int, float, float, float, int]
    """Start of a bucket (ns since 1970), low, high, total, count."""

MIN_STEPS = 4
"""Rollups are used if a bucket has so many steps: rounding its length to whole steps then costs few buckets."""
MAX_COARSE_BUCKETS = 120
SAMPLE_SIZE = 16
"""Where there are no rollups, a coarse query reads so many points of a bucket."""

_PLACES = """
SELECT series, slot FROM fields JOIN series ON series.id = series
WHERE device = :device AND field = :field AND type != 'string'
    AND series.measurement = coalesce(:measurement, series.measurement)
"""
_STALE = "SELECT hour_ns FROM stale WHERE series = ? AND hour_ns >= ? AND hour_ns < ? ORDER BY hour_ns"
_FROM_ROLLUPS = """
SELECT :origin + (time_ns - :origin) / :interval * :interval AS bucket, min(low), max(high), total(total), sum(count)
FROM rollups
WHERE series = :series AND slot = :slot AND step_ns = :step AND time_ns >= :low AND time_ns < :high GROUP BY bucket
"""
_FROM_POINTS = [
    f"""
SELECT :origin + (time_ns - :origin) / :interval * :interval AS bucket, min(v{slot}), max(v{slot}), total(v{slot}),
    count(v{slot})
FROM points
WHERE series = :series AND time_ns >= :low AND time_ns < :high AND v{slot} IS NOT NULL GROUP BY bucket
"""
    for slot in range(SLOTS_PER_ROW)
]
_FROM_SAMPLE = [
    f"""
SELECT :low, min(value), max(value), total(value), count(value) FROM (
    SELECT v{slot} AS value FROM points WHERE series = :series AND time_ns >= :low AND time_ns < :high
    LIMIT {SAMPLE_SIZE})
"""
    for slot in range(SLOTS_PER_ROW)
]


@dataclass(frozen=True, slots=True)
class BucketGrid:
    """Buckets of ``interval`` ns from ``origin`` on; ``step`` is that of the rollups that they are made of, or 1."""

    origin: int
    interval: int
    step: int

    @classmethod
    def of(cls, query: SeriesQuery) -> BucketGrid:
        """The grid of a query: as many buckets as it wants, or fewer."""
        points = min(query.points, MAX_COARSE_BUCKETS) if query.coarse else query.points
        max_step = (query.end_ns - query.start_ns) // (points * (1 if query.coarse else MIN_STEPS))
        step = next((step for step in (HOUR_NS, MINUTE_NS) if step <= max_step), 1)
        origin = query.start_ns - query.start_ns % step
        return cls(origin, -(-(query.end_ns - origin) // (points * step)) * step, step)


def answer(connection: sqlite3.Connection, query: SeriesQuery) -> History:
    """The history of a series, in one snapshot of the database.

    Raises:
        sqlite3.Error, OverflowError: the file cannot be read, or a time of the query has more than 64 bits.
    """
    grid = BucketGrid.of(query)
    connection.execute("BEGIN")
    named = {"device": query.device, "field": query.field, "measurement": query.measurement}
    by_start: dict[int, list[Found]] = {}
    for series, slot in connection.execute(_PLACES, named).fetchall():
        for found in _of_series(connection, query, grid, series, slot):
            by_start.setdefault(max(found[0], query.start_ns), []).append(found)
    return History([_bucket(start, by_start[start]) for start in sorted(by_start)], grid.interval)


def pieces(start: int, end: int, step: int, stale: Iterable[int]) -> Iterator[tuple[int, int, bool]]:
    """The range in pieces, each to be answered from rollups of ``step`` ns (True) or from the points (False)."""
    first, last = -(-start // step) * step, end - end % step
    if step == 1 or first >= last:
        yield start, end, False
        return
    at = start
    hours = ((max(hour, first), min(hour + HOUR_NS, last)) for hour in stale)
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
    hours = (series, hour_of(query.start_ns), query.end_ns)
    stale = [hour for (hour,) in connection.execute(_STALE, hours).fetchall()] if grid.step > 1 else []
    named = {"series": series, "slot": slot, "step": grid.step, "origin": grid.origin, "interval": grid.interval}
    for low, high, rolled in pieces(query.start_ns, query.end_ns, grid.step, stale):
        named |= {"low": low, "high": high}
        if rolled or not query.coarse:
            yield from connection.execute(_FROM_ROLLUPS if rolled else _FROM_POINTS[slot], named).fetchall()
        else:
            yield from _sampled(connection, grid, named, slot)


def _sampled(connection: sqlite3.Connection, grid: BucketGrid, named: dict[str, int], slot: int) -> Iterator[Found]:
    low, high = named["low"], named["high"]
    while low < high:
        bucket = low - (low - grid.origin) % grid.interval
        here = {"series": named["series"], "low": low, "high": min(bucket + grid.interval, high)}
        found = connection.execute(_FROM_SAMPLE[slot], here).fetchone()
        if found[4]:
            yield bucket, *found[1:]
        low = here["high"]


def _bucket(at: int, found: list[Found]) -> Bucket:
    _, lows, highs, totals, counts = zip(*found, strict=True)
    count = sum(counts)
    return Bucket(at, float(min(lows)), sum(totals) / count, float(max(highs)), count)
