"""The expected answer to a history query, computed from the points in the simplest way."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from gateway.delivery.sink import Bucket

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.delivery.sink import SeriesQuery


def expected_buckets(
    points: Iterable[tuple[int, float]], query: SeriesQuery, origin: int | None = None, interval: int | None = None
) -> list[Bucket]:
    """The buckets of a query in the points (time in ns, value) of its series.

    Buckets are counted from ``origin``, by default the query's start. By default they are as long as the query needs.
    The first one begins at the query's start.
    """
    origin = query.start_ns if origin is None else origin
    interval = interval or math.ceil((query.end_ns - query.start_ns) / query.points)
    grouped: dict[int, list[float]] = {}
    for time_ns, value in points:
        if query.start_ns <= time_ns < query.end_ns:
            grouped.setdefault((time_ns - origin) // interval, []).append(value)
    return [
        Bucket(max(origin + at * interval, query.start_ns), min(of), math.fsum(of) / len(of), max(of), len(of))
        for at, of in sorted(grouped.items())
    ]


def assert_same_buckets(found: list[Bucket], expected: list[Bucket]) -> None:
    """The buckets are equal, except in the last digits of the means, which depend on the order of addition."""
    exact = [[(bucket.time_ns, bucket.low, bucket.high, bucket.count) for bucket in each] for each in (found, expected)]
    assert exact[0] == exact[1]
    assert [bucket.mean for bucket in found] == pytest.approx([bucket.mean for bucket in expected])
