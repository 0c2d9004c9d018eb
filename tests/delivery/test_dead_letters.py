"""Dead letters on disk: found again, bounded, and shared between processes."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from gateway.delivery.dead_letters import DeadLetter, DeadLetters
from tests.support.delivery import line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def letter(
    number: int, device: str = "a", kind: str = "bad_request", data: bytes | None = None, *, counted: bool = True
) -> DeadLetter:
    return DeadLetter(
        record_id=number,
        line=3,
        committed_ns=1000 + number,
        device=device,
        counted=counted,
        refused_ns=5000,
        kind=kind,
        reason="field type conflict: „temp“ is type integer",
        data=data if data is not None else line(device, number),
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dead_letters.db"


@pytest.fixture
def store(path: Path) -> Iterator[DeadLetters]:
    letters = DeadLetters(path)
    yield letters
    letters.close()


def numbers(store: DeadLetters, **where: str) -> list[int]:
    return [found.record_id for found in store.list(**where)]  # type: ignore[arg-type]


def test_a_dead_letter_is_read_as_it_was_added(store: DeadLetters, path: Path) -> None:
    data = b'm\\,x,device=a s="two\nlines",v=1 7\n'
    assert store.add(letter(1, data=data))
    store.close()
    again = DeadLetters(path)
    (kept,) = again.list()
    assert kept.data == data
    assert (kept.record_id, kept.line, kept.committed_ns, kept.refused_ns) == (1, 3, 1001, 5000)
    assert (kept.device, kept.kind, kept.reason) == ("a", "bad_request", letter(1).reason)
    assert kept.measurement == "m,x"
    assert again.get(kept.n) == kept
    assert again.get(kept.n + 1) is None
    again.close()


def test_a_malformed_line_is_kept_too(store: DeadLetters) -> None:
    assert store.add(letter(1, data=b"\xff\n"))
    (kept,) = store.list()
    assert (kept.data, kept.measurement) == (b"\xff\n", "")


def test_a_page_has_the_newest_dead_letters_and_the_total(store: DeadLetters) -> None:
    for number in range(1, 8):
        store.add(letter(number, "ab"[number % 2], "too_large" if number > 5 else "bad_request"))

    def page(offset: int, limit: int, **where: str) -> tuple[int, list[int]]:
        total, found = store.page(offset, limit, **where)
        return total, [each.record_id for each in found]

    assert page(0, 3) == (7, [7, 6, 5])
    assert page(5, 3) == (7, [2, 1])
    assert page(7, 3) == (7, [])
    assert page(1, 2, device="b") == (4, [5, 3])
    assert page(0, 9, device="b", reason="too_large") == (1, [7])
    assert page(0, 9, device="c") == (0, [])


def test_dead_letters_are_found_by_number(store: DeadLetters) -> None:
    for number in range(1, 6):
        store.add(letter(number, "ab"[number % 2]))
    chosen = [each.n for each in store.list()][1:4]
    assert [each.n for each in store.list(ids=chosen, after=chosen[0])] == chosen[1:]
    assert store.list(ids=[]) == ()
    assert store.delete(ids=chosen, device="b") == 1
    assert numbers(store) == [1, 2, 4, 5]


def test_a_redelivered_point_is_kept_once_and_one_of_a_new_spool_too(store: DeadLetters) -> None:
    assert store.add(letter(1))
    assert not store.add(letter(1))
    assert store.count() == 1
    reused = DeadLetter(1, 3, 999_999, "b", True, 5000, "bad_request", "words", line("b", 1))
    assert store.add(reused)
    assert store.count() == 2


def test_dead_letters_are_found_by_reason_and_device_in_pages(store: DeadLetters) -> None:
    for number, (device, kind) in enumerate([("a", "x"), ("b", "x"), ("a", "y"), ("a", "x")], start=1):
        store.add(letter(number, device, kind))
    assert numbers(store) == [1, 2, 3, 4]
    assert numbers(store, reason="x") == [1, 2, 4]
    assert numbers(store, device="a") == [1, 3, 4]
    assert numbers(store, reason="x", device="a") == [1, 4]
    assert [found.record_id for found in store.list(after=1, limit=2)] == [2, 3]
    assert store.count_by_reason() == {"x": 3, "y": 1}


def test_the_readings_of_a_record_are_counted_by_device(store: DeadLetters) -> None:
    kept = letter(1)
    for index, (device, counted) in enumerate([("a", True), ("a", True), ("b", True), ("b", False)]):
        store.add(replace(kept, line=index, device=device, counted=counted))
    store.add(letter(2, "a"))
    assert store.refused_in(1, kept.committed_ns) == {"a": 2, "b": 1}
    assert store.refused_in(1, kept.committed_ns + 1) == {}, "a record of another spool that had this number"
    assert store.refused_in(3, kept.committed_ns) == {}
    assert [found.counted for found in store.list(device="b")] == [True, False]


def test_only_the_named_dead_letters_are_deleted(store: DeadLetters) -> None:
    for number, (device, kind) in enumerate([("a", "x"), ("b", "x"), ("a", "y")], start=1):
        store.add(letter(number, device, kind))
    assert store.delete(reason="x", device="a") == 1
    assert numbers(store) == [2, 3]
    assert store.delete(device="nobody") == 0
    assert store.delete() == 2
    assert store.count() == 0


def test_beyond_the_bound_the_oldest_are_discarded_and_counted(
    path: Path, caplog: pytest.LogCaptureFixture, store: DeadLetters
) -> None:
    bounded = DeadLetters(path, max_count=3)
    for number in range(1, 6):
        bounded.add(letter(number))
    assert numbers(bounded) == [3, 4, 5]
    assert bounded.discarded == 2
    assert caplog.text.count("the oldest are discarded") == 1
    store.delete()  # as another process would do it: the store only estimates how much it has
    for number in range(6, 9):
        bounded.add(letter(number))
    assert numbers(bounded) == [6, 7, 8]
    bounded.close()
    reopened = DeadLetters(path, max_count=3)
    reopened.add(letter(9))
    assert numbers(reopened) == [7, 8, 9]
    assert reopened.discarded == 3
    reopened.close()


@pytest.mark.parametrize("bounds", [{"max_count": 200}, {"max_bytes": 200 * 40}])
def test_beyond_the_bound_a_hundredth_is_discarded_at_once(path: Path, bounds: dict[str, int]) -> None:
    bounded = DeadLetters(path, **bounds)

    def add(*numbers: int) -> tuple[int, int]:
        for number in numbers:
            bounded.add(letter(number, data=b"x" * 40))
        return bounded.count(), bounded.discarded

    assert add(*range(1, 201)) == (200, 0)
    bounded.delete(ids=[1])
    assert add(201) == (200, 0), "there was room, though the store did not know"
    assert add(202) == (198, 3)
    assert add(203, 204) == (200, 3)
    assert add(205) == (198, 6)
    assert numbers(bounded) == list(range(8, 206))
    bounded.close()


def test_there_is_a_bound_in_bytes_too(path: Path) -> None:
    bounded = DeadLetters(path, max_bytes=100)
    for number, size in enumerate((40, 40, 30, 90, 5), start=1):
        bounded.add(letter(number, data=b"x" * size))
        assert sum(len(kept.data) for kept in bounded.list()) <= 100
    assert numbers(bounded) == [4, 5]
    assert bounded.discarded == 3
    bounded.close()


ANOTHER_PROCESS = """
import sys
from pathlib import Path
from gateway.delivery.dead_letters import DeadLetters
letters = DeadLetters(Path(sys.argv[1]))
print(len(letters.list()), letters.delete(device="a"))
letters.close()
"""


def test_another_process_uses_the_same_file(store: DeadLetters, path: Path) -> None:
    for number, device in enumerate("aab", start=1):
        store.add(letter(number, device))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", ANOTHER_PROCESS, str(path)]
    answer = subprocess.run(command, env=environment, capture_output=True, timeout=20, check=True)
    assert answer.stdout.split() == [b"3", b"2"]
    assert numbers(store) == [3]


def test_add_waits_for_the_transaction_of_another_process(store: DeadLetters, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    adding = threading.Thread(target=store.add, args=(letter(1),))
    adding.start()
    adding.join(0.1)
    assert adding.is_alive()
    other.execute("COMMIT")
    other.close()
    adding.join(10)
    assert numbers(store) == [1]


def test_a_dead_letter_is_synced_to_the_disk(store: DeadLetters) -> None:
    db = store._db
    assert db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_several_threads_add_at_once(store: DeadLetters) -> None:
    threads = [
        threading.Thread(target=lambda first=first: [store.add(letter(first + n)) for n in range(20)])
        for first in (0, 20, 40, 60)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(numbers(store)) == list(range(80))


def test_a_failed_addition_leaves_the_store_usable(store: DeadLetters) -> None:
    with pytest.raises(sqlite3.Error):
        store.add(letter(1, kind=None))  # type: ignore[arg-type]
    assert store.add(letter(1))
    assert numbers(store) == [1]


def test_a_damaged_file_is_set_aside_and_logged(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_bytes(b"this was a database once" * 500)
    letters = DeadLetters(path)
    assert letters.add(letter(1))
    letters.close()
    (aside,) = path.parent.glob("dead_letters.db.damaged-*")
    assert aside.read_bytes().startswith(b"this was a database once")
    assert aside.name in caplog.text


def test_a_file_damaged_behind_its_beginning_is_set_aside(path: Path, store: DeadLetters) -> None:
    store.add(letter(1))
    store._db.execute("PRAGMA journal_mode = DELETE")
    page: int = store._db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'letters'").fetchone()[0]
    size: int = store._db.execute("PRAGMA page_size").fetchone()[0]
    store.close()
    data = path.read_bytes()
    path.write_bytes(data[: (page - 1) * size] + bytes(size) + data[page * size :])
    letters = DeadLetters(path)
    assert letters.add(letter(2))
    letters.close()
    (aside,) = path.parent.glob("dead_letters.db.damaged-*")
    assert len(aside.read_bytes()) == len(data)


def test_a_file_that_cannot_be_opened_is_not_taken_for_damaged(path: Path) -> None:
    path.mkdir()
    with pytest.raises(sqlite3.OperationalError):
        DeadLetters(path)
    assert path.is_dir()
