from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger import BOOTS_KEPT, NO_SEQ, Entry, Kind, Ledger, Sequence
from gateway.state import checkpoint


def assert_balanced(ledger: Ledger) -> None:
    accounts = [*ledger.accounts.values(), ledger.total]
    for account in accounts:
        sums = account.sums()
        assert min(sums.values()) >= 0
        assert sums["received"] == sum(sums[part] for part in ("stored", "duplicate", "rejected", "dropped", "pending"))
    for part in ledger.total.sums():
        assert ledger.total.sums()[part] == sum(a.sums()[part] for a in ledger.accounts.values())


def test_a_committed_entry_is_pending_until_it_is_delivered() -> None:
    ledger = Ledger()
    entry = Entry("a", "b1", seq=4, lines=3, duplicate=0, rejected=2, gaps=1)
    ledger.committed(1, [entry])
    assert ledger.accounts["a"].sums() == {
        "received": 5,
        "stored": 0,
        "duplicate": 0,
        "rejected": 2,
        "dropped": 0,
        "pending": 3,
        "gaps": 1,
    }
    assert ledger.account("a").sequence("b1").durable == 4
    ledger.delivered(1, [entry], {})
    assert ledger.accounts["a"].pending == 0
    assert ledger.account("a").sequence("b1").stored == 4
    assert_balanced(ledger)


def test_dead_letters_count_as_rejected_not_as_stored() -> None:
    ledger = Ledger()
    entries = [Entry("a", lines=2), Entry("b", lines=5), Entry("a", lines=2)]
    ledger.committed(1, entries)
    ledger.delivered(1, entries, {"a": 3})
    assert ledger.accounts["a"].sums()["rejected"] == 3
    assert ledger.accounts["a"].stored == 1
    assert ledger.accounts["b"].stored == 5
    assert_balanced(ledger)


def test_presence_is_not_a_reading() -> None:
    ledger = Ledger()
    entry = Entry("a", lines=1, kind=Kind.PRESENCE)
    ledger.committed(1, [entry])
    ledger.delivered(1, [entry], {})
    ledger.dropped(2, [entry])
    assert ledger.total.sums() == Ledger().total.sums()
    assert ledger.committed_to == 1


def test_a_failed_commit_takes_acceptance_back_to_what_is_durable() -> None:
    ledger = Ledger()
    sequence = ledger.account("a").sequence("b")
    ledger.committed(1, [Entry("a", "b", seq=7)])
    sequence.accepted = 12
    assert ledger.rolled_back(Entry("a", "b", seq=12)) == 7
    assert sequence.accepted == 7


def test_only_the_newest_boots_are_remembered() -> None:
    account = Ledger().account("a")
    for boot in range(BOOTS_KEPT + 3):
        account.sequence(str(boot))
    assert list(account.boots) == [str(boot) for boot in range(3, BOOTS_KEPT + 3)]


def test_delivery_of_forgotten_boots_does_not_push_out_a_live_one() -> None:
    ledger = Ledger()
    old = [Entry("a", str(boot), seq=1, lines=1) for boot in range(3 * BOOTS_KEPT)]
    for number, entry in enumerate(old, 1):
        ledger.committed(number, [entry])
    live = ledger.account("a").sequence("live")
    for number, entry in enumerate(old, 1):
        ledger.delivered(number, [entry], {})
    ledger.committed(len(old) + 1, [Entry("a", "live", seq=4, lines=1)])
    assert live.durable == 4


def test_a_boot_in_use_outlives_the_sessions_that_greet_it() -> None:
    account = Ledger().account("d1")
    sequence = account.sequence("b1")
    for connection in range(10):
        account.sequence(f"session {connection}")
        assert account.sequence("b1") is sequence


@pytest.mark.parametrize("copied", [False, True])
def test_a_boot_that_was_forgotten_while_its_session_lives_comes_back(copied: bool) -> None:
    def commit(boot: str, seq: int, sequence: Sequence) -> None:
        number = ledger.committed_to + 1
        as_it_was = list(ledger.snapshot().rows()) if copied else []
        snapshot = ledger.snapshot() if copied else None
        ledger.committed(number, [Entry("a", boot, seq=seq, lines=1, sequence=sequence)])
        assert snapshot is None or list(snapshot.rows()) == as_it_was

    def remembered() -> list[str]:
        for boot, sequence in account.boots.items():
            assert sequence.account is account, boot
        return list(account.boots)

    ledger = Ledger()
    account = ledger.account("a")
    first = account.sequence("0")
    commit("0", 1, first)
    others = [account.sequence(str(boot)) for boot in range(1, BOOTS_KEPT + 1)]
    assert first.account is None
    commit("0", 2, first)
    assert remembered() == ["2", "3", "4", "5", "6", "7", "8", "0"]
    assert others[0].account is None
    assert account.sequence("0") is first
    second = account.sequence("1")  # of another session of the same boot
    commit("1", 3, second)
    commit("1", 1, others[0])
    assert second.account is None
    assert account.boots["1"] is others[0]
    commit("1", 4, second)
    assert others[0].account is None
    assert account.boots["1"] is second
    assert (first.durable, second.durable, others[0].durable) == (2, 4, 1)
    assert (account.received, len(remembered())) == (5, BOOTS_KEPT)
    ledger.committed(99, [Entry("a", "1", lines=1, sequence=others[0])])
    assert others[0].account is None, "a message without a number is no use of the boot"
    again = Ledger.restored(json.loads(checkpoint.encode(ledger.snapshot())))
    account = again.account("a")
    assert remembered() == list(ledger.account("a").boots)


def test_a_duplicate_never_moves_the_sequence_back() -> None:
    ledger = Ledger()
    ledger.committed(1, [Entry("a", "b", seq=9, lines=1), Entry("a", "b", seq=3, duplicate=1)])
    assert ledger.account("a").sequence("b").durable == 9


entries = st.builds(
    Entry,
    device=st.sampled_from("abc"),
    boot=st.sampled_from(["", "x", "y"]),
    seq=st.integers(NO_SEQ, 50),
    lines=st.integers(0, 9),
    duplicate=st.integers(0, 3),
    rejected=st.integers(0, 3),
    gaps=st.integers(0, 3),
    kind=st.sampled_from(Kind),
)


@given(st.lists(st.tuples(st.lists(entries, max_size=5), st.sampled_from(["pending", "stored", "dropped", "refused"]))))
def test_the_equation_holds_whatever_happens_and_survives_a_checkpoint(records: list[tuple[list[Entry], str]]) -> None:
    ledger = Ledger()
    for number, (batch, fate) in enumerate(records, 1):
        ledger.committed(number, batch)
        if fate == "stored":
            ledger.delivered(number, batch, {})
        elif fate == "refused":
            ledger.delivered(number, batch, {"a": 2, "b": 100})
        elif fate == "dropped":
            ledger.dropped(number, batch)
        assert_balanced(ledger)
    again = Ledger.restored(json.loads(checkpoint.encode(ledger.snapshot())))
    assert again.total.sums() == ledger.total.sums()
    assert checkpoint.encode(again.snapshot()) == checkpoint.encode(ledger.snapshot())
    assert_balanced(again)


def test_pending_readings_that_are_not_in_the_spool_are_counted_as_dropped() -> None:
    ledger = Ledger()
    for record_id in (1, 2, 3):
        ledger.committed(record_id, [Entry("a", lines=2), Entry("b", lines=1)])
    ledger.delivered(1, [Entry("a", lines=2), Entry("b", lines=1)], {})
    assert ledger.write_off({"a": 4, "b": 2}) == 0
    assert ledger.write_off({"a": 2, "b": 1}) == 3
    assert ledger.account("a").sums()["dropped"] == 2
    ledger.delivered(3, [Entry("a", lines=2), Entry("b", lines=1)], {})
    assert ledger.write_off({}) == 0
    assert_balanced(ledger)
    for account, numbers in ((ledger.account("a"), (6, 4, 2, 0)), (ledger.account("b"), (3, 2, 1, 0))):
        assert (account.received, account.stored, account.dropped, account.pending) == numbers
    assert ledger.write_off({}) == ledger.total.pending == 0
    assert ledger.total.dropped == 3


def test_readings_that_can_be_read_again_are_no_longer_dropped() -> None:
    ledger = Ledger()
    for record_id in (1, 2):
        ledger.committed(record_id, [Entry("a", lines=2), Entry("b", lines=1)])
    assert ledger.write_off({"a": 2}) == 4
    assert ledger.write_off({"a": 4, "b": 1}) == -3
    assert_balanced(ledger)
    assert (ledger.account("a").dropped, ledger.account("b").dropped, ledger.total.pending) == (0, 1, 5)
    assert ledger.write_off({"a": 5, "b": 1, "c": 4}) == 0
    assert_balanced(ledger)
    assert (ledger.account("a").received, ledger.account("c").pending, ledger.total.pending) == (5, 4, 10)


def test_a_settled_dead_letter_moves_its_reading_and_survives_a_snapshot() -> None:
    ledger = Ledger()
    ledger.committed(1, [Entry("a", lines=5)])
    ledger.delivered(1, [Entry("a", lines=5)], {"a": 3})
    ledger.settled("a", 2, 1)
    ledger.settled_to = 7
    again = Ledger.restored(json.loads(checkpoint.encode(ledger.snapshot())))
    for sums in (ledger.total, ledger.account("a"), again.total, again.account("a")):
        assert (sums.received, sums.stored, sums.rejected, sums.dropped, sums.pending) == (5, 4, 0, 1, 0)
    assert again.settled_to == 7
    before = json.loads(checkpoint.encode(ledger.snapshot()))
    del before["settled_to"]
    assert Ledger.restored(before).settled_to == 0


def test_a_snapshot_is_of_its_moment_whatever_changes_while_it_is_read() -> None:
    def filled() -> Ledger:
        ledger = Ledger()
        ledger.committed(1, [Entry(device, "b", 1, lines=3) for device in "abcdef"])
        return ledger

    ledger, as_it_was = filled(), list(filled().snapshot().rows())
    snapshot = ledger.snapshot()
    ledger.delivered(1, [Entry("b", "b", 1, lines=3)], {"b": 1})
    rows = snapshot.rows()
    read = [next(rows) for _ in range(3)]
    ledger.committed(2, [Entry(device, "b2", 5, lines=1) for device in "aefg"])
    ledger.dropped(2, [Entry("f", "b", 1, lines=3)])
    read += rows
    assert read == as_it_was
    assert (snapshot.marks["committed_to"], snapshot.marks["delivered_to"]) == (1, 0)
    assert json.loads(checkpoint.encode(ledger.snapshot()))["accounts"]["g"][0][0] == 1


def test_a_snapshot_that_a_newer_one_ended_is_not_a_checkpoint() -> None:
    ledger = Ledger()
    ledger.committed(1, [Entry("a", lines=1)])
    older = ledger.snapshot()
    newer = ledger.snapshot()
    ledger.committed(2, [Entry("a", lines=1)])
    with pytest.raises(RuntimeError, match="newer snapshot"):
        list(older.rows())
    assert json.loads(checkpoint.encode(newer))["accounts"]["a"][0][0] == 1


def test_a_snapshot_that_is_read_on_a_thread_is_consistent_in_itself() -> None:
    ledger = Ledger()
    devices = [f"d{number}" for number in range(2000)]
    ledger.committed(1, [Entry(device, "b", 1, lines=1) for device in devices])
    for record_id in range(2, 12):
        with ThreadPoolExecutor(1) as threads:
            encoding = threads.submit(checkpoint.encode, ledger.snapshot())
            for device in reversed(devices):
                ledger.committed(record_id, [Entry(device, f"b{record_id}", 1, lines=1)])
            accounts = json.loads(encoding.result(10))["accounts"]
        assert {(sums[0], len(boots)) for sums, boots in accounts.values()} == {(record_id - 1, min(record_id - 1, 8))}


def test_to_take_a_snapshot_of_many_accounts_costs_next_to_nothing() -> None:
    ledger = Ledger()
    ledger.committed(1, [Entry(f"d{number}", "b", 1, lines=1) for number in range(50_000)])
    began = time.thread_time()
    ledger.snapshot()
    assert time.thread_time() - began < 0.01
