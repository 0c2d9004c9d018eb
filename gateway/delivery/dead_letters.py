"""Points the database refused, kept with its own words until they are submitted again (`gateway.delivery.replay`).

Rules that hold here:

* A letter is on disk (``synchronous=FULL``) when `DeadLetters.add` returns: the spool's record goes only after it.
* Record, line and commit time identify a letter, so a redelivery after a crash adds nothing twice, and a spool that
  was set up anew and numbers its records from the start hides nothing.
* The table has a bound; beyond it the oldest letters, a hundredth of it, are discarded and counted.
* How a letter ended is written down with its end (`gateway.delivery.settled_dead_letters`).
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
from gateway.state.sqlite_file import damaged, open_store, transaction

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from gateway.delivery.settled_dead_letters import LedgerCorrection, SettledDeadLetter

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
MAX_COUNT = 100_000
MAX_BYTES = 256 * 1024**2
"""Of points; the file is larger by what else a letter has."""
SPARE = 100
"""At a bound so much of it is made free at once, one part in this many: to find what goes is to look at all letters."""

_SCHEMA = """
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
CREATE INDEX IF NOT EXISTS letters_by_kind ON letters (kind, device); -- to count without passing over the points
CREATE TABLE IF NOT EXISTS discarded (total INTEGER NOT NULL);
INSERT INTO discarded SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM discarded);
"""
_COLUMNS = "record_id, line, committed_ns, device, counted, refused_ns, kind, reason, data, measurement, n"
# Not OR IGNORE: that would pass over every other constraint too, and a point with it.
_ADD = (
    f"INSERT INTO letters ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,NULL)"
    " ON CONFLICT (record_id, line, committed_ns) DO UPDATE SET counted = excluded.counted"
    " WHERE counted <> excluded.counted"
)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One refused point: ``data`` is its line as it stands, from ``line`` of a spool record; times in ns since 1970.

    ``counted`` unless the gateway wrote it about the device. ``kind`` is the short word that metrics and filters use,
    ``reason`` the database's own. ``n`` is given by the store.
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
    """The store. Methods block, may be called from any thread, and raise sqlite3.Error when the disk does not do."""

    def __init__(self, path: Path, max_count: int = MAX_COUNT, max_bytes: int = MAX_BYTES) -> None:
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._db, self._at_most = _open(path)
        self._told = False

    def add(self, letter: DeadLetter) -> bool:
        """Keep a letter, durably; False when it is there already. The store finds its measurement and number."""
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
        """Take the oldest away, to a little below the bounds, if they are passed: others take letters away, too."""
        self._at_most = _extent(db)
        if not self._beyond():
            return
        newest = "sum(length(data)) OVER (ORDER BY n DESC) AS bytes, row_number() OVER (ORDER BY n DESC) AS rows"
        last: int = db.execute(
            f"SELECT max(n) FROM (SELECT n, {newest} FROM letters) WHERE bytes > ? OR rows > ?",
            [bound - bound // SPARE for bound in (self._max_bytes, self._max_count)],
        ).fetchone()[0]
        gone = settled_dead_letters.settle(db, "n <= ?", (last,), Settlement.DISCARDED, time.time_ns())
        self._at_most = _extent(db)
        db.execute("UPDATE discarded SET total = total + ?", (gone,))
        if not self._told:
            log.warning("dead letters: there are too many, from now on the oldest are discarded and count as dropped")
            self._told = True

    def list(
        self,
        *,
        reason: str | None = None,
        device: str | None = None,
        ids: Sequence[int] | None = None,
        after: int = 0,
        limit: int = -1,
    ) -> tuple[DeadLetter, ...]:
        """Letters above ``after``, oldest first, of one kind of reason, one device, these numbers, where given."""
        where, values = _filter(reason, device, ids)
        with self._lock:
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM letters WHERE n > ?{where} ORDER BY n LIMIT ?", (after, *values, limit)
            ).fetchall()
        return tuple(_letter(*row) for row in rows)

    def page(
        self, offset: int, limit: int, *, reason: str | None = None, device: str | None = None
    ) -> tuple[int, tuple[DeadLetter, ...]]:
        """How many there are of one kind of reason and one device where given, and a page of those, newest first."""
        where, values = _filter(reason, device)
        with self._lock:
            total: int = self._db.execute(f"SELECT count(*) FROM letters WHERE true{where}", values).fetchone()[0]
            # By +n, or SQLite would pass over all points from the newest on to find the few of one device.
            page = f"SELECT n FROM letters WHERE true{where} ORDER BY +n DESC LIMIT ? OFFSET ?"
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM letters WHERE n IN ({page}) ORDER BY n DESC", (*values, limit, offset)
            ).fetchall()
        return total, tuple(_letter(*row) for row in rows)

    def show(self, n: int) -> DeadLetter | None:
        """Letter ``n``, if it is there."""
        found = self.list(after=n - 1, limit=1)
        return found[0] if found and found[0].n == n else None

    def of_message(self, record_id: int, committed_ns: int, line: int, lines: int) -> tuple[DeadLetter, ...]:
        """Letters of ``lines`` points from ``line`` on of one record, in order of the points."""
        with self._lock:
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM letters WHERE record_id = ? AND line >= ? AND line < ? AND committed_ns = ?"
                " ORDER BY line",
                (record_id, line, line + lines, committed_ns),
            ).fetchall()
        return tuple(_letter(*row) for row in rows)

    def count(self) -> int:
        """Letters kept."""
        return sum(self.count_by_reason().values())

    def count_by_reason(self) -> dict[str, int]:
        """Letters kept, by kind of reason."""
        with self._lock:
            return dict(self._db.execute("SELECT kind, count(*) FROM letters GROUP BY kind ORDER BY kind").fetchall())

    def refused_in(self, record_id: int, committed_ns: int) -> dict[str, int]:
        """Readings of one spool record that were refused, by device, whatever became of their letters since."""
        refused = "SELECT device FROM {} WHERE record_id = ? AND committed_ns = ? AND counted"
        with self._lock:
            rows = self._db.execute(
                f"SELECT device, count(*) FROM ({refused.format('letters')} UNION ALL {refused.format('settled')})"
                " GROUP BY device",
                (record_id, committed_ns) * 2,
            )
            return dict(rows.fetchall())

    def settled_after(self, mark: int) -> tuple[int, Sequence[LedgerCorrection]]:
        """How letters ended since ``mark``, and the mark for the next call."""
        with self._lock:
            return settled_dead_letters.after(self._db, mark)

    def uncount(self, cursor: int, oldest_ns: int, mark: int) -> Sequence[LedgerCorrection]:
        """At a start: see `gateway.delivery.settled_dead_letters.uncount`."""
        with self._transaction() as db:
            return settled_dead_letters.uncount(db, cursor, oldest_ns, mark)

    def trim(self, mark: int, delivered_to: int) -> None:
        """Forget endings that a durable checkpoint counts, up to both of its marks, but for the newest."""
        with self._transaction() as db:
            settled_dead_letters.trim(db, mark, delivered_to)

    def ended_of_message(self, record_id: int, committed_ns: int, line: int, lines: int) -> Sequence[SettledDeadLetter]:
        """Letters as in `of_message` that are none any more."""
        with self._lock:
            return settled_dead_letters.of_message(self._db, record_id, committed_ns, line, lines)

    @property
    def discarded(self) -> int:
        """Letters that went because there were too many, since the file was made."""
        with self._lock:
            total: int = self._db.execute("SELECT total FROM discarded").fetchone()[0]
            return total

    def drop(self, *, reason: str | None = None, device: str | None = None, ids: Sequence[int] | None = None) -> int:
        """Delete letters for good; how many."""
        where, values = _filter(reason, device, ids)
        with self._transaction() as db:
            return settled_dead_letters.settle(db, f"n > 0{where}", values, Settlement.DELETED, time.time_ns())

    def stored(self, letters: Sequence[DeadLetter]) -> None:
        """A replay has brought them to the database: they are letters no more."""
        with self._transaction() as db:
            for letter in letters:
                settled_dead_letters.settle(db, "n = ?", (letter.n,), Settlement.STORED, time.time_ns())

    def refused_again(self, letter: DeadLetter, kind: str, reason: str) -> None:
        """Keep the letter with the new ``reason``."""
        with self._transaction() as db:
            db.execute(
                "UPDATE letters SET kind = ?, reason = ?, refused_ns = ? WHERE n = ?",
                (kind, reason, time.time_ns(), letter.n),
            )

    def newest(self) -> int:
        """The number of the newest letter, 0 where there is none."""
        with self._lock:
            newest: int = self._db.execute("SELECT coalesce(max(n), 0) FROM letters").fetchone()[0]
            return newest

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, transaction(self._db):
            yield self._db

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()


def _open(path: Path) -> tuple[sqlite3.Connection, tuple[int, int]]:
    """The database at ``path`` and its extent; what is there and is none is set aside under another name."""
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        if not damaged(error):
            raise
        aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
        log.exception("dead letters: %s is damaged, set aside as %s; a new one is begun", path, aside.name)
        return _connect(path)


def _connect(path: Path) -> tuple[sqlite3.Connection, tuple[int, int]]:
    db = open_store(path, "dead letters", SCHEMA_VERSION, _SCHEMA + settled_dead_letters.SCHEMA)
    try:
        return db, _extent(db)
    except sqlite3.Error:
        db.close()
        raise


def _extent(db: sqlite3.Connection) -> tuple[int, int]:
    """Letters, and bytes of their points."""
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
