"""The SQLite sink: writes, queries, upkeep, and what an error of the file means.

Rules that hold here:

* One connection writes, under a lock. Batches that wait for the lock are stored together in one transaction, so that
  they pay once for a sync and for the pages that they share. A batch is stored as a whole or not at all.
* A write returns when its transaction is on the disk. A query has a connection of its own and makes no writer wait.
* A file that cannot be used gives `OperatorNeeded`, and is opened again at the next try. So it is enough that an
  operator moves the file away.
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
from gateway.sinks.sqlite.insertion import insert_rows
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

Answer = TypeVar("Answer")

MAX_PASS_INTERVAL = 600.0
"""Seconds between two passes of deletion; a tenth of the retention if that is less."""
STEP_PAUSE = 0.05
"""Seconds between two steps of a pass, in which writes go on."""
IDLE_PAUSE = 2.0
"""Seconds until upkeep looks again for hours to roll up, if there were none."""
PAUSE_FACTOR = 3
"""After rollups, upkeep pauses for so many times the time that they took: it uses a quarter of a core at most."""
MAX_TRANSACTION_BYTES = 4 * 1024**2
"""When the batches of a transaction have so many bytes, no further one joins it."""
INSTRUCTIONS_PER_CHECK = 200_000
"""A query checks for its cancellation after so many of SQLite's instructions: about every ten milliseconds."""

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
class _WaitingBatch:
    """A batch that waits to be written. One of ``result`` and ``failure`` is set when it was."""

    lines: bytes
    result: WriteResult | None = None
    failure: Exception | None = None
    """Raised in the thread that called `SqliteSink.write`."""


class SqliteSink:
    """A `gateway.delivery.sink.Sink` in the file ``path``. ``retention`` is in seconds; None keeps everything."""

    def __init__(
        self, path: Path, *, retention: float | None = None, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self.name = f"SQLite in {path}"
        self._path = path
        self._retention = retention
        self._clock_ns = clock_ns
        # Batches that no thread has begun to write, in the order of arrival.
        self._waiting: deque[_WaitingBatch] = deque()
        # Guards the writing connection and what belongs to it, down to _file.
        self._lock = threading.Lock()
        # None while no file is open: before the first write and after an error.
        self._connection: sqlite3.Connection | None = None
        # What the database knows of its series; made together with the connection.
        self._catalog: Catalog | None = None
        # Device and inode of the open file: another one may have been put in its place.
        self._file = (0, 0)
        # Held while rollups are made: a second thread would watch an hour anew, and so hide a write into it from the
        # first.
        self._rolling = threading.Lock()
        # The last series and hour that was rolled up; (-1, 0) before the first of a round.
        self._rolled_to = (-1, 0)
        # Set when `close` was called.
        self._closing = threading.Event()
        # Deletes and rolls up; started with the first write.
        self._upkeep: threading.Thread | None = None

    def write(self, lines: bytes) -> WriteResult:
        """See `Sink.write`; no point of a refused batch is stored."""
        mine = _WaitingBatch(lines)
        self._waiting.append(mine)
        with self._lock:
            while mine.result is None and mine.failure is None:
                self._write_together()
        if mine.result is None:
            raise mine.failure or AssertionError("a batch that was not written")
        return mine.result

    def query(self, query: SeriesQuery, cancellation: Cancellation | None = None) -> History:
        """See `Sink.query`."""
        if query.end_ns <= query.start_ns:
            return History([], 1)
        answer = self._read(lambda connection: history.answer(connection, query), cancellation)
        return History([], history.BucketGrid.of(query).interval) if answer is None else answer

    def series(self, device: str, cancellation: Cancellation | None = None) -> list[SeriesName]:
        """See `Sink.series`."""
        found = self._read(lambda connection: connection.execute(_SERIES, (device,)).fetchall(), cancellation)
        return [SeriesName(*row) for row in found or ()]

    def close(self) -> None:
        """End the upkeep and close the file."""
        self._closing.set()
        if self._upkeep is not None:
            self._upkeep.join()
        with self._lock:
            self._disconnect()

    def expire(self) -> None:
        """Delete what is older than the retention, in steps between which writes go on.

        Raises:
            sqlite3.Error, OSError: the file cannot be used.
        """
        retention = RetentionPass(self._expired_ns())
        while not retention.done and not self._closing.is_set():
            with self._lock, self._transaction() as (connection, catalog):
                if retention.step(connection):
                    catalog.forget()
            if not retention.done:
                self._closing.wait(STEP_PAUSE)

    def roll_up(self) -> bool:
        """Make the rollups of some hours that have ended; whether there may be more such hours.

        Raises:
            sqlite3.Error, OSError: the file cannot be used.
        """
        with self._rolling:
            with self._lock, self._transaction() as (connection, catalog):
                hours = rollups.pick(connection, self._rolled_to, self._clock_ns())
                catalog.watch(hours)
            if not hours:
                begun, self._rolled_to = self._rolled_to, (-1, 0)
                return begun != self._rolled_to
            with contextlib.closing(open_for_reading(self._path)) as reading:
                found = rollups.compute(reading, hours)
            with self._lock, self._transaction() as (connection, catalog):
                rollups.replace(connection, found, catalog.unchanged())
            self._rolled_to = list(found)[-1]
            return True

    def _read(self, ask: Callable[[sqlite3.Connection], Answer], cancellation: Cancellation | None) -> Answer | None:
        """Call ``ask`` with a connection of its own; None if there is no file yet."""
        if not self._path.exists():
            return None
        try:
            with contextlib.closing(open_for_reading(self._path)) as connection:
                if cancellation is not None:
                    connection.set_progress_handler(lambda: cancellation.cancelled, INSTRUCTIONS_PER_CHECK)
                return ask(connection)
        except (sqlite3.Error, OverflowError) as error:
            raise QueryError(f"{self.name}: {error}") from error

    def _expired_ns(self) -> int:
        """Points before this moment (ns since 1970) are older than the retention."""
        if self._retention is None:
            return -(2**63)
        return self._clock_ns() - round(self._retention * 1e9)

    def _write_together(self) -> None:
        """Write the batches that have waited longest, at least one, and set their results."""
        batches = [self._waiting.popleft()]
        size = len(batches[0].lines)
        while self._waiting and size < MAX_TRANSACTION_BYTES:
            batches.append(self._waiting.popleft())
            size += len(batches[-1].lines)
        while batches:
            try:
                refused = self._try(batches)
            except (sqlite3.Error, OSError) as error:
                result = self._failed(error)
            except Exception as error:  # noqa: BLE001 - for all callers of `write` with a batch here, not only this one
                for batch in batches:
                    batch.failure = error
                return
            else:
                if refused is not None:
                    batches.remove(refused)
                    continue
                result = Stored()
            for batch in batches:
                batch.result = result
            return

    def _try(self, batches: list[_WaitingBatch]) -> _WaitingBatch | None:
        """Store all batches, or none: then it returns the first refused one, whose result is set."""
        with contextlib.suppress(_Refusal), self._transaction() as (connection, catalog):
            rows = TransactionRows(catalog)
            for batch in batches:
                try:
                    rows.add(batch.lines)
                except TypeConflict as error:
                    batch.result = PointRefused(TYPE_CONFLICT, str(error))
                except ValueError as error:
                    batch.result = PointRefused("malformed", str(error))
                if batch.result is not None:
                    raise _Refusal
            for width, found in enumerate(rows.by_width):
                if found:
                    insert_rows(connection, found, width)
                    self._remember_late(connection, found)
            return None
        return next(batch for batch in batches if batch.result is not None)

    def _remember_late(self, connection: sqlite3.Connection, rows: list[Row]) -> None:
        """Keep the series of points that are already older than the retention, for the retention from now on."""
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
        """The writing connection; opens the file if it is not open or if another one is in its place."""
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
        """Device and inode of the file that has the path now; zeros if there is none."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return 0, 0
        return status.st_dev, status.st_ino

    def _failed(self, error: sqlite3.Error | OSError) -> WriteResult:
        """What an error of the file means. Closes the file, and the next try opens it, unless it was only locked."""
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
        """Delete and roll up, until the sink is closed."""
        interval = MAX_PASS_INTERVAL if self._retention is None else min(MAX_PASS_INTERVAL, self._retention / 10)
        expire_at = 0.0
        while not self._closing.is_set():
            started = time.monotonic()
            try:
                if self._retention is not None and started >= expire_at:
                    self.expire()
                    expire_at = time.monotonic() + interval
                more = self.roll_up()
                pause = PAUSE_FACTOR * (time.monotonic() - started) if more else min(IDLE_PAUSE, interval)
            except (sqlite3.Error, OSError) as error:
                log.warning("%s: deletion and rollups are given up for now: %s", self.name, error)
                with self._lock:
                    self._failed(error)
                pause = interval
            except Exception:
                log.exception("%s: deletion and rollups failed and are tried again", self.name)
                pause = interval
            self._closing.wait(pause)


class _Refusal(Exception):
    """Rolls back a transaction because a batch was refused."""
