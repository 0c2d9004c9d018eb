"""Messages found among others: every device and number, resends, times, gaps, damage, and what does not count."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from gateway.ledger import NO_SEQ, Entry, Kind
from gateway.spool import message_search
from gateway.spool.files import Files
from gateway.spool.log import Log
from gateway.spool.message_search import MessageSearch

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.spool.message_search import Found

START_NS = 1_764_000_000_000_000_000
MS = 1_000_000
DEVICES = ("a", "ab", "kiln-7", "oven_é")


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few kilobytes have as many borders as gigabytes."""
    monkeypatch.setattr(message_search, "_PIECE", 256)
    monkeypatch.setattr(message_search, "_NEAR", 64)
    monkeypatch.setattr(message_search, "_CLOSE_ENOUGH", 300)


def message(device: str, seq: int, at: int, boot: str = "b1", **over: object) -> Entry:
    time_ns = START_NS + at * MS
    payload = f"telemetry,device={device} v={float(seq)!r} {time_ns}\n".encode()
    return Entry(device, boot, seq, **{"lines": 1, "payload": payload, "arrived_ns": time_ns, **over})  # type: ignore[arg-type]


class Spool:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = self._open()
        self.at = 0

    def _open(self) -> Log:
        log = Log(Files(), self.directory, 4096)
        for _ in log.recover(0, 0):
            pass
        log.start()
        return log

    def commit(self, *entries: Entry) -> int:
        return self.log.append(entries, max([e.arrived_ns for e in entries], default=START_NS) + 1).record_id

    def restart(self) -> None:
        self.log.close()
        self.log = self._open()

    def fill(self, messages: int, *skipped: int) -> None:
        """``messages`` of each device, a few to a record, without the numbers ``skipped``."""
        pick = random.Random(5)
        for seq in range(messages):
            entries = []
            for device in DEVICES:
                self.at += 1
                if seq not in skipped:
                    gaps = sum(1 for other in skipped if other == seq - 1)
                    entries.append(message(device, seq, self.at, gaps=gaps))
            cut = pick.randrange(len(entries) + 1)
            for part in (entries[:cut], entries[cut:]):
                if part:
                    self.commit(*part)

    @property
    def search(self) -> MessageSearch:
        return MessageSearch(self.directory)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path)


def seqs(found: list[Found] | tuple[Found | None, ...]) -> list[int | None]:
    return [each.entry.seq if each is not None else None for each in found]


def test_every_message_is_found_with_its_place(spool: Spool) -> None:
    spool.fill(60)
    assert len(list(spool.directory.glob("*.seg"))) > 5
    for seq in range(60):
        for device in DEVICES:
            [found] = spool.search.numbered(device, seq)
            assert (found.entry.device, found.entry.seq) == (device, seq)
            assert found.record.payload.splitlines()[found.line] + b"\n" == found.entry.payload
    assert list(spool.search.numbered("a", 60)) == []
    assert list(spool.search.numbered("nobody", 1)) == []


def test_a_resent_message_comes_after_the_first_copy_in_any_boot(spool: Spool) -> None:
    spool.fill(20)
    spool.commit(message("a", 3, 500, lines=0, payload=b"", duplicate=1))
    spool.commit(message("a", 3, 600, boot="b2"))
    found = list(spool.search.numbered("a", 3))
    assert [(each.entry.boot, each.entry.duplicate) for each in found] == [("b1", 0), ("b1", 1), ("b2", 0)]


def test_a_record_that_was_carried_over_counts_once(spool: Spool) -> None:
    spool.fill(1)
    for _ in range(3):
        spool.restart()
    assert len(list(spool.search.numbered("kiln-7", 0))) == 1
    spool.commit(message("a", 1, 1))
    spool.commit(message("a", 2, 2))
    spool.restart()
    newest = max(spool.directory.glob("*.seg"))
    data = bytearray(newest.read_bytes())
    data[20] ^= 1  # its header says where the segment before ends
    newest.write_bytes(data)
    assert len(list(spool.search.numbered("a", 2))) == 1


def test_points_are_found_by_their_time_and_messages_by_their_arrival(spool: Spool) -> None:
    spool.fill(40)
    [wanted] = spool.search.numbered("ab", 17)
    assert seqs(list(spool.search.stamped("ab", wanted.entry.arrived_ns))) == [17]
    assert list(spool.search.stamped("a", wanted.entry.arrived_ns)) == []
    spool.commit(message("a", NO_SEQ, 1000), message("a", NO_SEQ, 1004), message("a", NO_SEQ, 2000))
    near = list(spool.search.arrived("a", START_NS + 999 * MS, START_NS + 1010 * MS))
    assert [each.entry.arrived_ns for each in near] == [START_NS + 1000 * MS, START_NS + 1004 * MS]
    first = list(spool.search.arrived("a", 0, START_NS + 5 * MS))
    assert seqs(first) == [0, 1]


def test_neighbours_of_a_missing_message(spool: Spool) -> None:
    spool.fill(80, 0, 31, 50)
    ask = spool.search.neighbours
    for device in DEVICES:
        assert seqs(ask(device, "b1", 31)) == [30, 32]
        assert seqs(ask(device, "b1", 50)) == [49, 51]
        assert seqs(ask(device, "b1", 0)) == [None, 1]
        assert seqs(ask(device, "b1", 1000)) == [79, None]
        assert ask(device, "other", 5) == (None, None)
    assert ask("nobody", "b1", 5) == (None, None)


def test_the_newest_number_and_whether_there_is_anything(spool: Spool) -> None:
    spool.fill(30)
    spool.commit(message("rare", 7, 1), message("other", 0, 2))
    spool.fill(30)
    spool.commit(Entry("shown", lines=1, payload=b"device_status,device=shown x=1 1\n", kind=Kind.PRESENCE))
    newest = spool.search.newest("rare")
    assert newest is not None
    assert newest.entry.seq == 7
    assert spool.search.newest("nobody") is None
    assert spool.search.has("rare")
    assert not spool.search.has("rar")
    assert not spool.search.has("shown")


def test_a_damaged_record_is_passed_over_and_its_neighbours_are_found(spool: Spool) -> None:
    ids = [spool.commit(message("a", seq, seq)) for seq in range(30)]
    [hit] = spool.search.numbered("a", 11)
    assert hit.record.id == ids[11]
    for path in spool.directory.glob("*.seg"):
        data = bytearray(path.read_bytes())
        at = data.find(hit.entry.payload)
        if at >= 0:
            data[at] ^= 1
            path.write_bytes(data)
    assert list(spool.search.numbered("a", 11)) == []
    assert seqs([*spool.search.numbered("a", 10), *spool.search.numbered("a", 12)]) == [10, 12]
    assert seqs(spool.search.neighbours("a", "b1", 11)) == [10, 12]


def test_an_unfinished_write_and_a_removed_segment_are_no_error(spool: Spool) -> None:
    spool.fill(40)
    newest = max(spool.directory.glob("*.seg"))
    whole = newest.read_bytes()
    newest.write_bytes(whole + whole[-100:-20])
    looking = spool.search
    oldest = looking.begins()
    assert oldest is not None
    assert oldest.id == 1
    min(spool.directory.glob("*.seg")).unlink()
    assert list(looking.numbered("a", 0)) == []
    assert seqs(list(looking.numbered("a", 39))) == [39]


def test_an_empty_spool_has_no_beginning(tmp_path: Path) -> None:
    nothing = MessageSearch(tmp_path / "none")
    assert nothing.begins() is None
    assert nothing.neighbours("a", "b", 1) == (None, None)
    assert list(nothing.arrived("a", 0, START_NS)) == []
