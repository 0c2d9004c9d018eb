"""Settled dead letters are counted once, across processes, crashes and redelivery."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway.delivery import settled_dead_letters
from gateway.delivery.dead_letters import DeadLetter, DeadLetters
from gateway.delivery.replay import replay_dead_letters
from gateway.delivery.settled_dead_letters import LedgerCorrection, Settlement
from gateway.delivery.write_result import PointRefused, Stored

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def letter(record_id: int, device: str = "a", *, line: int = 0, counted: bool = True) -> DeadLetter:
    return DeadLetter(record_id, line, 1000 + record_id, device, counted, 5, "type_conflict", "words", b"m a=1 1\n")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DeadLetters]:
    letters = DeadLetters(tmp_path / "letters.db", max_count=5)
    yield letters
    letters.close()


def stored(_lines: bytes) -> Stored:
    return Stored()


def test_a_replayed_dead_letter_is_reported_once_under_its_device(store: DeadLetters, tmp_path: Path) -> None:
    for record_id, device in enumerate("aab", start=1):
        store.add(letter(record_id, device))
    store.add(letter(9, counted=False))
    assert store.settled_after(0) == (0, [])
    other = DeadLetters(tmp_path / "letters.db")
    replay_dead_letters(other, stored)
    other.close()
    mark, changes = store.settled_after(0)
    assert sorted(changes, key=lambda c: c.device) == [
        LedgerCorrection("a", Settlement.STORED, 2),
        LedgerCorrection("b", Settlement.STORED, 1),
    ]
    assert store.settled_after(mark) == (mark, [])
    assert store.refused_in(1, 1000 + 1) == {"a": 1}, (
        "a ledger made again takes it for refused, and then hears that it is stored"
    )
    assert store.refused_in(9, 1000 + 9) == {}


def test_a_point_refused_again_is_still_a_dead_letter(store: DeadLetters) -> None:
    store.add(letter(1))
    replay_dead_letters(store, lambda _: PointRefused("x", "y"))
    assert store.settled_after(0) == (0, [])
    assert store.count() == 1


def test_discarded_and_deleted_dead_letters_are_told_apart(store: DeadLetters) -> None:
    for record_id in range(1, 8):
        store.add(letter(record_id))
    store.delete(device="a")
    _, changes = store.settled_after(0)
    assert sorted(changes, key=lambda c: c.settlement) == [
        LedgerCorrection("a", Settlement.DELETED, 5),
        LedgerCorrection("a", Settlement.DISCARDED, 2),
    ]
    assert [store.refused_in(record_id, 1000 + record_id) for record_id in range(1, 8)] == [{"a": 1}] * 7


def test_records_that_are_delivered_again_are_counted_again(store: DeadLetters) -> None:
    """After a crash before the cursor moved, the points are written again, and only the second result counts."""
    for record_id in (1, 2, 3):
        store.add(letter(record_id))
    replay_dead_letters(store, stored, device="a")
    store.add(letter(4))
    mark, _ = store.settled_after(0)
    assert store.uncount(2, 1003, mark) == [LedgerCorrection("a", Settlement.STORED, -1)]
    assert store.uncount(2, 1003, mark) == []
    assert [store.refused_in(record_id, 1000 + record_id) for record_id in (2, 3, 4)] == [{"a": 1}, {}, {}]
    assert store.add(letter(4)), "refused again: it counts again"
    assert store.refused_in(4, 1000 + 4) == {"a": 1}
    assert not store.add(letter(4))
    replay_dead_letters(store, stored)
    assert store.settled_after(mark)[1] == [LedgerCorrection("a", Settlement.STORED, 1)]


def test_dead_letters_of_an_earlier_spool_still_count(store: DeadLetters) -> None:
    store.add(letter(50))
    assert store.uncount(2, 5000, 0) == []
    assert store.refused_in(50, 1000 + 50) == {"a": 1}


def test_settled_dead_letters_of_a_message_are_found(store: DeadLetters) -> None:
    for line in range(4):
        store.add(letter(1, line=line))
    replay_dead_letters(store, stored)
    ended = store.settled_of_message(1, 1001, 1, 2)
    assert [(each.line, each.settlement, each.kind, each.reason) for each in ended] == [
        (1, Settlement.STORED, "type_conflict", "words"),
        (2, Settlement.STORED, "type_conflict", "words"),
    ]
    assert store.settled_of_message(1, 999, 1, 2) == []


def test_rows_that_a_checkpoint_counts_are_deleted_except_the_newest(
    store: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settled_dead_letters, "KEPT", 2)
    for record_id in range(1, 6):
        store.add(letter(record_id))
    replay_dead_letters(store, stored)
    mark, _ = store.settled_after(0)

    def left() -> list[int]:
        return [record_id for record_id in range(1, 6) if store.refused_in(record_id, 1000 + record_id)]

    store.trim(mark, 1)
    assert left() == [2, 3, 4, 5]
    store.trim(2, 5)
    assert left() == [3, 4, 5]
    store.trim(mark, 5)
    assert left() == [4, 5]
