from __future__ import annotations

import pytest

from gateway.devices.failed_credentials import (
    ADDRESS_BURST,
    FORGOTTEN_AFTER,
    FREE_FAILURES,
    MAX_ENTRIES,
    MAX_WAIT,
    MIN_WAIT,
    FailedCredentials,
)
from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def failures(clock: Clock) -> FailedCredentials:
    return FailedCredentials(clock)


def waits(
    failures: FailedCredentials, clock: Clock, times: int, address: str = "192.0.2.1", device: str = "d"
) -> list[float]:
    """What each of so many failures is told, each after the wait of the one before."""
    told = []
    for _ in range(times):
        told.append(failures.wrong(address, device))
        clock.now += told[-1]
    return told


def test_the_first_few_are_free_and_then_each_wait_is_twice_the_last(failures: FailedCredentials, clock: Clock) -> None:
    assert waits(failures, clock, FREE_FAILURES + 4) == [0.0] * FREE_FAILURES + [
        MIN_WAIT,
        2 * MIN_WAIT,
        4 * MIN_WAIT,
        8 * MIN_WAIT,
    ]
    assert waits(failures, clock, 100)[-1] == MAX_WAIT


def test_what_fails_during_a_wait_makes_it_no_longer(failures: FailedCredentials, clock: Clock) -> None:
    waits(failures, clock, FREE_FAILURES + 3)
    told = failures.wrong("192.0.2.1", "d")
    clock.now += 1
    assert failures.wrong("192.0.2.1", "d") == pytest.approx(told - 1)


def test_one_bad_device_leaves_the_others_behind_its_address_alone(failures: FailedCredentials, clock: Clock) -> None:
    waits(failures, clock, FREE_FAILURES + 9)
    assert failures.wrong("192.0.2.1", "other") == 0
    assert failures.wrong("192.0.2.2", "d") == 0


def test_right_credentials_end_it(failures: FailedCredentials, clock: Clock) -> None:
    waits(failures, clock, FREE_FAILURES + 5)
    failures.right("192.0.2.1", "d")
    assert failures.wrong("192.0.2.1", "d") == 0
    failures.right("192.0.2.9", "unheard")


def test_it_is_forgotten_in_time(failures: FailedCredentials, clock: Clock) -> None:
    waits(failures, clock, FREE_FAILURES + 5)
    clock.now += FORGOTTEN_AFTER + 1
    assert failures.wrong("192.0.2.1", "d") == 0


def test_an_address_has_a_ceiling_whatever_devices_it_names(failures: FailedCredentials, clock: Clock) -> None:
    told = [failures.wrong("2001:db8::1", f"d{n}") for n in range(ADDRESS_BURST)]
    assert set(told) == {0.0}
    assert failures.wrong("2001:db8::2", "one more") > 0, "the same network of 64 bits"
    assert failures.wrong("2001:db8:0:1::2", "one more") == 0
    clock.now += 60
    assert failures.wrong("2001:db8::2", "later") == 0


def test_the_tables_have_bounds(failures: FailedCredentials, clock: Clock) -> None:
    waits(failures, clock, FREE_FAILURES + 9, address="first")
    for number in range(MAX_ENTRIES + 5):
        failures.wrong(f"address {number}", "d")
    assert len(failures) == MAX_ENTRIES
    assert len(failures._addresses) == MAX_ENTRIES
    assert failures.wrong("first", "d") == 0


def test_what_is_left_of_a_wait_is_told_without_counting(failures: FailedCredentials, clock: Clock) -> None:
    assert failures.wait("192.0.2.1", "d") == 0
    waits(failures, clock, FREE_FAILURES + 2)
    assert failures.wait("192.0.2.1", "d") == 0, "it is over"
    told = failures.wrong("192.0.2.1", "d")
    clock.now += 1
    assert failures.wait("192.0.2.1", "d") == failures.wait("192.0.2.1", "d") == pytest.approx(told - 1)
    assert failures.wait("192.0.2.1", "other") == failures.wait("192.0.2.2", "d") == 0
