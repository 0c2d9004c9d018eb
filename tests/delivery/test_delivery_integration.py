"""Delivery between a real spool and real databases: the database has exactly the committed points."""

from __future__ import annotations

import asyncio
import errno
import time
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any

import pytest

from gateway.delivery.backoff import BackoffBounds
from gateway.delivery.dead_letters import DeadLetters
from gateway.delivery.forwarder import Forwarder
from gateway.delivery.replay import replay_dead_letters
from gateway.ledger import Entry, Ledger
from gateway.line_protocol import Series, Value
from gateway.sinks.influxdb.v1 import InfluxV1Sink
from gateway.sinks.sqlite import SqliteSink
from gateway.spool.files import File
from gateway.spool.queue import SpoolQueue
from tests.support import sqlite_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    from gateway.delivery.batch import Batch
    from gateway.delivery.interfaces import Database
    from gateway.delivery.write_result import WriteResult
    from tests.support.servers import Influxd

WAIT = 60.0
DEVICES = ("kiln-1", "kiln, with = and space", "ofen-\u00e9")
START_NS = 1_700_000_000_000_000_000
QUICK = BackoffBounds(first=0.05, max_delay=0.2, max_retry_after=1.0, operator_needed=0.2)


class Books:
    """Listener of spool and forwarder: counts, and tells when everything is delivered."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.results: list[WriteResult] = []
        self.committed_to = 0
        self.changed = asyncio.Event()

    def recovered(self, record_id: int, _committed_ns: int, entries: Sequence[Entry], delivered: bool) -> None:
        self.ledger.committed(record_id, entries)
        if delivered:
            self.ledger.delivered(record_id, entries, {})

    def committed(
        self, record_id: int, _committed_ns: int, items: Sequence[tuple[Entry, object]], _took: float
    ) -> None:
        self.ledger.committed(record_id, [entry for entry, _ in items])
        self.changed.set()

    def append_failed(self, _items: Sequence[tuple[Entry, object]], error: BaseException) -> None:
        raise AssertionError(error)

    def dropped(self, record_id: int, entries: Sequence[Entry]) -> None:
        self.ledger.dropped(record_id, entries)
        self.changed.set()

    def left(self, readings: int, _by_device: Callable[[], Mapping[str, int]]) -> None:
        assert self.ledger.total.pending == readings

    def checkpoint(self) -> Callable[[], None]:
        return lambda: None

    def delivered(self, record_id: int, entries: Sequence[Entry], refused: Mapping[str, int]) -> None:
        self.ledger.delivered(record_id, entries, refused)
        self.changed.set()

    def wrote(self, _batch: Batch, _seconds: float, result: WriteResult) -> None:
        self.results.append(result)
        self.changed.set()

    def dead_letter(self, kind: str, line: bytes) -> None:
        pass

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


class Gateway:
    """A spool, a forwarder and dead letters on disk, in front of a database."""

    def __init__(self, directory: Path, sink: Database, **options: Any) -> None:
        self.books = Books()
        self.dead_letters = DeadLetters(directory / "dead_letters.db")
        self.spool = SpoolQueue(
            directory / "spool",
            commit_interval=0.002,
            segment_bytes=64 * 1024,
            max_bytes=options.pop("max_bytes", 64 * 1024 * 1024),
            when_full=options.pop("when_full", "reject"),
            keep_delivered=0.0,
            listener=self.books,
        )
        settings: dict[str, Any] = {"max_readings": 500, "max_age": 0.05, "max_in_flight": 3, "bounds": QUICK} | options
        self.forwarder = Forwarder(self.spool, sink, self.dead_letters, listener=self.books, **settings)

    @asynccontextmanager
    async def running(self, grace: float = 10.0) -> AsyncIterator[None]:
        self.spool.open()
        self.spool.start()
        task = asyncio.create_task(self.forwarder.run())
        try:
            yield
        finally:
            await self.forwarder.stop(grace)
            await task
            await self.spool.close()
            self.dead_letters.close()

    async def send(self, device: str, numbers: Sequence[int], field: Callable[[int], Value] = float) -> None:
        """One message with a point for each number, committed by the time this returns."""
        series = Series("m", {"device": device})
        payload = b"".join(series.line({"v": field(number)}, START_NS + number) for number in numbers)
        received = self.books.ledger.total.received + len(numbers)
        self.spool.append(Entry(device=device, lines=len(numbers), payload=payload), None)
        await self.books.until(lambda: self.books.ledger.total.received >= received)

    async def delivered(self) -> None:
        await self.books.until(lambda: self.books.ledger.total.pending == 0)


class Watched:
    """A database that reports the start of a write."""

    def __init__(self, sink: Database) -> None:
        self.writing = asyncio.Event()
        self._sink = sink
        self._loop = asyncio.get_running_loop()

    def write(self, lines: bytes) -> WriteResult:
        self._loop.call_soon_threadsafe(self.writing.set)
        return self._sink.write(lines)


def expected(first: int, last: int) -> list[tuple[str, int, float]]:
    return sorted((device, START_NS + number, float(number)) for device in DEVICES for number in range(first, last))


def in_sqlite(path: Path) -> list[tuple[Any, ...]]:
    return sorted(sqlite_file.rows(path, "device, time_ns, value"))


def in_influxdb(server: Influxd, database: str) -> list[tuple[Any, ...]]:
    return sorted((point["device"], point["time"], point["v"]) for point in server.points(database, "m"))


def test_sqlite_has_every_good_point_and_the_bad_ones_are_dead_letters(tmp_path: Path) -> None:
    async def main() -> None:
        with closing(SqliteSink(tmp_path / "data.db")) as sink:
            gateway = Gateway(tmp_path, sink)
            async with gateway.running():
                for first in range(0, 2000, 100):
                    for device in DEVICES:
                        await gateway.send(device, range(first, first + 100))
                await gateway.delivered()
                await gateway.send(DEVICES[1], [5000], field=lambda _: "now a string")
                await gateway.send(DEVICES[0], range(2000, 2100))
                await gateway.delivered()
                assert gateway.books.ledger.account(DEVICES[1]).rejected == 1
                (letter,) = gateway.dead_letters.list()
                assert (letter.device, letter.measurement, letter.kind) == (DEVICES[1], "m", "type_conflict")
                assert letter.data.endswith(b'v="now a string" %d\n' % (START_NS + 5000))
        more = [(DEVICES[0], START_NS + number, float(number)) for number in range(2000, 2100)]
        assert in_sqlite(tmp_path / "data.db") == sorted(expected(0, 2000) + more)

    asyncio.run(main())


def test_a_restart_delivers_the_rest_once(tmp_path: Path) -> None:
    async def main() -> None:
        with closing(SqliteSink(tmp_path / "data.db")) as sink:
            gateway = Gateway(tmp_path, sink, max_age=3600.0)
            async with gateway.running():
                for device in DEVICES:
                    await gateway.send(device, range(300))
                await gateway.books.until(lambda: bool(gateway.books.results))
                assert gateway.books.ledger.total.pending > 0
            again = Gateway(tmp_path, sink)
            async with again.running():
                await again.delivered()
            assert again.books.ledger.total.stored == 900
        assert in_sqlite(tmp_path / "data.db") == expected(0, 300)

    asyncio.run(main())


def test_unreadable_places_of_the_disk_do_not_stop_delivery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if no batch was due before the first such place, so that delivery starts again before it."""
    bad, page, real = set[str](), 8192, File._read_some

    def read_some(file: File, offset: int, size: int) -> bytes:
        if file.path.name not in bad or not offset - 4096 < page < offset + size:
            return real(file, offset, size)
        if offset >= page:
            raise OSError(errno.EIO, "bad sector")
        return real(file, offset, page - offset)

    async def main() -> None:
        with closing(SqliteSink(tmp_path / "data.db")) as sink:
            gateway = Gateway(
                tmp_path, sink, max_age=0.5, max_readings=100_000, bounds=BackoffBounds(first=0.0, max_delay=0.0)
            )
            gateway.spool.open()
            gateway.spool.start()
            for first in range(0, 12_000, 50):
                await gateway.send(DEVICES[0], range(first, first + 50))
            await gateway.spool.close()
            gateway.dead_letters.close()
            names = sorted(path.name for path in (tmp_path / "spool").glob("*.seg"))
            assert len(names) >= 5
            bad.update([names[1], names[3]])
            again = Gateway(
                tmp_path, sink, max_age=0.5, max_readings=100_000, bounds=BackoffBounds(first=0.0, max_delay=0.0)
            )
            monkeypatch.setattr(again.books, "left", lambda _, of: again.books.ledger.write_off(of()))
            async with again.running():
                await again.delivered()
            total = again.books.ledger.total
            assert 12_000 - 2 * 250 < total.stored < 12_000, "more than was on the two pages"
        assert len(in_sqlite(tmp_path / "data.db")) == total.stored

    monkeypatch.setattr(File, "_read_some", read_some)
    asyncio.run(main())


def test_a_full_spool_that_drops_the_oldest_keeps_exact_sums(tmp_path: Path) -> None:
    class Gone:
        """A database that answers once the test allows it."""

        def __init__(self) -> None:
            self.down = True
            self.sink = SqliteSink(tmp_path / "data.db")

        def write(self, lines: bytes) -> WriteResult:
            if self.down:
                raise ConnectionError("no route to host")
            return self.sink.write(lines)

    async def main() -> None:
        database = Gone()
        gateway = Gateway(tmp_path, database, max_bytes=512 * 1024, when_full="drop_oldest")
        async with gateway.running():
            total = gateway.books.ledger.total
            number = 0
            while total.dropped < 1000:
                await gateway.send(DEVICES[number % 3], range(number, number + 50))
                number += 50
            database.down = False
            await gateway.delivered()
            assert total.received == number
            assert total.stored + total.dropped == number
        database.sink.close()
        assert len(in_sqlite(tmp_path / "data.db")) == total.stored

    asyncio.run(main())


def test_influxdb_has_every_point_after_an_outage_in_the_middle(tmp_path: Path, influxd: Influxd) -> None:
    async def main() -> None:
        database = influxd.create_database()
        with closing(InfluxV1Sink(influxd.url, database, timeout=5.0)) as sink:
            gateway = Gateway(tmp_path, sink)
            async with gateway.running():
                for device in DEVICES:
                    await gateway.send(device, range(400))
                await gateway.delivered()
                await asyncio.to_thread(influxd.stop)
                try:
                    for first in range(400, 1200, 100):
                        for device in DEVICES:
                            await gateway.send(device, range(first, first + 100))
                    await gateway.books.until(lambda: gateway.forwarder.state.name == "retrying")
                    assert gateway.books.ledger.total.pending == 2400
                finally:
                    await asyncio.to_thread(influxd.start)
                await gateway.delivered()
                assert gateway.forwarder.state.name == "delivering"
        assert in_influxdb(influxd, database) == expected(0, 1200)
        assert gateway.books.ledger.total.stored == 3600

    asyncio.run(main())


def test_only_the_points_that_influxdb_refuses_are_missing(tmp_path: Path, influxd: Influxd) -> None:
    async def main() -> None:
        database = influxd.create_database()
        with closing(InfluxV1Sink(influxd.url, database)) as sink:
            gateway = Gateway(tmp_path, sink, max_age=0.2)
            async with gateway.running():
                await gateway.send(DEVICES[2], [0])
                await gateway.delivered()
                bad = {77, 333}
                for first in range(1, 401, 40):
                    await gateway.send(
                        DEVICES[2], range(first, first + 40), field=lambda n: n if n in bad else float(n)
                    )
                await gateway.delivered()
                letters = gateway.dead_letters.list()
                assert [letter.data.split(b" ")[-1] for letter in letters] == [
                    b"%d\n" % (START_NS + number) for number in sorted(bad)
                ]
                assert all("type conflict" in letter.reason for letter in letters)
                assert all((letter.device, letter.measurement) == (DEVICES[2], "m") for letter in letters)
                assert replay_dead_letters(gateway.dead_letters, sink.write).refused == 2
                account = gateway.books.ledger.account(DEVICES[2])
                assert (account.stored, account.rejected, account.pending) == (399, 2, 0)
        good = [(DEVICES[2], START_NS + number, float(number)) for number in range(401) if number not in bad]
        assert in_influxdb(influxd, database) == good

    asyncio.run(main())


def test_everything_waits_for_a_missing_database_until_it_is_created(tmp_path: Path, influxd: Influxd) -> None:
    async def main() -> None:
        database = "made_later"
        with closing(InfluxV1Sink(influxd.url, database)) as sink:
            gateway = Gateway(tmp_path, sink)
            async with gateway.running():
                await gateway.send(DEVICES[0], range(100))
                await gateway.books.until(lambda: gateway.forwarder.state.name == "held")
                assert "database not found" in gateway.forwarder.state.reason
                influxd.create_database(database)
                await gateway.delivered()
        assert len(in_influxdb(influxd, database)) == 100

    asyncio.run(main())


def test_a_database_that_hangs_does_not_delay_a_stop(tmp_path: Path, influxd: Influxd) -> None:
    async def main() -> None:
        database = influxd.create_database()
        with closing(InfluxV1Sink(influxd.url, database, timeout=30.0)) as sink:
            watched = Watched(sink)
            gateway = Gateway(tmp_path, watched)
            influxd.suspend()
            try:
                async with gateway.running(grace=0.2):
                    await gateway.send(DEVICES[0], range(100))
                    async with asyncio.timeout(WAIT):
                        await watched.writing.wait()
                    begun = time.monotonic()
                assert time.monotonic() - begun < 5
            finally:
                influxd.resume()
            again = Gateway(tmp_path, sink)
            async with again.running():
                await again.delivered()
        assert len(in_influxdb(influxd, database)) == 100

    asyncio.run(main())


@pytest.mark.parametrize("readings", [1, 500])
def test_the_points_of_a_hundred_devices_are_stored_under_their_own_names(tmp_path: Path, readings: int) -> None:
    async def main() -> None:
        with closing(SqliteSink(tmp_path / "data.db")) as sink:
            gateway = Gateway(tmp_path, sink, max_readings=readings)
            async with gateway.running():
                for index in range(100):
                    await gateway.send(f"device-{index}", [index])
                await gateway.delivered()
        rows = in_sqlite(tmp_path / "data.db")
        assert rows == sorted((f"device-{index}", START_NS + index, float(index)) for index in range(100))

    asyncio.run(main())
