"""Whoever guesses tokens is slowed down, and nobody else."""

from __future__ import annotations

import itertools

import pytest

from gateway.http.token_guesses import BURST, EVERY, MOST_ADDRESSES, Guesses, network_of
from tests.support.clock import Clock

WORDS = map(str, itertools.count())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guesses(clock: Clock) -> Guesses:
    return Guesses(clock)


def guess(guesses: Guesses, address: str, times: int) -> int:
    """How many of so many guesses were let through."""
    made = 0
    for _ in range(times):
        if not guesses.wait(address):
            guesses.wrong(address, next(WORDS))
            made += 1
    return made


def test_a_few_at_once_then_one_at_a_time(guesses: Guesses, clock: Clock) -> None:
    assert guess(guesses, "192.0.2.1", 100) == BURST
    assert guesses.wait("192.0.2.1") == pytest.approx(EVERY)
    clock.now += EVERY * 0.9
    assert guess(guesses, "192.0.2.1", 100) == 0
    clock.now += EVERY * 0.2
    assert guess(guesses, "192.0.2.1", 100) == 1
    clock.now += 1_000_000
    assert guess(guesses, "192.0.2.1", 100) == BURST


def test_others_are_not_slowed(guesses: Guesses) -> None:
    guess(guesses, "192.0.2.1", 100)
    assert guesses.wait("192.0.2.2") == 0
    assert guess(guesses, "192.0.2.2", 100) == BURST


def test_the_same_wrong_token_is_no_new_guess(guesses: Guesses) -> None:
    for _ in range(100):
        assert guesses.wait("192.0.2.1") == 0
        guesses.wrong("192.0.2.1", "old")
    assert guess(guesses, "192.0.2.1", 100) == BURST - 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8::1", "2001:db8::ffff:1"),
        ("2001:db8:0:0:1::", "2001:db8:0:0:ffff::"),
        ("192.0.2.1", "::ffff:192.0.2.1"),
        ("nothing", "nothing"),
    ],
)
def test_addresses_that_one_guesser_has_are_one(guesses: Guesses, one: str, other: str) -> None:
    guess(guesses, one, 100)
    assert guesses.wait(other) > 0


def test_networks_of_ipv6_are_apart(guesses: Guesses) -> None:
    guess(guesses, "2001:db8:0:1::1", 100)
    assert guesses.wait("2001:db8:0:2::1") == 0


def test_the_table_has_a_bound_and_forgets_who_was_quiet_longest(guesses: Guesses) -> None:
    guess(guesses, "a", 100)
    guess(guesses, "b", 100)
    for number in range(MOST_ADDRESSES - 2):
        guesses.wrong(f"address {number}", "x")
    guesses.wrong("b", "once more")
    for number in range(100):
        guesses.wrong(f"another {number}", "x")
    assert len(guesses._guessers) == MOST_ADDRESSES
    assert guesses.wait("a") == 0
    assert guesses.wait("b") > 0


def test_an_address_is_read_once_and_only_so_many_are_kept() -> None:
    network_of.cache_clear()
    assert {network_of("2001:db8::1") for _ in range(1000)} == {"2001:db8::/64"}
    assert network_of.cache_info().misses == 1
    for number in range(MOST_ADDRESSES + 1):
        network_of(f"2001:db8::{number:x}")
    assert network_of.cache_info().currsize == MOST_ADDRESSES
