from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.metrics import RATES
from gateway.protocol.rate_limits import (
    BACKLOG,
    LIMITS,
    LOOK_NS,
    MAX_WAIT_NS,
    Allowance,
    Excess,
    Lane,
    Rates,
    is_backlog,
)
from tests.support.sessions import NOW_NS, rates

NS = 1_000_000_000
MS = 1_000_000


def lane(**changed: float) -> Lane:
    """200 readings/s with 2,000 at once, 100 messages/s with 1,500, 64 KiB/s with 1 MiB, or as changed."""
    return Lane(rates(**changed).live, "", NOW_NS)


def taken(some: Lane, count: int, now_ns: int = NOW_NS, readings: int = 1, size: int = 1) -> int:
    """How many of so many messages are taken."""
    for done in range(count):
        if some.excess(readings, size, now_ns) is not None:
            return done
        some.spend(readings, size)
    return count


def counted(some: Lane, count: int, now_ns: int, size: int = 1) -> int:
    """The same for ordinary messages, as the session does it."""
    for done in range(count):
        if (some.left <= 0 or some.left_bytes <= 0 or now_ns >= some.look_ns) and not some.look(now_ns):
            return done
        some.left -= 1
        some.left_bytes -= size
    return count


def test_a_burst_is_taken_and_then_the_rate() -> None:
    some = lane()
    assert taken(some, 10_000, readings=2) == 1000
    assert taken(some, 10_000, NOW_NS + NS, readings=2) == 100
    assert taken(some, 10_000, NOW_NS + 3 * NS, readings=2) == 200
    assert taken(some, 10_000, NOW_NS + 1000 * NS, readings=2) == 1000, "never more than a burst"


@pytest.mark.parametrize(
    ("readings", "size", "limit", "allowed"),
    [
        (1, 1, "messages_per_second", 100),
        (50, 1, "readings_per_second", 200),
        (1, 65_000, "bytes_per_second", 65_536),
    ],
)
def test_the_limit_that_is_used_up_is_named(readings: int, size: int, limit: str, allowed: int) -> None:
    some = lane()
    sent = taken(some, 10_000, readings=readings, size=size)
    found = some.excess(readings, size, NOW_NS)
    assert found is not None
    unit = {"messages_per_second": 1, "readings_per_second": readings, "bytes_per_second": size}[limit]
    assert found[:3] == (limit, allowed, (sent + 1) * unit)


def test_who_waits_as_told_finds_a_second_worth_of_room() -> None:
    some = lane()
    taken(some, 10_000, readings=10)
    told = some.excess(10, 1, NOW_NS)
    assert told is not None
    assert taken(some, 10_000, NOW_NS + told.wait_ms * MS, readings=10) >= 20


def test_a_message_larger_than_the_burst_is_taken_and_paid_for_after() -> None:
    some = lane(burst=100, readings_per_second=50)
    assert taken(some, 9, readings=5000) == 1
    told = some.excess(1, 1, NOW_NS)
    assert told is not None
    assert told.wait_ms == MAX_WAIT_NS // MS, "nobody is told to wait for longer than a minute"
    assert taken(some, 9, NOW_NS + 97 * NS) == 0
    assert taken(some, 9, NOW_NS + 99 * NS) == 9


def test_ordinary_messages_are_counted_like_others() -> None:
    some, other = lane(), lane()
    assert counted(some, 10_000, NOW_NS) == taken(other, 10_000) == 1500
    for second in (1, 2, 30):
        now = NOW_NS + second * NS
        assert counted(some, 10_000, now) == taken(other, 10_000, now)
    assert counted(lane(), 10_000, NOW_NS, size=2048) == 512


def test_a_full_bucket_counts_a_second_too_much_at_most() -> None:
    some = lane()
    assert counted(some, 1, NOW_NS) == 1
    assert counted(some, 10_000, NOW_NS + LOOK_NS - 1) <= 1500 + 100
    some = lane()
    assert counted(some, 10_000, NOW_NS + 1000 * NS) == 1500


@given(st.lists(st.tuples(st.integers(0, 3 * NS), st.integers(1, 40), st.integers(1, 4000)), max_size=60))
def test_never_more_than_bursts_rates_a_message_and_a_second(script: list[tuple[int, int, int]]) -> None:
    quota = rates(burst=30, readings_per_second=10, byte_burst=9000, bytes_per_second=2000).live
    some, now, sums = Lane(quota, "", NOW_NS), NOW_NS, [0, 0, 0]
    for wait, readings, size in script:
        now += wait
        if counted(some, 1, now, size):
            sums = [sums[0] + 1, sums[1] + 1, sums[2] + size]
        if some.excess(readings, size, now) is None:
            some.spend(readings, size)
            sums = [sums[0] + 1, sums[1] + readings, sums[2] + size]
    seconds = (now - NOW_NS) / NS + 1
    for got, burst, rate, most in zip(sums, quota.bursts, quota.rates, (1, 40, 4000), strict=True):
        assert got <= burst + rate * seconds + most


def test_a_clock_that_is_set_back_brings_no_quota_and_blocks_no_device_for_long() -> None:
    some = lane()
    taken(some, 10_000)
    assert taken(some, 1, NOW_NS - 3600 * NS) == 0
    assert taken(some, 10_000, NOW_NS - 3599 * NS) == 100


def test_what_is_observed_is_more_than_allowed_and_about_what_came() -> None:
    some = lane(message_burst=400)
    now = NOW_NS
    for _ in range(10_000):
        now += NS // 300
        found = some.excess(1, 1, now)
        if found is not None:
            break
        some.spend(1, 1)
    assert found is not None
    assert found.observed == pytest.approx(300, rel=0.1)
    slow = lane(message_burst=1, messages_per_second=10)
    assert taken(slow, 5) == 1
    told = slow.excess(1, 1, NOW_NS)
    assert told is not None
    assert (told.allowed, told.observed) == (10, 11)


def test_lanes_are_apart_made_on_first_use_and_told() -> None:
    allowance = Allowance(rates(backlog=2))
    assert allowance.live.left == allowance.backlog.left == 0
    live, backlog = allowance.lane(NOW_NS, backlog=False), allowance.lane(NOW_NS, backlog=True)
    assert (live, backlog) == (allowance.live, allowance.backlog)
    assert taken(backlog, 10_000) == 3000
    assert taken(live, 10_000) == 1500
    assert allowance.lane(NOW_NS, backlog=True) is backlog
    found = backlog.excess(1, 1, NOW_NS)
    assert found is not None
    assert found.limit == "backlog.messages_per_second"
    told = allowance.rates.told()
    assert (told["burst"], told["backlog"]["burst"], told["backlog"]["older_than_ms"]) == (2000, 4000, 60_000)


def test_a_factor_never_leaves_less_than_one() -> None:
    assert rates(backlog=0.0001).told()["backlog"]["messages_per_second"] == 1


def test_new_limits_hold_at_once_and_forget_no_debt() -> None:
    allowance = Allowance(rates())
    live = allowance.lane(NOW_NS, backlog=False)
    assert taken(live, 1000) == 1000
    allowance.renew(rates(message_burst=100))
    assert taken(live, 1000) == 100
    allowance.renew(rates(message_burst=1_000_000))
    assert taken(live, 1000) == 0
    untouched = Allowance(rates(message_burst=7))
    untouched.renew(rates(message_burst=9))
    assert taken(untouched.lane(NOW_NS, backlog=False), 99) == 9


def test_an_operator_sees_which_device_is_throttled_and_why() -> None:
    allowance = Allowance(rates())
    assert allowance.shown(NOW_NS) == {"throttled": False, "throttles": 0}
    allowance.note(Excess("bytes_per_second", 100, 300, 500), NOW_NS)
    told = {"throttles": 1, "limit": "bytes_per_second", "allowed": 100, "observed": 300, "at": NOW_NS // MS}
    assert allowance.shown(NOW_NS + 499 * MS) == {"throttled": True, **told}
    assert allowance.shown(NOW_NS + 500 * MS) == {"throttled": False, **told}
    assert not allowance.shown(NOW_NS - NS)["throttled"], "a clock that was set back"


def test_what_is_older_than_a_minute_is_backlog() -> None:
    assert [is_backlog(NOW_NS - age * NS, NOW_NS) for age in (-5, 0, 59, 60, 3600)] == [False, False, False, True, True]
    assert not is_backlog(0, NOW_NS), "no reading at all"


def test_every_limit_has_its_counter() -> None:
    assert set(RATES) == {lane + limit for lane in ("", BACKLOG) for limit in LIMITS}
    assert isinstance(rates(), Rates)
