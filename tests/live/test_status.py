from __future__ import annotations

from math import inf, isnan, nan

import pytest
from prometheus_client import CollectorRegistry, Histogram

from gateway.live.status import COLUMNS, Counters, Ring, Sampler, buckets, percentile_ms

BOUNDS = (0.001, 0.01, 0.1)


def observed(*seconds: float) -> list[tuple[float, float]]:
    histogram = Histogram("h", "h", buckets=BOUNDS, registry=CollectorRegistry())
    for value in seconds:
        histogram.observe(value)
    return buckets(histogram)


def test_buckets_are_those_of_the_histogram() -> None:
    assert observed(0.0005, 0.05, 3) == [(0.001, 1), (0.01, 1), (0.1, 2), (inf, 3)]


@pytest.mark.parametrize(
    ("before", "after", "share", "expected"),
    [
        ((), (0.0005, 0.0005), 0.5, 0.5),
        ((), (0.0005, 0.005, 0.005, 0.005), 0.25, 1.0),
        ((), (0.0005, 0.005, 0.005, 0.005), 1.0, 10.0),
        ((0.0005,) * 100, (*(0.0005,) * 100, 0.05, 0.05), 0.5, 55.0),
        ((), (5.0,), 0.99, 100.0),
    ],
)
def test_a_percentile_is_of_what_was_observed_in_between(
    before: tuple[float, ...], after: tuple[float, ...], share: float, expected: float
) -> None:
    assert percentile_ms(observed(*before), observed(*after), share) == pytest.approx(expected)


def test_of_nothing_there_is_no_percentile() -> None:
    assert isnan(percentile_ms(observed(0.05), observed(0.05), 0.5))


def sample(value: float) -> dict[str, float]:
    return dict.fromkeys(COLUMNS, value)


def test_a_ring_keeps_the_last_samples_in_order() -> None:
    ring = Ring(5, 4)
    assert ring.last(3600) == {"interval_ms": 5000, "start": None, "columns": {name: [] for name in COLUMNS}}
    for number in range(6):
        ring.add(sample(number), 5000 * number)
    found = ring.last(3600)
    assert (found["start"], found["columns"]["pending"]) == (10_000, [2, 3, 4, 5])
    assert ring.last(10)["columns"]["pending"] == [4, 5]


def counters(at: float, messages: int = 0, readings: int = 0, *acks: float) -> Counters:
    return Counters(at, messages, readings, observed(*acks), observed())


def test_a_sample_is_what_came_since_the_last_one_with_the_worst_lag() -> None:
    ring = Ring(5, 10)
    sampler = Sampler(ring, counters(0))
    gauges = {"spool_bytes": 7.0, "pending": nan, "connected": 3.0}
    for second, lag in enumerate((0.001, 0.2, 0.002, 0.001, 0.003, 0.004, 0.0), 1):
        sampler.tick(counters(second, 10 * second, 50 * second, *(0.0005,) * second), lag, gauges)
    columns = ring.last(60)["columns"]
    assert columns["messages_per_second"] == [10.0]
    assert columns["readings_per_second"] == [50.0]
    assert columns["loop_lag_ms"] == [200.0]
    assert columns["ack_p50_ms"] == [0.5]
    assert isnan(columns["write_p50_ms"][0])
    assert (columns["spool_bytes"], columns["connected"]) == ([7.0], [3.0])
