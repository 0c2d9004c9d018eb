from __future__ import annotations

import contextlib
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from gateway.delivery.sink import Bucket, SeriesQuery
from gateway.delivery.write_result import OperatorNeeded, PointRefused, RetryLater, Stored
from gateway.errors import QueryError
from gateway.sinks.sqlite import SqliteSink, schema
from gateway.sinks.sqlite.history import BucketGrid
from tests.support.history import assert_same_buckets, expected_buckets
from tests.support.sqlite_file import rows

if TYPE_CHECKING:
    from pathlib import Path

START = 1_700_000_000_000_000_000
SECOND = 1_000_000_000


@pytest.mark.parametrize(
    "lines",
    [b"garbage\n", b"m x=1 5", b"m y=99999999999999999999i 5\n", b"m x=1 99999999999999999999\n", b"m x=\xff 5\n"],
)
def test_a_malformed_batch_is_refused(sink: SqliteSink, path: Path, lines: bytes) -> None:
    result = sink.write(b"m,device=d1 x=1 5\n" + lines)
    assert isinstance(result, PointRefused)
    assert result.kind == "malformed"
    assert not path.exists() or rows(path) == []


def test_a_commit_survives_the_process(sink: SqliteSink, path: Path) -> None:
    program = (
        "import pathlib, sys, threading\n"
        "from gateway.sinks.sqlite import SqliteSink\n"
        "print(SqliteSink(pathlib.Path(sys.argv[1])).write(b'm,device=d1 x=1 5\\n'), flush=True)\n"
        "threading.Event().wait(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "Stored()\n"
        process.send_signal(signal.SIGKILL)
    assert rows(path, "value") == [(1,)]
    assert sink.write(b"m,device=d1 x=2 5\n") == Stored()
    assert rows(path, "value") == [(2,)]


def test_several_threads_write_and_read_at_once(sink: SqliteSink, path: Path) -> None:
    results: list[object] = []

    def work(number: int) -> None:
        for at in range(20):
            lines = b"".join(b"m,device=d%d x=%d %d\n" % (number, at, at * 50 + index) for index in range(50))
            results.append(sink.write(lines))
            assert len(sink.query(SeriesQuery(f"d{number}", "x", 0, 1000, 20)).buckets) == at + 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [Stored()] * 80
    assert rows(path, "count(*)") == [(4000,)]


def test_an_unexpected_error_reaches_every_writer(sink: SqliteSink, monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[Exception] = []

    def write() -> None:
        try:
            sink.write(b"m,device=d1 x=1 5\n")
        except RuntimeError as error:
            failed.append(error)

    def broken(*_: object) -> None:
        raise RuntimeError("a mistake")

    threads = [threading.Thread(target=write) for _ in range(4)]
    with monkeypatch.context() as patched:
        patched.setattr("gateway.sinks.sqlite.sink.insert_rows", broken)
        with sink._lock:  # so that they wait together
            for thread in threads:
                thread.start()
            while len(sink._waiting) < 4:
                pass
        for thread in threads:
            thread.join(10)
    assert [str(error) for error in failed] == ["a mistake"] * 4
    assert sink.write(b"m,device=d1 x=1 5\n") == Stored()


def test_waiting_batches_share_a_transaction_and_a_refused_one_harms_no_other(sink: SqliteSink, path: Path) -> None:
    assert sink.write(b"m,device=d1 x=1 1\n") == Stored()
    sink._closing.set()  # the upkeep has transactions of its own
    assert sink._upkeep is not None
    sink._upkeep.join(10)
    connection, _ = sink._connect()
    began: list[str] = []
    connection.set_trace_callback(lambda statement: began.append(statement) if statement == "COMMIT" else None)
    lines = [b"m,device=d1 x=2 2\n", b"m,device=d1 new=1,x=2i 3\n", b"m,device=d1 x=4 4\n", b"m,device=d1 x=5 5\n"]
    results: list[object] = []
    threads = [threading.Thread(target=lambda each=each: results.append(sink.write(each))) for each in lines]
    with sink._lock:
        for thread in threads:
            thread.start()
        while len(sink._waiting) < len(lines):
            pass
    for thread in threads:
        thread.join(10)
    assert sorted(type(result).__name__ for result in results) == ["PointRefused", "Stored", "Stored", "Stored"]
    assert len(began) == 1
    assert rows(path, "field, value") == [("x", 1), ("x", 2), ("x", 4), ("x", 5)]


def test_another_writer_is_waited_for_then_the_batch_is_retried(
    sink: SqliteSink, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "BUSY_TIMEOUT", 0.05)
    assert sink.write(b"m,device=d1 x=1 5\n") == Stored()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        result = sink.write(b"m,device=d1 x=2 5\n")
        assert isinstance(result, RetryLater)
        assert result.kind == "locked"
        assert sink.query(SeriesQuery("d1", "x", 0, 10, 1)).buckets == [Bucket(0, 1, 1, 1, 1)], (
            "readers are not held up"
        )
        other.execute("ROLLBACK")
    assert sink.write(b"m,device=d1 x=2 5\n") == Stored()


def test_a_full_disk_is_retried_until_there_is_room(sink: SqliteSink, path: Path) -> None:
    assert sink.write(b"m,device=d1 x=1 5\n") == Stored()
    connection, _ = sink._connect()
    connection.execute("PRAGMA max_page_count = 1")  # it is the size that the file has
    lines = b"".join(b"m,device=d%d x=2 %d\n" % (index, index) for index in range(500))
    result = sink.write(lines)
    assert isinstance(result, RetryLater)
    assert result.kind == "disk_full"
    assert rows(path, "count(*)") == [(1,)], "all or nothing"
    assert sink.write(lines) == Stored()
    assert rows(path, "count(*)") == [(501,)]


def test_a_file_of_another_kind_needs_an_operator_until_it_is_moved_away(sink: SqliteSink, path: Path) -> None:
    path.write_bytes(b"no database" * 1000)
    for _ in range(2):
        result = sink.write(b"m,device=d1 x=1 5\n")
        assert isinstance(result, OperatorNeeded)
        assert result.kind == "corrupt"
        assert "move it away" in result.reason
    with pytest.raises(QueryError, match="not a database"):
        sink.query(SeriesQuery("d1", "x", 0, 10, 1))
    path.rename(path.with_suffix(".broken"))
    assert sink.write(b"m,device=d1 x=1 5\n") == Stored()


def test_a_file_damaged_in_the_middle_needs_an_operator(sink: SqliteSink, path: Path) -> None:
    lines = b"".join(b"m,device=d%d x=1 %d\n" % (index % 50, index) for index in range(5000))
    assert sink.write(lines) == Stored()
    sink.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    result = sink.write(lines)
    assert isinstance(result, OperatorNeeded)
    assert result.kind == "corrupt"


def test_a_path_that_cannot_be_a_file_needs_an_operator(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "telemetry.db"):
        sink = SqliteSink(path)
        result = sink.write(b"m,device=d1 x=1 5\n")
        assert isinstance(result, OperatorNeeded)
        assert result.kind == "unusable"
        sink.close()


def test_a_file_that_was_moved_away_is_made_again(sink: SqliteSink, path: Path) -> None:
    for _ in range(2):
        assert sink.write(b"m,device=d1 x=1 5\n") == Stored()
        assert rows(path, "value") == [(1,)]
        path.unlink()


@pytest.mark.parametrize("buckets", [1, 7, 100, 10_000])
def test_buckets_equal_what_the_points_say(sink: SqliteSink, buckets: int) -> None:
    source = random.Random(buckets)
    points = [(START + source.randrange(3600 * SECOND), source.uniform(-50, 50)) for _ in range(2000)]
    others = b"".join(b"m,device=d2 x=999 %d\n" % time_ns for time_ns, _ in points[:50])
    lines = "".join(f"m,device=d1,site=s{index % 3} x={value!r} {at}\n" for index, (at, value) in enumerate(points))
    assert sink.write(lines.encode() + others) == Stored()
    query = SeriesQuery("d1", "x", START + 123_456_789, START + 3000 * SECOND + 1, buckets, measurement="m")
    found = sink.query(query).buckets
    grid = BucketGrid.of(query)
    assert len(found) <= buckets
    assert_same_buckets(found, expected_buckets(points, query, grid.origin, grid.interval))


def test_points_before_1970_are_found(sink: SqliteSink) -> None:
    points = [(-5_000, 1.0), (-4_001, 2.0), (-1, 4.0), (7, 8.0), (10, 16.0)]  # the last is at the end, excluded
    assert sink.write("".join(f"m,device=d1 x={value} {at}\n" for at, value in points).encode()) == Stored()
    query = SeriesQuery("d1", "x", -5_001, 10, 6)
    assert_same_buckets(sink.query(query).buckets, expected_buckets(points, query))


def test_without_a_measurement_all_measurements_with_the_field_answer(sink: SqliteSink) -> None:
    lines = (
        f'a,device=d1 x=1 {START}\nb,device=d1 x=9i {START}\nc,device=d1 x="text" {START}\nd,device=d1 y=5 {START}\n'
    )
    assert sink.write(lines.encode()) == Stored()
    for measurement, expected in ((None, [Bucket(START, 1, 5, 9, 2)]), ("b", [Bucket(START, 9, 9, 9, 1)]), ("c", [])):
        assert sink.query(SeriesQuery("d1", "x", START, START + 10, 1, measurement)).buckets == expected
    assert sink.query(SeriesQuery("d1", "x", START, START, 1)).buckets == []


def test_booleans_are_0_and_1(sink: SqliteSink) -> None:
    values = ["true", "false", "false", "true", "true"]
    lines = "".join(f"m,device=d1 on={value} {START + at}\n" for at, value in enumerate(values))
    assert sink.write(lines.encode()) == Stored()
    found = sink.query(SeriesQuery("d1", "on", START, START + 6, 3)).buckets
    assert found == [Bucket(START, 0, 0.5, 1, 2), Bucket(START + 2, 0, 0.5, 1, 2), Bucket(START + 4, 1, 1, 1, 1)]


def test_a_query_beyond_64_bits_is_refused(sink: SqliteSink) -> None:
    assert sink.write(b"m,device=d1 x=1 5\n") == Stored()
    with pytest.raises(QueryError, match="too large"):
        sink.query(SeriesQuery("d1", "x", -(2**64), 2**64, 1))
