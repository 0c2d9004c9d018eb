from __future__ import annotations

from random import Random

import pytest

from devices_sim.tally import MAX_VIOLATION_TEXTS, Latencies, Tally


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.99, 0.999, 1.0])
def test_percentiles_are_at_most_two_percent_high(share: float) -> None:
    rng, latencies = Random(1), Latencies()
    numbers = sorted(rng.lognormvariate(-6, 1.5) for _ in range(20_000))
    for number in numbers:
        latencies.add(number)
    exact = numbers[max(0, round(share * len(numbers)) - 1)]
    found = latencies.percentile(share)
    assert found is not None
    assert exact * 0.999 <= found <= exact * 1.021


def test_no_percentile_exceeds_the_longest() -> None:
    latencies = Latencies()
    for seconds in (0.0, 0.2, 0.3):
        latencies.add(seconds)
    assert latencies.percentile(1.0) == 0.3
    assert latencies.longest == 0.3


def test_without_durations_there_are_no_percentiles() -> None:
    assert Latencies().percentile(0.5) is None
    assert set(Tally().summary()["latency_ms"].values()) == {None}


def test_the_summary_has_every_count() -> None:
    tally = Tally()
    tally.sent, tally.acked, tally.refused = 5, 3, 1
    tally.throttled["spool_bytes"] += 2
    tally.latency.add(0.25)
    summary = tally.summary()
    assert (summary["sent"], summary["acked"], summary["refused"]) == (5, 3, 1)
    assert summary["throttled"] == {"spool_bytes": 2}
    assert summary["latency_ms"]["p50"] == 250.0
    live = {"connected", "latency"}
    assert set(Tally.__slots__) - live <= set(summary)


def test_many_violations_are_counted_and_a_few_kept() -> None:
    tally = Tally()
    for n in range(1000):
        tally.violation(f"text {n}")
    assert tally.violations == 1000
    assert len(tally.summary()["violation_texts"]) == MAX_VIOLATION_TEXTS
