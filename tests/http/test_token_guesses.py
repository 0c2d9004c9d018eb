"""Addresses that guess tokens are slowed down, and no others."""

from __future__ import annotations

import itertools

import pytest

from gateway.http.token_guesses import BURST, EVERY, MAX_ADDRESSES, TokenGuesses
from tests.support.clock import Clock

WORDS = map(str, itertools.count())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guesses(clock: Clock) -> TokenGuesses:
    return TokenGuesses(clock)


def guess(guesses: TokenGuesses, address: str, times: int) -> int:
    """How many of so many guesses were let through."""
    made = 0
    for _ in range(times):
        if not guesses.seconds_to_wait(address):
            guesses.count_wrong(address, next(WORDS))
            made += 1
    return made


def test_an_address_has_a_burst_of_guesses_and_then_one_at_a_time(guesses: TokenGuesses, clock: Clock) -> None:
    assert guess(guesses, "192.0.2.1", 100) == BURST
    assert guesses.seconds_to_wait("192.0.2.1") == pytest.approx(EVERY)
    clock.now += EVERY * 0.9
    assert guess(guesses, "192.0.2.1", 100) == 0
    clock.now += EVERY * 0.2
    assert guess(guesses, "192.0.2.1", 100) == 1
    clock.now += 1_000_000
    assert guess(guesses, "192.0.2.1", 100) == BURST


def test_others_are_not_slowed(guesses: TokenGuesses) -> None:
    guess(guesses, "192.0.2.1", 100)
    assert guesses.seconds_to_wait("192.0.2.2") == 0
    assert guess(guesses, "192.0.2.2", 100) == BURST


def test_the_same_wrong_token_is_no_new_guess(guesses: TokenGuesses) -> None:
    for _ in range(100):
        assert guesses.seconds_to_wait("192.0.2.1") == 0
        guesses.count_wrong("192.0.2.1", "old")
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
def test_addresses_of_one_network_share_their_guesses(guesses: TokenGuesses, one: str, other: str) -> None:
    guess(guesses, one, 100)
    assert guesses.seconds_to_wait(other) > 0


def test_networks_of_ipv6_are_apart(guesses: TokenGuesses) -> None:
    guess(guesses, "2001:db8:0:1::1", 100)
    assert guesses.seconds_to_wait("2001:db8:0:2::1") == 0


def test_the_table_is_bounded_and_forgets_the_address_that_was_quiet_longest(guesses: TokenGuesses) -> None:
    guess(guesses, "a", 100)
    guess(guesses, "b", 100)
    for number in range(MAX_ADDRESSES - 2):
        guesses.count_wrong(f"address {number}", "x")
    guesses.count_wrong("b", "once more")
    for number in range(100):
        guesses.count_wrong(f"another {number}", "x")
    assert len(guesses._guessers) == MAX_ADDRESSES
    assert guesses.seconds_to_wait("a") == 0
    assert guesses.seconds_to_wait("b") > 0
