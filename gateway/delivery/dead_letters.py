"""Dead letters: points that the database refused. They are kept, with its reason, until replayed, deleted or discarded.

Rules that hold here:

* A dead letter is on disk (``synchronous=FULL``) when `DeadLetters.add` returns. Only then may the spool's record go.
* Record, line and commit time identify a dead letter. So a second delivery after a crash adds nothing twice. A new
  spool numbers its records from the start again; the commit time tells its dead letters from earlier ones.
* The table has a bound. Beyond it, the oldest dead letters (a hundredth) are discarded and counted.
* A dead letter is deleted and noted as settled in one transaction (`gateway.delivery.settled_dead_letters`).
* The gateway and the command line use the file at the same time (WAL).
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.delivery import settled_dead_letters
from gateway.delivery.settled_dead_letters import Settlement
from gateway.line_protocol import parse_line
from gateway.state.sqlite_file import is_damaged, open_store, transaction

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from gateway.delivery.settled_dead_letters import LedgerCorrection, SettledDeadLetter

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
MAX_DEAD_LETTERS = 100_000
MAX_POINT_BYTES = 256 * 1024**2
"""Of the points of all dead letters together; the file is larger, by the other columns."""
DISCARDED_FRACTION = 100
"""Beyond a bound, 1/`DISCARDED_FRACTION` is discarded at once: the search for the oldest reads the whole table."""

_TABLES = """
CREATE TABLE IF NOT EXISTS letters (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    record_id INTEGER NOT NULL,
    line INTEGER NOT NULL,
    committed_ns INTEGER NOT NULL,
    device TEXT NOT NULL,
    counted INTEGER NOT NULL,
    measurement TEXT NOT NULL,
    refused_ns INTEGER NOT NULL,
    kind TEXT NOT NULL,
    reason TEXT NOT NULL,
    data BLOB NOT NULL,
    UNIQUE (record_id, line, committed_ns)
);
CREATE INDEX IF NOT EXISTS letters_by_kind ON letters (kind, device); -- to count without reading the points
CREATE TABLE IF NOT EXISTS discarded (total INTEGER NOT NULL);
INSERT INTO discarded SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM discarded);
"""
_COLUMNS = "record_id, line, committed_ns, device, counted, refused_ns, kind, reason, data, measurement, n"
# Not OR IGNORE: that would also ignore a violation of any other constraint, and so lose the point.
_ADD = (
    f"INSERT INTO letters ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,NULL)"
    " ON CONFLICT (record_id, line, committed_ns) DO UPDATE SET counted = excluded.counted"
    " WHERE counted <> excluded.counted"
)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One refused point: ``data`` is its line, unchanged, the point at index ``line`` of a spool record.

    Times are in ns since 1970. ``counted``: it is a reading that the ledger counts for the device, not a point that
    the gateway wrote about the device. ``kind`` is the short word that metrics and filters use, ``reason`` the
    database's text. The store fills in ``measurement`` and the number ``n``.
    """

    record_id: int
    line: int
    committed_ns: int
    device: str
    counted: bool
    refused_ns: int
    kind: str
    reason: str
    data: bytes
    measurement: str = ""
    n: int = 0


class DeadLetters:
    """The store. Methods block, may be called from any thread, and raise sqlite3.Error if the disk fails."""

    def __init__(self, path: Path, max_count: int = MAX_DEAD_LETTERS, max_bytes: int = MAX_POINT_BYTES) -> None:
        self._max_count = max_count
        self._max_bytes = max_bytes
        # Guards _db, which one thread at a time may use.
        self._lock = threading.Lock()
        # At most so many dead letters, and bytes of their points, are in the table. There may be fewer, because other
        # processes delete some; `_discard` counts again before it acts.
        self._db, self._at_most = _open(path)
        # Whether the log line about discarding was written; it is written once.
        self._discarding_logged = False

    def add(self, letter: DeadLetter) -> bool:
        """Keep a dead letter, durably; False if it is there already."""
        values = (
            letter.record_id,
            letter.line,
            letter.committed_ns,
            letter.device,
            letter.counted,
            letter.refused_ns,
            letter.kind,
            letter.reason,
            letter.data,
            _measurement(letter.data),
        )
        with self._transaction() as db:
            added = db.execute(_ADD, values)
            if added.rowcount == 0:
                return False
            count, size = self._at_most
            self._at_most = count + 1, size + len(letter.data)
            if self._beyond():
                self._discard(db)
        return True

    def _beyond(self) -> bool:
        return self._at_most[0] > self._max_count or self._at_most[1] > self._max_bytes

    def _discard(self, db: sqlite3.Connection) -> None:
        """Discard the oldest, down to a little below the bounds, if a new count confirms that a bound is passed."""
        self._at_most = _extent(db)
        if not self._beyond():
            return
        newest = "sum(length(data)) OVER (ORDER BY n DESC) AS bytes, row_number() OVER (ORDER BY n DESC) AS rows"
        last: int = db.execute(
            f"SELECT max(n) FROM (SELECT n, {newest} FROM letters) WHERE bytes > ? OR rows > ?",
            [bound - bound // DISCARDED_FRACTION for bound in (self._max_bytes, self._max_count)],
        ).fetchone()[0]
        gone = settled_dead_letters.settle(db, "n <= ?", (last,), Settlement.DISCARDED, time.time_ns())
        self._at_most = _extent(db)
        db.execute("UPDATE discarded SET total = total + ?", (gone,))
        if not self._discarding_logged:
            log.warning("dead letters: there are too many; from now on the oldest are discarded and count as dropped")
            self._discarding_logged = True

    def list(
        self,
        *,
        reason: str | None = None,
        device: str | None = None,
        ids: Sequence[int] | None = None,
        after: int = 0,
        limit: int = -1,
    ) -> tuple[DeadLetter, ...]:
        """Dead letters numbered above ``after``, oldest first; of one kind, one device, these numbers, where given."""
        where, values = _filter(reason, device, ids)
        with self._lock:
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM letters WHERE n > ?{where} ORDER BY n LIMIT ?", (after, *values, limit)
            ).fetchall()
        return tuple(_letter(*row) for row in rows)

    def page(
        self, offset: int, limit: int, *, reason: str | None = None, device: str | None = None
    ) -> tuple[int, tuple[DeadLetter, ...]]:
        """How many there are, of one kind and one device where given, and a page of them, newest first."""
        where, values = _filter(reason, device)
        with self._lock:
            total: int = self._db.execute(f"SELECT count(*) FROM letters WHERE true{where}", values).fetchone()[0]
            # By +n: otherwise SQLite reads all points from the newest on to find the few of one device.
            page = f"SELECT n FROM letters WHERE true{where} ORDER BY +n DESC LIMIT ? OFFSET ?"
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM letters WHERE n IN ({page}) ORDER BY n DESC", (*values, limit, offset)
            ).fetchall()
        return total, tuple(_letter(*row) for row in rows)

    def get(self, n: int) -> DeadLetter | None:
        """Dead letter number ``n``; None if it is not there."""
        found = self.list(after=n - 1, limit=1)
        return found[0] if found and found[0].n == n else None

    def of_message(self, record_id: int, committed_ns: int, line: int, lines: int) -> tuple[DeadLetter, ...]:
        """The dead letters among ``lines`` points, from ``line`` on, of one record, in the order of the points."""
        with self._lock:
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM letters WHERE record_id = ? AND line >= ? AND line < ? AND committed_ns = ?"
                " ORDER BY line",
                (record_id, line, line + lines, committed_ns),
            ).fetchall()
        return tuple(_letter(*row) for row in rows)

    def count(self) -> int:
        """How many dead letters there are."""
        return sum(self.count_by_reason().values())

    def count_by_reason(self) -> dict[str, int]:
        """How many dead letters there are of each kind."""
        with self._lock:
            return dict(self._db.execute("SELECT kind, count(*) FROM letters GROUP BY kind ORDER BY kind").fetchall())

    def refused_in(self, record_id: int, committed_ns: int) -> dict[str, int]:
        """Readings of one spool record that the database refused, by device; settled ones count too."""
        refused = "SELECT device FROM {} WHERE record_id = ? AND committed_ns = ? AND counted"
        with self._lock:
            rows = self._db.execute(
                f"SELECT device, count(*) FROM ({refused.format('letters')} UNION ALL {refused.format('settled')})"
                " GROUP BY device",
                (record_id, committed_ns) * 2,
            )
            return dict(rows.fetchall())

    def settled_after(self, mark: int) -> tuple[int, Sequence[LedgerCorrection]]:
        """The mark for the next call, and the sums of what was settled since ``mark``."""
        with self._lock:
            return settled_dead_letters.corrections_after(self._db, mark)

    def uncount(self, cursor: int, oldest_ns: int, mark: int) -> Sequence[LedgerCorrection]:
        """See `gateway.delivery.settled_dead_letters.uncount`; called once, at the start."""
        with self._transaction() as db:
            return settled_dead_letters.uncount(db, cursor, oldest_ns, mark)

    def trim(self, mark: int, delivered_to: int) -> None:
        """Delete settled rows that a durable checkpoint counts: up to row ``mark`` and record ``delivered_to``."""
        with self._transaction() as db:
            settled_dead_letters.trim(db, mark, delivered_to)

    def settled_of_message(
        self, record_id: int, committed_ns: int, line: int, lines: int
    ) -> Sequence[SettledDeadLetter]:
        """As `of_message`, of settled dead letters."""
        with self._lock:
            return settled_dead_letters.of_message(self._db, record_id, committed_ns, line, lines)

    @property
    def discarded(self) -> int:
        """How many dead letters were discarded since the file was made."""
        with self._lock:
            total: int = self._db.execute("SELECT total FROM discarded").fetchone()[0]
            return total

    def delete(self, *, reason: str | None = None, device: str | None = None, ids: Sequence[int] | None = None) -> int:
        """Delete dead letters; how many there were."""
        where, values = _filter(reason, device, ids)
        with self._transaction() as db:
            return settled_dead_letters.settle(db, f"n > 0{where}", values, Settlement.DELETED, time.time_ns())

    def stored(self, letters: Sequence[DeadLetter]) -> None:
        """Delete these dead letters: a replay has written them to the database."""
        with self._transaction() as db:
            for letter in letters:
                settled_dead_letters.settle(db, "n = ?", (letter.n,), Settlement.STORED, time.time_ns())

    def refused_again(self, letter: DeadLetter, kind: str, reason: str) -> None:
        """Keep a dead letter with a new ``kind`` and ``reason``: the database refused it again in a replay."""
        with self._transaction() as db:
            db.execute(
                "UPDATE letters SET kind = ?, reason = ?, refused_ns = ? WHERE n = ?",
                (kind, reason, time.time_ns(), letter.n),
            )

    def newest(self) -> int:
        """The number of the newest dead letter, 0 if there is none."""
        with self._lock:
            newest: int = self._db.execute("SELECT coalesce(max(n), 0) FROM letters").fetchone()[0]
            return newest

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, transaction(self._db):
            yield self._db

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()


def _open(path: Path) -> tuple[sqlite3.Connection, tuple[int, int]]:
    """The database at ``path`` and its extent. A damaged file is renamed, and a new one is made."""
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        if not is_damaged(error):
            raise
        aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
        log.exception("dead letters: %s is damaged, set aside as %s; a new file is begun", path, aside.name)
        return _connect(path)


def _connect(path: Path) -> tuple[sqlite3.Connection, tuple[int, int]]:
    db = open_store(path, "dead letters", SCHEMA_VERSION, _TABLES + settled_dead_letters.SETTLED_TABLE)
    try:
        return db, _extent(db)
    except sqlite3.Error:
        db.close()
        raise


def _extent(db: sqlite3.Connection) -> tuple[int, int]:
    """How many dead letters there are, and the bytes of their points."""
    count, size = db.execute("SELECT count(*), coalesce(sum(length(data)), 0) FROM letters").fetchone()
    return count, size


def _letter(record_id: int, line: int, committed_ns: int, device: str, counted: int, *rest: Any) -> DeadLetter:
    return DeadLetter(record_id, line, committed_ns, device, bool(counted), *rest)


def _filter(reason: str | None, device: str | None, ids: Sequence[int] | None = None) -> tuple[str, list[str]]:
    where, values = "", list[str]()
    if ids is not None:
        where = " AND n IN (SELECT value FROM json_each(?))"
        values.append(json.dumps(list(ids)))
    for column, value in (("kind", reason), ("device", device)):
        if value is not None:
            where += f" AND {column} = ?"
            values.append(value)
    return where, values


def _measurement(line: bytes) -> str:
    try:
        return parse_line(line)[0]
    except ValueError:
        return ""
