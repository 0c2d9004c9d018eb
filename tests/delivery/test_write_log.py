from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.delivery import write_log
from gateway.delivery.batch import Batch, Span
from gateway.delivery.write_log import Write, WriteLog

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def batch(*spans: tuple[int, int, int]) -> Batch:
    return Batch(b"", sum(lines for _, _, lines in spans), tuple(Span(*span) for span in spans))


def test_noted_writes_are_read_back_after_a_flush(tmp_path: Path) -> None:
    path = tmp_path / "writes.log"
    log = WriteLog(path)
    log.note(batch((1, 0, 2), (2, 0, 3)), 5000, 0.25)
    assert list(write_log.read(path)) == []
    log.flush()
    log.flush()
    assert list(write_log.read(path)) == [Write(1, 5000, 0.25, 5, (1, 0), (2, 2))]


def test_a_write_knows_its_points() -> None:
    write = Write(1, 0, 0.0, 5, (3, 2), (5, 1))
    assert not write.touches(3, 0, 2)
    assert write.touches(3, 0, 3)
    assert write.touches(4, 100, 1)
    assert write.touches(5, 1, 10)
    assert not write.touches(5, 2, 10)
    assert not write.touches(4, 0, 0)


def test_numbers_go_on_after_a_restart_and_behind_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "writes.log"
    for seconds in (1.0, 2.0):
        log = WriteLog(path)
        log.note(batch((1, 0, 1)), 1, seconds)
        log.flush()
    path.write_bytes(path.read_bytes() + b'{"n":3,"ended')
    log = WriteLog(path)
    log.note(batch((2, 0, 1)), 2, 3.0)
    log.flush()
    assert [(write.n, write.seconds) for write in write_log.read(path)] == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_the_log_stays_below_its_bound_and_loses_the_oldest_writes(tmp_path: Path) -> None:
    path = tmp_path / "writes.log"
    log = WriteLog(path, max_bytes=1000)
    for number in range(100):
        log.note(batch((number, 0, 1)), number, 0.0)
        log.flush()
    assert sum(each.stat().st_size for each in tmp_path.iterdir()) < 2300
    kept = [write.n for write in write_log.read(path)]
    assert kept == list(range(kept[0], 101))
    assert 5 < len(kept) < 40
    log = WriteLog(path)
    log.note(batch((1, 0, 1)), 1, 0.0)
    log.flush()
    assert [write.n for write in write_log.read(path)][-1] == 101


def test_a_failing_disk_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = WriteLog(tmp_path / "missing" / "writes.log")
    for _ in range(3):
        log.note(batch((1, 0, 1)), 1, 0.0)
        log.flush()
    assert len([record for record in caplog.records if "cannot be written" in record.message]) == 1
