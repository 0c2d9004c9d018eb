from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from typing import TYPE_CHECKING

from gateway.delivery.write_result import Stored
from gateway.sinks.sqlite import retention
from tests.support.sqlite_file import Clock, rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from gateway.sinks.sqlite import SqliteSink

START = 1_700_000_000_000_000_000
SECOND = 1_000_000_000


def wait_until_empty(path: Path) -> None:
    deadline = time.monotonic() + 10
    while rows(path):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_old_points_are_deleted_and_nothing_else(
    open_sink: Callable[..., SqliteSink], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "STEP_SECONDS", 0.001)
    clock = Clock(START)
    sink = open_sink(retention=100.0, clock_ns=clock)
    old = b"".join(b"m,device=d%d x=1 %d\n" % (index % 3, START + index) for index in range(10_000))
    young = b"m,device=d1 x=2 %d\n" % (START + 60 * SECOND)
    assert sink.write(old + young) == Stored()
    clock.now_ns = START + 100 * SECOND + 5
    sink.expire()
    assert rows(path, "count(*), min(time_ns)") == [(9_996, START + 5)], "exactly what is over its time"
    clock.now_ns = START + 130 * SECOND
    sink.expire()
    assert rows(path, "device, value") == [("d1", 2)]
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT device FROM series").fetchall() == [("d1",)], "empty series go"
    assert sink.write(b"m,device=d0 x=7 %d\n" % (START + 61 * SECOND)) == Stored()
    assert rows(path, "device, value") == [("d1", 2), ("d0", 7)], "a series that went is made again"


def test_a_history_that_is_written_late_is_kept_for_the_retention(
    open_sink: Callable[..., SqliteSink], path: Path
) -> None:
    clock = Clock(START)
    sink = open_sink(retention=100.0, clock_ns=clock)
    ancient = START - 10_000 * SECOND
    assert sink.write(b"m,device=d1 x=1 %d\nm,device=d2 x=1 %d\n" % (ancient, START)) == Stored()
    for later, kept in ((50, ["d1", "d2"]), (99, ["d1", "d2"]), (101, [])):
        clock.now_ns = START + later * SECOND
        sink.expire()
        assert [device for (device,) in rows(path, "device")] == kept


def test_a_series_that_always_comes_late_does_not_grow_without_end(
    open_sink: Callable[..., SqliteSink], path: Path
) -> None:
    clock = Clock(START)
    sink = open_sink(retention=100.0, clock_ns=clock)
    for second in range(0, 1000, 10):
        clock.now_ns = START + second * SECOND
        assert sink.write(b"m,device=d1 x=1 %d\n" % second) == Stored()
        sink.expire()
        [(count,)] = rows(path, "count(*)")
        assert count <= 11


def test_deletion_goes_on_by_itself(open_sink: Callable[..., SqliteSink], path: Path) -> None:
    clock = Clock(START)
    sink = open_sink(retention=0.5, clock_ns=clock)
    assert sink.write(b"m,device=d1 x=1 %d\n" % START) == Stored()
    assert rows(path, "value") == [(1,)]
    clock.now_ns += SECOND
    wait_until_empty(path)


def test_writes_go_on_during_deletion(open_sink: Callable[..., SqliteSink]) -> None:
    clock = Clock(START)
    sink = open_sink(retention=100.0, clock_ns=clock)
    for part in range(10):
        lines = b"".join(
            b"m,device=d%d x=1 %d\n" % (index % 50, START + part * 10_000 + index) for index in range(10_000)
        )
        assert sink.write(lines) == Stored()
    clock.now_ns = START + 200 * SECOND
    deleting = threading.Thread(target=sink.expire)
    deleting.start()
    waits = []
    while deleting.is_alive():
        started = time.monotonic()
        assert sink.write(b"m,device=d1 x=2 %d\n" % clock.now_ns) == Stored()
        waits.append(time.monotonic() - started)
    deleting.join()
    assert len(waits) > 3
    assert min(waits) < 0.1


def test_a_broken_file_does_not_end_deletion(
    open_sink: Callable[..., SqliteSink], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock(START)
    sink = open_sink(retention=0.5, clock_ns=clock)
    assert sink.write(b"m,device=d1 x=1 %d\n" % START) == Stored()
    with sink._lock:
        sink._disconnect()
        path.write_bytes(b"no database" * 1000)
    deadline = time.monotonic() + 10
    while not any("given up for now" in record.message for record in caplog.records):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with sink._lock:
        path.unlink()
    assert sink.write(b"m,device=d1 x=1 %d\n" % START) == Stored()
    clock.now_ns += SECOND
    wait_until_empty(path)


def test_an_unexpected_error_does_not_end_deletion_and_is_logged(
    open_sink: Callable[..., SqliteSink],
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, failed = Clock(START), threading.Event()
    sink = open_sink(retention=0.5, clock_ns=clock)
    work = sink.roll_up

    def fails_once() -> bool:
        if failed.is_set():
            return work()
        failed.set()
        raise ValueError("no such interval")

    monkeypatch.setattr(sink, "roll_up", fails_once)
    assert sink.write(b"m,device=d1 x=1 %d\n" % START) == Stored()
    assert failed.wait(10)
    clock.now_ns += SECOND
    wait_until_empty(path)
    (told,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert told.exc_info is not None
    assert "no such interval" in str(told.exc_info[1])
