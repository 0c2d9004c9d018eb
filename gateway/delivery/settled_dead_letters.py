"""Settled dead letters: those that were stored by a replay, discarded or deleted. For the ledger and for `why`.

Rules that hold here:

* A row of ``settled`` is written in the transaction that deletes the dead letter. So each one is settled once,
  whichever process does it.
* The ledger counts a reading as rejected while its point is a dead letter. The running gateway reads from
  `corrections_after` what has changed since its mark, the number of the last row that the ledger counts. The mark is
  in the ledger's checkpoint, so every row is counted once, across restarts too.
* Rows that the checkpoint counts are kept for `why`, the newest `KEPT` of them.

The functions take the connection of the dead letters' store; the caller holds its lock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

KEPT = 10_000
"""Rows that stay although the checkpoint counts them."""

SETTLED_TABLE = """
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
    """How a dead letter was settled."""

    STORED = "stored"
    """A replay wrote it to the database."""
    DISCARDED = "discarded"
    """It was one of the oldest when there were too many: the ledger counts its reading as dropped."""
    DELETED = "deleted"
    """An operator deleted it: the ledger still counts its reading as rejected."""


@dataclass(frozen=True, slots=True)
class LedgerCorrection:
    """``count`` dead letters of ``device`` were settled in one way; negative if the ledger has to take them back."""

    device: str
    settlement: Settlement
    count: int


@dataclass(frozen=True, slots=True)
class SettledDeadLetter:
    """A dead letter that was settled at ``settled_ns`` (since 1970), and why the database had refused it.

    ``line`` is the index of the point in its record.
    """

    line: int
    kind: str
    reason: str
    settlement: Settlement
    settled_ns: int


def settle(db: sqlite3.Connection, where: str, values: Sequence[object], settlement: Settlement, now_ns: int) -> int:
    """Settle the dead letters that ``where`` selects; how many there were."""
    db.execute(
        "INSERT INTO settled SELECT NULL, record_id, line, committed_ns, device, counted, kind, reason, ?, ?"
        f" FROM letters WHERE {where} ORDER BY n",
        (settlement, now_ns, *values),
    )
    return db.execute(f"DELETE FROM letters WHERE {where}", values).rowcount


def corrections_after(db: sqlite3.Connection, mark: int) -> tuple[int, list[LedgerCorrection]]:
    """The new mark, and the sums of what was settled after row ``mark``."""
    newest: int = db.execute("SELECT coalesce(max(id), 0) FROM settled").fetchone()[0]
    if newest <= mark:
        return mark, []
    rows = db.execute(
        "SELECT device, ended, count(*) FROM settled WHERE id > ? AND id <= ? AND counted GROUP BY device, ended",
        (mark, newest),
    )
    return newest, [LedgerCorrection(device, Settlement(settled), count) for device, settled, count in rows.fetchall()]


def uncount(db: sqlite3.Connection, cursor: int, oldest_ns: int, mark: int) -> list[LedgerCorrection]:
    """Mark the dead letters of records after ``cursor`` as not counted: those records are delivered and counted again.

    ``oldest_ns`` is the commit time of the first of these records. The result is what the ledger has to take back: the
    dead letters of these records that were settled up to ``mark``, and so were counted.
    """
    which, values = "counted AND record_id > ? AND committed_ns >= ?", (cursor, oldest_ns)
    rows = db.execute(
        f"SELECT device, ended, -count(*) FROM settled WHERE {which} AND id <= ? GROUP BY device, ended",
        (*values, mark),
    ).fetchall()
    for table in ("settled", "letters"):
        db.execute(f"UPDATE {table} SET counted = 0 WHERE {which}", values)
    return [LedgerCorrection(device, Settlement(settled), count) for device, settled, count in rows]


def trim(db: sqlite3.Connection, mark: int, delivered_to: int) -> None:
    """Delete rows that a durable checkpoint counts, except the newest `KEPT`."""
    db.execute(
        "DELETE FROM settled WHERE id <= ? AND record_id <= ? AND id <= (SELECT max(id) FROM settled) - ?",
        (mark, delivered_to, KEPT),
    )


def of_message(
    db: sqlite3.Connection, record_id: int, committed_ns: int, line: int, lines: int
) -> list[SettledDeadLetter]:
    """The settled dead letters among ``lines`` points, from ``line`` on, of one record."""
    rows = db.execute(
        "SELECT line, kind, reason, ended, ended_ns FROM settled"
        " WHERE record_id = ? AND line >= ? AND line < ? AND committed_ns = ? ORDER BY id",
        (record_id, line, line + lines, committed_ns),
    )
    return [
        SettledDeadLetter(at, kind, reason, Settlement(settled), settled_ns)
        for at, kind, reason, settled, settled_ns in rows.fetchall()
    ]
