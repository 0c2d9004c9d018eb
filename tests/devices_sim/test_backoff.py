from __future__ import annotations

from random import Random

import pytest

from devices_sim.backoff import MAX_HURRIED, MIN_BUSY_BOUND, Backoff


def delays(backoff: Backoff, code: int | None, count: int = 60) -> list[float]:
    return [backoff.delay(code) for _ in range(count)]


@pytest.mark.parametrize(("code", "first"), [(None, 0.5), (1006, 0.5), (1012, 0.5), (1013, 4.0), (4429, 4.0)])
def test_it_grows_with_full_jitter_up_to_its_bound(code: int | None, first: float) -> None:
    found = delays(Backoff(Random(1)), code)
    assert 0 <= found[0] <= first
    assert 15 < max(found) <= 30
    assert min(found[10:]) < 10, "full jitter starts at zero"
    assert all(delay <= first * 2**n for n, delay in enumerate(found))


def test_it_starts_again_when_the_connection_was_of_use() -> None:
    backoff = Backoff(Random(1))
    delays(backoff, None)
    backoff.reset()
    assert backoff.delay(None) <= 0.5


def test_what_the_gateway_asked_for_counts_once() -> None:
    backoff = Backoff(Random(1))
    backoff.told = 2.3
    assert backoff.delay(1012) == 2.3
    assert backoff.delay(None) <= 0.5


def test_a_device_that_was_replaced_keeps_away() -> None:
    assert all(30 <= delay <= 60 for delay in delays(Backoff(Random(1)), 4409))


@pytest.mark.parametrize(("code", "most"), [(None, MAX_HURRIED), (1013, MIN_BUSY_BOUND), (4409, MIN_BUSY_BOUND)])
def test_at_the_end_of_a_run_delays_are_short_except_one_that_the_gateway_asked_for(
    code: int | None, most: float
) -> None:
    backoff = Backoff(Random(1))
    delays(backoff, None)
    backoff.delay(code)
    assert 0 <= (backoff.hurry() or -1) <= most
    assert max(delays(backoff, code)) <= most
    backoff.told = 2.3
    assert backoff.hurry() is not None, "of the attempt before"
    assert backoff.delay(code) == 2.3
    assert backoff.hurry() is None, "the gateway asked for this delay"


def test_devices_do_not_come_back_together() -> None:
    rng = Random(1)
    found = sorted(Backoff(rng).delay(None) for _ in range(1000))
    assert found[100] < 0.1
    assert found[900] > 0.4
