"""The embedded database: points in one SQLite file, for a machine without a database server.

Rules that hold here:

* One connection writes, under a lock; a batch is one transaction, so all of it is stored or none. Queries have
  connections of their own.
* A file that cannot be used is `Held`, and opened anew at the next try: moving it away is all it takes to go on.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from operator import itemgetter
from typing import TYPE_CHECKING

from gateway.delivery.outcome import TYPE_CONFLICT, Held, Refused, Retry, Stored
from gateway.delivery.sink import Bucket
from gateway.errors import QueryError
from gateway.reading import parse_line, split_lines
from gateway.sinks.sqlite_retention import Expiry
from gateway.sinks.sqlite_schema import open_for_reading, open_for_writing
from gateway.sinks.sqlite_series import SeriesCatalog, TypeConflict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from gateway.delivery.outcome import Outcome
    from gateway.delivery.sink import SeriesQuery
    from gateway.sinks.sqlite_series import Point

log = logging.getLogger(__name__)

LONGEST_INTERVAL = 600.0
"""Seconds between two passes of deletion; shorter where the retention is."""
PAUSE = 0.05
"""Seconds between two slices of a pass, in which writes go on."""

RETRIED = {
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_FULL: "disk_full",
    sqlite3.SQLITE_IOERR: "io_error",
    sqlite3.SQLITE_NOMEM: "out_of_memory",
}
CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

_STORE = """
INSERT INTO points (series, time_ns, value) VALUES (?, ?, ?)
ON CONFLICT (series, time_ns) DO UPDATE SET value = excluded.value
"""
_BACKFILLED = "INSERT OR IGNORE INTO backfilled (series, since_ns) VALUES (?, ?)"
_QUERY = """
SELECT :start + (time_ns - :start) / :interval * :interval AS bucket, min(value), avg(value), max(value), count(*)
FROM points
WHERE time_ns >= :start AND time_ns < :end AND series IN (
    SELECT id FROM series
    WHERE device = :device AND field = :field AND type != 'string'
        AND measurement = coalesce(:measurement, measurement))
GROUP BY bucket ORDER BY bucket
"""


class SqliteSink:
    """A `Sink` in the file ``path``. ``retention`` is in seconds; None keeps all."""

    def __init__(
        self, path: Path, *, retention: float | None = None, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self.name = f"SQLite in {path}"
        self._path = path
        self._retention = retention
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._catalog: SeriesCatalog | None = None
        self._file = (0, 0)
        self._closing = threading.Event()
        self._expiring: threading.Thread | None = None

    def write(self, lines: bytes) -> Outcome:
        """Write points, see `Sink.write`; nothing of a batch that is refused is stored."""
        try:
            points: list[Point] = [parse_line(line) for line in split_lines(lines)]
        except ValueError as error:
            return Refused("malformed", str(error))
        with self._lock:
            try:
                self._store(points)
            except TypeConflict as error:
                return Refused(TYPE_CONFLICT, str(error))
            except OverflowError:
                return Refused("malformed", "an integer or a timestamp has more than 64 bits")
            except (sqlite3.Error, OSError) as error:
                return self._failed(error)
        return Stored()

    def query(self, query: SeriesQuery) -> list[Bucket]:
        """Downsample one series, see `Sink.query`; a boolean reads as 0 and 1."""
        if query.end_ns <= query.start_ns or not self._path.exists():
            return []
        bound = {
            "start": query.start_ns,
            "end": query.end_ns,
            "interval": -((query.start_ns - query.end_ns) // query.points),
            "device": query.device,
            "field": query.field,
            "measurement": query.measurement,
        }
        try:
            with contextlib.closing(open_for_reading(self._path)) as connection:
                found = connection.execute(_QUERY, bound).fetchall()
        except (sqlite3.Error, OverflowError) as error:
            raise QueryError(f"{self.name}: {error}") from error
        return [Bucket(at, float(low), mean, float(high), count) for at, low, mean, high, count in found]

    def close(self) -> None:
        """Stop deleting and close the file."""
        self._closing.set()
        if self._expiring is not None:
            self._expiring.join()
        with self._lock:
            self._disconnect()

    def expire(self) -> None:
        """Delete what is older than the retention, in slices between which writes go on.

        Raises:
            sqlite3.Error, OSError: the file cannot be used.
        """
        expiry = Expiry(self._expired_ns())
        while not expiry.done and not self._closing.is_set():
            with self._lock, self._transaction() as (connection, catalog):
                expiry.step(connection)
                if expiry.removed_series:
                    catalog.forget()
            self._closing.wait(PAUSE)

    def _expired_ns(self) -> int:
        """Points before this moment are over their time."""
        if self._retention is None:
            return -(2**63)
        return self._clock_ns() - round(self._retention * 1e9)

    def _store(self, points: Sequence[Point]) -> None:
        with self._transaction() as (connection, catalog):
            rows = catalog.rows(points)
            rows.sort(key=itemgetter(0, 1))  # neighbours in the file; of equals, the last still wins
            connection.executemany(_STORE, rows)
            expired_ns = self._expired_ns()
            if any(time_ns < expired_ns for _, time_ns, _ in rows):
                late = {series for series, time_ns, _ in rows if time_ns < expired_ns}
                connection.executemany(_BACKFILLED, [(series, self._clock_ns()) for series in late])

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[tuple[sqlite3.Connection, SeriesCatalog]]:
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

    def _connect(self) -> tuple[sqlite3.Connection, SeriesCatalog]:
        """The open file, opened now if it is not or if another one has taken its place."""
        if self._connection is not None and self._file != self._identity():
            log.warning("%s is no longer the file that was opened", self._path)
            self._disconnect()
        if self._connection is None or self._catalog is None:
            self._connection = open_for_writing(self._path)
            self._catalog = SeriesCatalog(self._connection)
            self._file = self._identity()
        if self._retention is not None and self._expiring is None:
            self._expiring = threading.Thread(target=self._expire_forever, name="sqlite-retention", daemon=True)
            self._expiring.start()
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

    def _failed(self, error: sqlite3.Error | OSError) -> Outcome:
        """What an error of the file means; it is opened anew at the next try, except when it was only busy."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary result code
        kind = RETRIED.get(code)
        if kind != "locked":
            self._disconnect()
        if kind is not None:
            return Retry(kind, f"{self._path}: {error}")
        if code in CORRUPT:
            return Held("corrupt", f"{self._path} is damaged or no SQLite database ({error}): move it away to go on")
        return Held("unusable", f"{self._path}: {error}")

    def _expire_forever(self) -> None:
        interval = min(LONGEST_INTERVAL, (self._retention or 0.0) / 10)
        while not self._closing.is_set():
            try:
                self.expire()
            except (sqlite3.Error, OSError) as error:
                log.warning("%s: deleting what is too old was given up for now: %s", self.name, error)
                with self._lock:
                    self._failed(error)
            self._closing.wait(interval)
