"""Dead letters that are none any more, for the ledger and for `why`: stored by a replay, discarded, deleted.

Rules that hold here:

* A row is written in the transaction that takes the letter away, so each letter ends once, whichever process does it.
* The ledger counts a letter as rejected while it is one. `after` is what the running gateway adds to that, from its
  mark on; the mark is in the ledger's checkpoint, so that every row is counted once, across restarts too.
* Rows that the checkpoint counts are kept for `why`, the newest `KEPT` of them.

Functions take the connection that the store of letters holds, and its lock is held.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

KEPT = 10_000

SCHEMA = """
CREATE TABLE IF NOT EXISTS settled (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    record_id INTEGER NOT NULL,
    line INTEGER NOT NULL,
    committed_ns INTEGER NOT NULL,
    device TEXT NOT NULL,
    counted INTEGER NOT NULL,
    kind TEXT NOT NULL,
    reason TEXT NOT NULL,
    ended TEXT NOT NULL,
    ended_ns INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS settled_by_record ON settled (record_id, line);
"""


class Settlement(StrEnum):
    """How a letter ended."""

    STORED = "stored"
    """A replay brought it to the database."""
    DISCARDED = "discarded"
    """There were too many letters, and it was the oldest: the ledger calls it dropped."""
    DELETED = "deleted"
    """By the operator. It stays what it was, rejected."""


@dataclass(frozen=True, slots=True)
class LedgerCorrection:
    """``count`` letters of ``device`` ended so; negative where that has to be taken back."""

    device: str
    end: Settlement
    count: int


@dataclass(frozen=True, slots=True)
class SettledDeadLetter:
    """A letter that ended at ``ended_ns`` (since 1970), and why it had been one."""

    line: int
    kind: str
    reason: str
    end: Settlement
    ended_ns: int


def settle(db: sqlite3.Connection, where: str, values: Sequence[object], end: Settlement, now_ns: int) -> int:
    """Take away the letters that ``where`` selects; how many."""
    db.execute(
        "INSERT INTO settled SELECT NULL, record_id, line, committed_ns, device, counted, kind, reason, ?, ?"
        f" FROM letters WHERE {where} ORDER BY n",
        (end, now_ns, *values),
    )
    return db.execute(f"DELETE FROM letters WHERE {where}", values).rowcount


def after(db: sqlite3.Connection, mark: int) -> tuple[int, list[LedgerCorrection]]:
    """What ended after row ``mark``, and the new mark."""
    newest: int = db.execute("SELECT coalesce(max(id), 0) FROM settled").fetchone()[0]
    if newest <= mark:
        return mark, []
    rows = db.execute(
        "SELECT device, ended, count(*) FROM settled WHERE id > ? AND id <= ? AND counted GROUP BY device, ended",
        (mark, newest),
    )
    return newest, [LedgerCorrection(device, Settlement(ended), count) for device, ended, count in rows.fetchall()]


def uncount(db: sqlite3.Connection, cursor: int, oldest_ns: int, mark: int) -> list[LedgerCorrection]:
    """The points of records behind ``cursor``, the first of ``oldest_ns``, are delivered anew, and counted anew.

    What becomes of them then is not known yet, so their letters count no more; what ended up to ``mark`` was counted
    and is to be taken back.
    """
    which, values = "counted AND record_id > ? AND committed_ns >= ?", (cursor, oldest_ns)
    rows = db.execute(
        f"SELECT device, ended, -count(*) FROM settled WHERE {which} AND id <= ? GROUP BY device, ended",
        (*values, mark),
    ).fetchall()
    for table in ("settled", "letters"):
        db.execute(f"UPDATE {table} SET counted = 0 WHERE {which}", values)
    return [LedgerCorrection(device, Settlement(ended), count) for device, ended, count in rows]


def trim(db: sqlite3.Connection, mark: int, delivered_to: int) -> None:
    """Forget what a durable checkpoint counts, but for the newest of it."""
    db.execute(
        "DELETE FROM settled WHERE id <= ? AND record_id <= ? AND id <= (SELECT max(id) FROM settled) - ?",
        (mark, delivered_to, KEPT),
    )


def of_message(
    db: sqlite3.Connection, record_id: int, committed_ns: int, line: int, lines: int
) -> list[SettledDeadLetter]:
    """Those of ``lines`` points from ``line`` on of one record."""
    rows = db.execute(
        "SELECT line, kind, reason, ended, ended_ns FROM settled"
        " WHERE record_id = ? AND line >= ? AND line < ? AND committed_ns = ? ORDER BY id",
        (record_id, line, line + lines, committed_ns),
    )
    return [
        SettledDeadLetter(at, kind, reason, Settlement(ended), ended_ns)
        for at, kind, reason, ended, ended_ns in rows.fetchall()
    ]
