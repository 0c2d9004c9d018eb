from __future__ import annotations

from copy import copy
from itertools import product

import orjson
import pytest

from gateway.ledger import NO_SEQ, Entry, Sequence
from gateway.protocol.flow_control import MIN_IGNORED, FlowControl
from gateway.protocol.messages import Ack, JsonAnswers, Send

MS = 1_000_000


def flow(limit: int = 2, ack: Ack = Ack.DURABLE) -> FlowControl:
    made = FlowControl(limit, JsonAnswers())
    made.restart(Sequence(), ack)
    return made


def throttle(effects: object) -> dict[str, object]:
    assert isinstance(effects, tuple)
    [send] = effects
    assert isinstance(send, Send)
    found: dict[str, object] = orjson.loads(send.data)
    assert found.pop("type") == "throttle"
    return found


def taken(some: FlowControl, *seqs: int, now_ns: int = 0, room: bool = True) -> list[int]:
    """The gaps before the numbers, all of which must be taken."""
    gaps = []
    for seq in seqs:
        assert some.hold(seq, now_ns, room=room) is None
        gaps.append(some.take(seq))
    return gaps


def test_numbers_are_accepted_and_gaps_counted() -> None:
    some = flow(limit=9)
    assert taken(some, 5, 6, 9) == [0, 0, 2]
    assert some.sequence.accepted == 9


def test_the_window_opens_with_the_commit() -> None:
    some = flow()
    taken(some, 1, 2)
    assert throttle(some.hold(3, 0, room=True)) == {
        "limit": "max_unacked",
        "allowed": 2,
        "observed": 3,
        "retry_after_ms": 100,
        "from_seq": 3,
    }
    assert some.committed(1)
    assert some.hold(4, 0, room=True) == ()
    taken(some, 3)
    assert throttle(some.hold(4, 0, room=True))["from_seq"] == 4


def test_the_window_at_level_stored_opens_with_the_delivery() -> None:
    some = flow(limit=1, ack=Ack.STORED)
    taken(some, 1)
    some.committed(1)
    assert throttle(some.hold(2, 0, room=True))["limit"] == "max_unacked"
    some.stored(1)
    taken(some, 2)


@pytest.mark.parametrize("ack", Ack)
def test_more_reported_than_taken_does_no_harm(ack: Ack) -> None:
    """Deliveries are reported for older connections of the device, too."""
    some = flow(limit=1, ack=ack)
    some.committed(5)
    some.stored(5)
    taken(some, 1)
    if ack is not Ack.NONE:
        assert throttle(some.hold(2, 0, room=True))["limit"] == "max_unacked"


def test_at_level_none_nothing_is_held() -> None:
    some = flow(limit=1, ack=Ack.NONE)
    assert taken(some, 1, 2, 3, 9, room=False) == [0, 0, 0, 5]


def test_safe_seq_is_the_levels() -> None:
    some = flow()
    some.sequence.durable, some.sequence.stored = 5, 3
    assert some.safe_seq == 5
    some.restart(some.sequence, Ack.STORED)
    assert some.safe_seq == 3


def test_messages_of_an_earlier_boot_come_first_and_count_no_more() -> None:
    some = flow()
    taken(some, 1, 2)
    some.restart(Sequence(), Ack.DURABLE)
    taken(some, 0, 1)
    assert not some.committed(1)
    assert some.committed(2)
    taken(some, 2)
    assert throttle(some.hold(3, 0, room=True))["from_seq"] == 3


def test_a_hello_with_the_same_boot_forgets_no_message() -> None:
    some = flow()
    taken(some, 1, 2)
    some.restart(some.sequence, Ack.DURABLE)
    assert throttle(some.hold(3, 0, room=True))["limit"] == "max_unacked"
    assert some.committed(2)


def test_messages_above_from_seq_are_ignored_until_it_comes() -> None:
    some = flow()
    assert throttle(some.hold(5, 0, room=False)) == {"limit": "spool_bytes", "retry_after_ms": 1000, "from_seq": 5}
    assert some.hold(6, 0, room=True) == ()
    assert some.hold(7, 0, room=False) == ()
    assert not some.ignoring
    assert taken(some, 5, 6) == [0, 0]


def test_a_lower_number_fills_in_and_the_throttle_stands() -> None:
    some = flow(limit=9)
    taken(some, 1)
    some.hold(5, 0, room=False)
    assert taken(some, 3) == [1]
    assert some.hold(6, 0, room=True) == ()
    assert throttle(some.hold(4, 0, room=False))["from_seq"] == 4
    assert some.hold(5, 0, room=True) == ()
    assert taken(some, 4, 5) == [0, 0]


def test_more_than_a_window_against_a_throttle_is_ignoring_it() -> None:
    some = flow(limit=99)
    some.hold(1, 0, room=False)
    for seq in range(2, 101):
        some.hold(seq, 0, room=True)
        assert not some.ignoring
    some.hold(101, 0, room=True)
    assert some.ignoring


def test_coming_back_in_time_is_not() -> None:
    some = flow(limit=2)
    for attempt in range(9):
        some.hold(1, attempt * 1000 * MS, room=False)
        some.hold(2, attempt * 1000 * MS, room=False)
        some.hold(3, attempt * 1000 * MS, room=False)
        assert not some.ignoring


def test_coming_back_too_early_is() -> None:
    some = flow(limit=99)
    for attempt in range(100):
        some.hold(1, attempt * 999 * MS, room=False)
        assert not some.ignoring
    some.hold(1, 100 * 999 * MS, room=False)
    assert some.ignoring


def test_a_device_with_one_message_under_way_may_be_early_some_times() -> None:
    some = flow(limit=1)
    for attempt in range(MIN_IGNORED + 1):
        some.hold(1, attempt * 995 * MS, room=False)
        assert not some.ignoring
    some.hold(1, (MIN_IGNORED + 1) * 995 * MS, room=False)
    assert some.ignoring


def test_a_hello_ends_a_throttle() -> None:
    some = flow(limit=2)
    some.hold(1, 0, room=False)
    some.restart(some.sequence, Ack.DURABLE)
    taken(some, 7)


def test_after_a_failure_the_first_that_is_missing_comes_next() -> None:
    some = flow(limit=3)
    taken(some, 4, 7, 8)
    some.failed(3, 0)
    assert throttle(some.fall_back(Entry("d", seq=7, gaps=2), Entry("d", seq=8), 500)) == {
        "limit": "spool_write",
        "retry_after_ms": 500,
        "from_seq": 7,
    }
    assert some.sequence.accepted == 4
    assert some.hold(9, 0, room=True) == ()
    assert taken(some, 7, 8, 9) == [2, 0, 0]
    assert throttle(some.hold(10, 0, room=True))["limit"] == "max_unacked"


def test_a_failure_never_raises_what_the_ledger_took_back() -> None:
    some = flow()
    taken(some, 4)
    some.sequence.accepted = NO_SEQ
    some.fall_back(Entry("d", seq=4), Entry("d", seq=4), 500)
    assert some.sequence.accepted == NO_SEQ


def test_a_failure_during_a_throttle_goes_back_further() -> None:
    some = flow()
    taken(some, 1, 2)
    some.hold(3, 0, room=False)
    assert throttle(some.fall_back(Entry("d", seq=1), Entry("d", seq=1), 500))["from_seq"] == 1
    some.hold(2, 0, room=True)
    assert throttle(some.fall_back(Entry("d", seq=2), Entry("d", seq=2), 500))["from_seq"] == 1


def test_an_ack_may_wait_while_more_than_half_of_the_window_is_left() -> None:
    some = flow(limit=8)
    assert not some.pay()
    taken(some, 1, 2, 3, 4)
    assert some.committed(2)
    assert some.owe(2), "two are safe and two under way: half the window"
    assert some.pay()
    assert not some.pay()
    taken(some, 5)
    assert some.committed(3)
    assert not some.owe(3)
    some.restart(some.sequence, Ack.DURABLE)
    assert not some.pay(), "the welcome has said it"


def test_an_ack_waits_only_for_a_device_that_streams() -> None:
    some = flow(limit=100)

    def message(seq: int) -> bool:
        taken(some, seq)
        some.committed(1)
        return some.owe(1)

    for seq in range(3):
        assert message(seq), "it may be waiting for this ack"
        assert some.pay()
    taken(some, 3, 4)
    some.committed(1)
    assert not some.owe(1), "another message is under way"
    some.committed(1)
    assert not some.owe(1)
    assert some.pay()
    for seq in range(5, 8):
        assert not message(seq)
    assert some.pay(), "three in one"
    assert not message(8)
    assert some.pay(), "it waited, and nothing came"
    assert message(9)


@pytest.mark.parametrize("ack", Ack)
def test_the_short_way_of_a_commit_comes_to_the_same_as_the_long_one(ack: Ack) -> None:
    def long_way(some: FlowControl) -> int:
        own = some.committed(numbered)
        return some.safe_seq if own and ack is Ack.DURABLE and some.owe(numbered) and some.pay() else NO_SEQ

    def state(some: FlowControl) -> dict[str, object]:
        return {name: getattr(some, name) for name in FlowControl.__slots__}

    short = 0
    for earlier, streams, before, owed, numbered in product(range(3), (False, True), range(4), range(2), range(4)):
        first = flow(limit=100, ack=ack)
        taken(first, *range(earlier))
        if streams:
            first.owe(2)
        first.restart(Sequence(durable=2, stored=1), ack)
        taken(first, *range(3, 3 + before))
        if owed:
            first.owe(owed)
        second = copy(first)
        sole = first.committed_sole(numbered)
        short += sole != NO_SEQ
        assert (sole if sole != NO_SEQ else long_way(first)) == long_way(second)
        assert state(first) == state(second)
    assert short == (1 if ack is Ack.DURABLE else 0)


def test_who_is_kept_waiting_hears_where_to_go_on_and_nothing_is_passed_over() -> None:
    some = flow(limit=9)
    assert some.slow_down() == (), "no number was ever taken"
    taken(some, 5)
    assert throttle(some.slow_down()) == {"limit": "commit_queue", "retry_after_ms": 2000, "from_seq": 6}
    assert some.hold(7, 0, room=True) is None, "what was on its way is taken as it comes"
    assert some.hold(6, 0, room=False) is not None
    assert some.slow_down() == (), "it has been told to wait already"
