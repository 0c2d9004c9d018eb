"""The backoff that all writers share."""

from __future__ import annotations

import pytest

from gateway.delivery.backoff import Backoff, BackoffBounds
from gateway.delivery.write_result import OperatorNeeded, RetryLater

BOUNDS = BackoffBounds(first=0.5, max_delay=8.0, max_retry_after=60.0, operator_needed=15.0)
DOWN = RetryLater("unreachable", "connection refused")


def longest(_low: float, high: float) -> float:
    """The longest delay that can be drawn."""
    return high


def test_while_the_database_works_no_write_waits() -> None:
    backoff = Backoff(BOUNDS)
    assert backoff.admits(0.0, in_flight=100)


def test_delays_grow_to_their_bound_and_retries_never_end() -> None:
    backoff = Backoff(BOUNDS, longest)
    delays = [backoff.failed(DOWN, backoff.round, 100.0) for _ in range(2000)]
    assert delays[:6] == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    assert delays[-1] == 8.0
    assert backoff.failures == 2000


def test_jitter_draws_from_zero_to_the_bound() -> None:
    drawn: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        drawn.append((low, high))
        return low

    backoff = Backoff(BOUNDS, draw)
    for _ in range(3):
        backoff.failed(DOWN, backoff.round, 0.0)
    assert drawn == [(0.0, 0.5), (0.0, 1.0), (0.0, 2.0)]


def test_after_a_failure_one_write_at_a_time_tests_the_database() -> None:
    backoff = Backoff(BOUNDS, longest)
    backoff.failed(DOWN, backoff.round, 10.0)
    assert not backoff.admits(10.4, in_flight=0)
    assert backoff.admits(10.5, in_flight=0)
    assert not backoff.admits(10.5, in_flight=1)
    backoff.answered(backoff.round)
    assert backoff.admits(10.5, in_flight=3)
    assert backoff.failed(DOWN, backoff.round, 20.0) == 0.5, "an outage begins with the short delay"


def test_writes_from_before_the_failure_neither_lengthen_nor_end_the_wait() -> None:
    backoff = Backoff(BOUNDS, longest)
    early = backoff.round
    backoff.failed(DOWN, early, 0.0)
    for _ in range(3):
        backoff.failed(DOWN, early, 0.1)
    assert (backoff.failures, backoff.opens_at) == (1, 0.5)
    backoff.answered(early)
    assert not backoff.admits(0.2, in_flight=0)


@pytest.mark.parametrize(("asked", "followed"), [(0.0, 0.5), (7.0, 7.5), (3600.0, 60.5), (-1.0, 0.5)])
def test_retry_after_is_followed_up_to_its_bound(asked: float, followed: float) -> None:
    backoff = Backoff(BOUNDS, longest)
    for _ in range(10):
        delay = backoff.failed(RetryLater("overloaded", "503", after=asked), backoff.round, 0.0)
    assert delay == followed


def test_no_write_starts_before_retry_after_is_over() -> None:
    backoff = Backoff(BOUNDS, lambda low, _high: low)
    early = backoff.round
    backoff.failed(DOWN, early, 0.0)
    backoff.failed(RetryLater("overloaded", "503", after=7.0), early, 1.0)
    backoff.failed(DOWN, early, 2.0)
    assert backoff.opens_at == 8.0


def test_while_an_operator_is_needed_the_delay_is_constant() -> None:
    backoff = Backoff(BOUNDS, longest)
    assert [backoff.failed(OperatorNeeded("unauthorized", "401"), backoff.round, 0.0) for _ in range(5)] == [15.0] * 5
