"""The SQLite sink: who writes, who reads, and what an error of the file means.

Rules that hold here:

* One connection writes, under a lock. Batches that wait for it are stored together, in one transaction: a sync and the
  pages that they share are paid for once. All of a batch is stored, or none.
* A write has returned when its transaction is on the disk. Queries have connections of their own and hold up nobody.
* A file that cannot be used gives `OperatorNeeded` and is opened again at the next try: to move it away is enough.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections import deque
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

from gateway.delivery.sink import Cancellation, History, SeriesName
from gateway.delivery.write_result import TYPE_CONFLICT, OperatorNeeded, PointRefused, RetryLater, Stored
from gateway.errors import QueryError
from gateway.sinks.sqlite import history, rollups
from gateway.sinks.sqlite.catalog import Catalog, TypeConflict
from gateway.sinks.sqlite.insertion import store
from gateway.sinks.sqlite.retention import RetentionPass
from gateway.sinks.sqlite.rows import TransactionRows
from gateway.sinks.sqlite.schema import open_for_reading, open_for_writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gateway.delivery.sink import SeriesQuery
    from gateway.delivery.write_result import WriteResult
    from gateway.sinks.sqlite.rows import Row

log = logging.getLogger(__name__)

T = TypeVar("T")

LONGEST_INTERVAL = 600.0
"""Seconds between two passes of deletion; shorter where the retention is."""
PAUSE = 0.05
"""Seconds between two slices of a pass, in which writes go on."""
IDLE = 2.0
"""Seconds between two looks for hours to summarise, when there are none."""
REST = 3
"""Times as long as it summarised it lets others work, so that it takes a quarter of a core at most."""
MOST_TOGETHER = 4 * 1024**2
"""Bytes of waiting batches from which on no more of them join a transaction."""
INSTRUCTIONS = 200_000
"""Of SQLite's machine between two looks whether a query was cancelled: about ten milliseconds."""

RETRIED = {
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_FULL: "disk_full",
    sqlite3.SQLITE_IOERR: "io_error",
    sqlite3.SQLITE_NOMEM: "out_of_memory",
}
CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

_SERIES = """
SELECT DISTINCT series.measurement, field, type FROM fields JOIN series ON series.id = series
WHERE device = ? ORDER BY series.measurement, field
"""
_TIME: Callable[[Row], Any] = itemgetter(1)
_BACKFILLED = "INSERT OR IGNORE INTO backfilled (series, since_ns) VALUES (?, ?)"


@dataclass(slots=True)
class _Batch:
    lines: bytes
    outcome: WriteResult | None = None
    failure: Exception | None = None


class SqliteSink:
    """A `Sink` in the file ``path``. ``retention`` is in seconds; None keeps all."""

    def __init__(
        self, path: Path, *, retention: float | None = None, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self.name = f"SQLite in {path}"
        self._path = path
        self._retention = retention
        self._clock_ns = clock_ns
        self._waiting: deque[_Batch] = deque()
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._catalog: Catalog | None = None
        self._file = (0, 0)
        self._rolling = threading.Lock()
        self._rolled_to = (-1, 0)
        self._closing = threading.Event()
        self._upkeep: threading.Thread | None = None

    def write(self, lines: bytes) -> WriteResult:
        """Write points, see `Sink.write`; nothing of a batch that is refused is stored."""
        mine = _Batch(lines)
        self._waiting.append(mine)
        with self._lock:
            while mine.outcome is None and mine.failure is None:
                self._write_together()
        if mine.outcome is None:
            raise mine.failure or AssertionError("a batch that was not written")
        return mine.outcome

    def query(self, query: SeriesQuery, cancellation: Cancellation | None = None) -> History:
        """Downsample one series, see `Sink.query`; a boolean reads as 0 and 1."""
        if query.end_ns <= query.start_ns:
            return History([], 1)
        found = self._read(lambda connection: history.answer(connection, query), cancellation)
        return History([], history.BucketGrid.of(query).interval) if found is None else found

    def series(self, device: str, cancellation: Cancellation | None = None) -> list[SeriesName]:
        """The fields of a device, see `Sink.series`."""
        found = self._read(lambda connection: connection.execute(_SERIES, (device,)).fetchall(), cancellation)
        return [SeriesName(*row) for row in found or ()]

    def close(self) -> None:
        """Stop the upkeep and close the file."""
        self._closing.set()
        if self._upkeep is not None:
            self._upkeep.join()
        with self._lock:
            self._disconnect()

    def expire(self) -> None:
        """Delete what is older than the retention, in slices between which writes go on.

        Raises:
            sqlite3.Error, OSError: the file cannot be used.
        """
        expiry = RetentionPass(self._expired_ns())
        while not expiry.done and not self._closing.is_set():
            with self._lock, self._transaction() as (connection, catalog):
                if expiry.step(connection):
                    catalog.forget()
            if not expiry.done:
                self._closing.wait(PAUSE)

    def roll_up(self) -> bool:
        """Summarise some of the hours that have ended; whether there may be more.

        Raises:
            sqlite3.Error, OSError: the file cannot be used.
        """
        with self._rolling:  # one at a time: a second one would watch what the first has to find unwatched
            with self._lock, self._transaction() as (connection, catalog):
                hours = rollups.pick(connection, self._rolled_to, self._clock_ns())
                catalog.watch(hours)
            if not hours:
                begun, self._rolled_to = self._rolled_to, (-1, 0)
                return begun != self._rolled_to
            with contextlib.closing(open_for_reading(self._path)) as reading:
                found = rollups.summarise(reading, hours)
            with self._lock, self._transaction() as (connection, catalog):
                rollups.replace(connection, found, catalog.unchanged())
            self._rolled_to = list(found)[-1]
            return True

    def _read(self, ask: Callable[[sqlite3.Connection], T], cancellation: Cancellation | None) -> T | None:
        """The answer of a connection made for it; None while there is no file."""
        if not self._path.exists():
            return None
        try:
            with contextlib.closing(open_for_reading(self._path)) as connection:
                if cancellation is not None:
                    connection.set_progress_handler(lambda: cancellation.cancelled, INSTRUCTIONS)
                return ask(connection)
        except (sqlite3.Error, OverflowError) as error:
            raise QueryError(f"{self.name}: {error}") from error

    def _expired_ns(self) -> int:
        """Points before this moment are over their time."""
        if self._retention is None:
            return -(2**63)
        return self._clock_ns() - round(self._retention * 1e9)

    def _write_together(self) -> None:
        """Give an outcome to the batches that have waited longest."""
        batches = [self._waiting.popleft()]
        size = len(batches[0].lines)
        while self._waiting and size < MOST_TOGETHER:
            batches.append(self._waiting.popleft())
            size += len(batches[-1].lines)
        while batches:
            try:
                refused = self._try(batches)
            except (sqlite3.Error, OSError) as error:
                outcome = self._failed(error)
            except Exception as error:  # noqa: BLE001 - every writer is told, not only the one whose turn it was
                for batch in batches:
                    batch.failure = error
                return
            else:
                if refused is not None:
                    batches.remove(refused)
                    continue
                outcome = Stored()
            for batch in batches:
                batch.outcome = outcome
            return

    def _try(self, batches: list[_Batch]) -> _Batch | None:
        """Store batches, all or none: the first that has to be refused, which now has its outcome, ends it."""
        with contextlib.suppress(_Refusal), self._transaction() as (connection, catalog):
            rows = TransactionRows(catalog)
            for batch in batches:
                try:
                    rows.add(batch.lines)
                except TypeConflict as error:
                    batch.outcome = PointRefused(TYPE_CONFLICT, str(error))
                except ValueError as error:
                    batch.outcome = PointRefused("malformed", str(error))
                if batch.outcome is not None:
                    raise _Refusal
            for width, found in enumerate(rows.by_width):
                if found:
                    store(connection, found, width)
                    self._remember_late(connection, found)
            return None
        return next(batch for batch in batches if batch.outcome is not None)

    def _remember_late(self, connection: sqlite3.Connection, rows: list[Row]) -> None:
        """Keep the series of points that are over their time already for the retention from now on."""
        now_ns, expired_ns = self._clock_ns(), self._expired_ns()
        if min(map(_TIME, rows)) < expired_ns:
            late = {row[0] for row in rows if _TIME(row) < expired_ns}
            connection.executemany(_BACKFILLED, [(series, now_ns) for series in late])

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[tuple[sqlite3.Connection, Catalog]]:
        connection, catalog = self._connect()
        connection.execute("BEGIN IMMEDIATE")
        try:
            catalog.begin()
            yield connection, catalog
            connection.execute("COMMIT")
        except BaseException:
            catalog.rolled_back()
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _connect(self) -> tuple[sqlite3.Connection, Catalog]:
        """The open file, opened now if it is not or if another one has taken its place."""
        if self._connection is not None and self._file != self._identity():
            log.warning("%s is no longer the file that was opened", self._path)
            self._disconnect()
        if self._connection is None or self._catalog is None:
            self._connection = open_for_writing(self._path)
            self._catalog = Catalog(self._connection)
            self._file = self._identity()
        if self._upkeep is None:
            self._upkeep = threading.Thread(target=self._keep_up, name="sqlite-upkeep", daemon=True)
            self._upkeep.start()
        return self._connection, self._catalog

    def _disconnect(self) -> None:
        connection, self._connection, self._catalog = self._connection, None, None
        if connection is not None:
            connection.close()

    def _identity(self) -> tuple[int, int]:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return 0, 0
        return status.st_dev, status.st_ino

    def _failed(self, error: sqlite3.Error | OSError) -> WriteResult:
        """What an error of the file means; it is opened anew at the next try, except when it was only busy."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary result code
        kind = RETRIED.get(code)
        if kind != "locked":
            self._disconnect()
        if kind is not None:
            return RetryLater(kind, f"{self._path}: {error}")
        if code in CORRUPT:
            return OperatorNeeded(
                "corrupt", f"{self._path} is damaged or no SQLite database ({error}): move it away to go on"
            )
        return OperatorNeeded("unusable", f"{self._path}: {error}")

    def _keep_up(self) -> None:
        """Delete and summarise, until the sink is closed."""
        interval = LONGEST_INTERVAL if self._retention is None else min(LONGEST_INTERVAL, self._retention / 10)
        expire_at = 0.0
        while not self._closing.is_set():
            started = time.monotonic()
            try:
                if self._retention is not None and started >= expire_at:
                    self.expire()
                    expire_at = time.monotonic() + interval
                more = self.roll_up()
                pause = REST * (time.monotonic() - started) if more else min(IDLE, interval)
            except (sqlite3.Error, OSError) as error:
                log.warning("%s: deleting and summarising were given up for now: %s", self.name, error)
                with self._lock:
                    self._failed(error)
                pause = interval
            except Exception:
                log.exception("%s: deleting and summarising failed and are tried again", self.name)
                pause = interval
            self._closing.wait(pause)


class _Refusal(Exception):
    """Ends a transaction."""
