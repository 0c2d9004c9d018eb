"""A replay of dead letters: stored ones are deleted, refused ones stay, and it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway.delivery import replay
from gateway.delivery.dead_letters import DeadLetter, DeadLetters
from gateway.delivery.replay import ReplayResult, replay_dead_letters
from gateway.delivery.write_result import BatchTooLarge, OperatorNeeded, PointRefused, RetryLater, Stored, WriteResult
from tests.support.delivery import ScriptedDatabase, line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def letter(number: int, device: str = "a", kind: str = "bad_request", data: bytes | None = None) -> DeadLetter:
    data = line(device, number) if data is None else data
    return DeadLetter(number, 3, 1000 + number, device, True, 5000, kind, "field type conflict", data)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DeadLetters]:
    letters = DeadLetters(tmp_path / "dead_letters.db")
    yield letters
    letters.close()


def numbers(store: DeadLetters) -> list[int]:
    return [found.record_id for found in store.list()]


def test_a_replay_deletes_stored_points_and_keeps_the_others_with_the_new_reason(store: DeadLetters) -> None:
    database = ScriptedDatabase()
    points = [line("a", number) for number in range(1, 41)]
    database.poison = {points[6], points[29]}
    for number, point in enumerate(points, start=1):
        store.add(letter(number, data=point))
    assert replay_dead_letters(store, database.write) == ReplayResult(stored=38, refused=2)
    assert numbers(store) == [7, 30]
    assert {found.reason for found in store.list()} == {"partial write: field type conflict dropped=1"}
    assert all(found.refused_ns > 5000 for found in store.list())
    assert database.lines == sorted(set(points) - database.poison)
    database.poison.clear()
    assert replay_dead_letters(store, database.write) == ReplayResult(stored=2, refused=0)
    assert store.count() == 0


def test_a_replay_writes_only_the_named_dead_letters_in_groups(
    store: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "GROUP_SIZE", 7)
    for number in range(1, 11):
        store.add(letter(number, kind="x"))
    store.add(letter(9999, kind="y"))
    store.add(letter(9998, device="b", kind="x"))
    database = ScriptedDatabase()
    assert replay_dead_letters(store, database.write, reason="x", device="a") == ReplayResult(stored=10, refused=0)
    assert numbers(store) == [9999, 9998]
    assert len(database.writes) == 2


def test_dead_letters_that_are_refused_again_are_written_once_and_in_order(
    store: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "GROUP_SIZE", 3)
    points = [line("a", number) for number in range(1, 8)]
    for number, point in enumerate(points, start=1):
        store.add(letter(number, data=point))
    alone: list[bytes] = []

    def write(lines: bytes) -> WriteResult:
        if lines in points:
            alone.append(lines)
        assert len(alone) <= len(points), "a letter is submitted again and again"
        return PointRefused("bad_request", "still")

    assert replay_dead_letters(store, write) == ReplayResult(stored=0, refused=7)
    assert alone == points


def test_a_point_that_is_too_large_by_itself_stays(store: DeadLetters) -> None:
    store.add(letter(1, data=b'm s="' + b"x" * 100 + b'" 1\n'))
    store.add(letter(2))
    database = ScriptedDatabase()
    database.max_bytes = 60
    assert replay_dead_letters(store, database.write) == ReplayResult(stored=1, refused=1)
    assert store.count_by_reason() == {"too_large": 1}


@pytest.mark.parametrize("result", [RetryLater("unreachable", "refused"), OperatorNeeded("unauthorized", "401")])
def test_a_replay_stops_when_the_database_is_down(store: DeadLetters, result: RetryLater | OperatorNeeded) -> None:
    for number in range(1, 5):
        store.add(letter(number))
    answers: list[WriteResult] = [PointRefused("bad_request", "one of them"), Stored(), result]
    assert replay_dead_letters(store, lambda _lines: answers.pop(0)) == ReplayResult(
        stored=2, refused=0, stopped=result
    )
    assert numbers(store) == [3, 4]


def test_dead_letters_added_during_a_replay_wait_for_the_next(store: DeadLetters) -> None:
    store.add(letter(1))

    def write(_lines: bytes) -> WriteResult:
        store.add(letter(2))
        return BatchTooLarge("too_large", "words")

    assert replay_dead_letters(store, write) == ReplayResult(stored=0, refused=1)
    assert store.count() == 2


def test_a_replay_by_number_writes_these_dead_letters(store: DeadLetters) -> None:
    for number in range(1, 6):
        store.add(letter(number))
    chosen = [each.n for each in store.list()][1:3]
    assert replay_dead_letters(store, lambda _: Stored(), ids=chosen) == ReplayResult(2, 0)
    assert numbers(store) == [1, 4, 5]
