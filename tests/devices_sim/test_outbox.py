from __future__ import annotations

from typing import Any

from devices_sim.effects import Send
from devices_sim.outbox import Outbox
from devices_sim.tally import Tally


def make(count: int = 0, readings: int = 1, *, kept: bool = True) -> tuple[Outbox, Tally]:
    """An outbox with so many messages."""
    tally = Tally()
    outbox = Outbox("d1", tally, kept=kept)
    add(outbox, count, readings)
    return outbox, tally


def add(outbox: Outbox, count: int = 1, readings: int = 1) -> None:
    for _ in range(count):
        outbox.add(b"m%d" % outbox.next_seq, readings)


def send(outbox: Outbox, now: float = 0.0, largest: int = 100, window: int | None = 10) -> list[bytes]:
    effects: list[Any] = outbox.send(now, largest, window)
    return [effect.data for effect in effects if isinstance(effect, Send)]


def test_what_was_added_is_sent_once_and_kept_until_an_ack_that_covers_everything_up_to_it() -> None:
    outbox, tally = make(3, readings=5)
    assert (outbox.unsent, outbox.outstanding, outbox.behind) == (15, 0, True)
    assert send(outbox) == [b"m0", b"m1", b"m2"]
    assert send(outbox) == []
    assert (outbox.unsent, outbox.outstanding, outbox.behind) == (0, 15, False)
    outbox.acknowledged(1, 0.25)
    assert list(outbox.pending) == [2]
    assert (outbox.data(1), outbox.data(2)) == (None, b"m2")
    assert (tally.sent, tally.messages, tally.acked, outbox.outstanding) == (15, 3, 10, 5)
    assert tally.latency.longest == 0.25


def test_an_old_ack_changes_nothing() -> None:
    outbox, tally = make(3)
    send(outbox)
    for seq in (2, 0):
        outbox.acknowledged(seq, 1.0)
    assert (outbox.acked_to, tally.acked, tally.violations) == (2, 3, 0)


def test_an_ack_for_what_was_never_sent_is_a_violation_and_counts_as_far_as_it_can() -> None:
    outbox, tally = make(2)
    send(outbox)
    outbox.acknowledged(7, 1.0)
    assert tally.violation_texts == ["d1: the gateway acknowledges 7, but 1 is the last that was sent"]
    assert (outbox.acked_to, tally.acked) == (1, 2)


def test_the_window_is_of_what_is_unacknowledged_and_may_be_missing() -> None:
    outbox, _ = make(5)
    assert send(outbox, window=3) == [b"m0", b"m1", b"m2"]
    outbox.acknowledged(0, 1.0)
    assert send(outbox, window=3) == [b"m3"]
    assert send(outbox, window=None) == [b"m4"]


def test_a_gateway_that_lacks_some_gets_them_again_in_order_and_the_new_ones_behind() -> None:
    outbox, tally = make(4)
    send(outbox)
    add(outbox)
    outbox.welcomed(1, 1.0)
    assert send(outbox) == [b"m2", b"m3", b"m4"]
    assert (tally.acked, tally.resent, tally.sent) == (2, 2, 5)


def test_a_gateway_that_forgot_what_it_acknowledged_is_a_violation() -> None:
    outbox, tally = make(3)
    send(outbox)
    outbox.acknowledged(2, 1.0)
    outbox.welcomed(-1, 2.0)
    assert tally.violation_texts == ["d1: the gateway acknowledged 2, after a reconnect knows None"]
    assert send(outbox) == []


def test_to_go_back_is_to_send_again_and_never_forward() -> None:
    outbox, _ = make(4)
    send(outbox)
    outbox.acknowledged(0, 1.0)
    for seq in (2, 3):
        outbox.go_back(seq)
    assert send(outbox) == [b"m2", b"m3"], "the earliest of them"
    outbox.go_back(0)
    assert send(outbox) == [b"m1", b"m2", b"m3"], "but nothing that is safe"


def test_a_refused_reading_is_counted_once_however_often_it_is_refused() -> None:
    outbox, tally = make(1, readings=3)
    outbox.refused = {}
    send(outbox)
    for indexes in ({2}, {0, 2}):
        outbox.refuse(0, indexes)
    outbox.acknowledged(0, 1.0)
    assert (tally.acked, tally.refused, outbox.refused) == (1, 2, {0: [0, 2]})


def test_a_message_may_be_refused_whole_and_one_that_does_not_wait_is_none() -> None:
    outbox, tally = make(1, readings=3)
    send(outbox)
    outbox.refuse_whole(0)
    outbox.refuse_whole(-1)
    assert (tally.refused, tally.violations, outbox.outstanding) == (3, 0, 0)


def test_a_refusal_of_what_is_not_waiting_is_a_violation() -> None:
    outbox, tally = make(1)
    send(outbox)
    outbox.acknowledged(0, 1.0)
    outbox.refuse(0, {0})
    assert tally.violation_texts == ["d1: the gateway refuses 0, which is not waiting for an answer"]


def test_a_message_that_is_too_large_is_not_sent_not_waited_for_and_reported() -> None:
    outbox, tally = make(1, readings=7)
    outbox.refused = {}
    assert send(outbox, largest=1) == []
    assert (tally.oversized, tally.sent, outbox.pending, outbox.refused) == (7, 0, {}, {0: list(range(7))})


def test_without_acks_nothing_is_kept_and_there_is_no_window() -> None:
    outbox, tally = make(5, kept=False)
    assert len(send(outbox, window=2)) == 5
    assert (outbox.pending, outbox.outstanding) == ({}, 0)
    outbox.refuse(3, {0})
    assert (tally.refused, tally.violations) == (1, 0)
