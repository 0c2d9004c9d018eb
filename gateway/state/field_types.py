"""Learned field types on disk (SQLite): the gateway adds them, the command line deletes them.

Rules that hold here:

* The file may be lost: the newest half second may be missing after a crash, and a damaged file is replaced by an empty
  one. The types are learned again from the next readings; until then the database decides about a type.
* The gateway's copy is in memory (`gateway.protocol.field_types`). `FieldTypeStore.refresh` makes both equal.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from typing import TYPE_CHECKING

from gateway.state.sqlite_file import is_damaged, open_store, transaction

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from gateway.protocol.field_types import FieldType, Key

log = logging.getLogger(__name__)

LAYOUT_VERSION = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS types (
    measurement TEXT NOT NULL,
    field TEXT NOT NULL,
    type TEXT NOT NULL,
    learned_ns INTEGER NOT NULL,
    PRIMARY KEY (measurement, field)
) WITHOUT ROWID
"""


class FieldTypeStore:
    """The file at ``path``. Methods block and may be called from any thread."""

    def __init__(self, path: Path) -> None:
        """Raises: sqlite3.Error when there can be no file."""
        self._path = path
        self._lock = threading.Lock()
        self._db = _open(path)
        # SQLite's counter of changes by other processes, as `refresh` last saw it; -1 before the first time.
        self._data_version = -1
        # The last `refresh` failed, and this has been logged.
        self._failed = False

    def refresh(self, new: Mapping[Key, FieldType], doubted: Iterable[Key]) -> dict[Key, FieldType] | None:
        """Delete the ``doubted`` types and add the ``new`` ones.

        Returns all types, or None if no other process changed them.

        The first call returns all types. If the file fails, this is logged once, and the new types are not kept.
        """
        try:
            with self._lock:
                self._change(new, list(doubted))
                version: int = self._db.execute("PRAGMA data_version").fetchone()[0]
                if version == self._data_version:
                    return None
                self._data_version = version
                rows = self._db.execute("SELECT measurement, field, type FROM types").fetchall()
        except sqlite3.Error as error:
            if not self._failed:
                log.warning("field types %s cannot be written: %s; they will be learned again", self._path, error)
            self._failed = True
            return None
        self._failed = False
        return {(measurement, field): found for measurement, field, found in rows}

    def _change(self, new: Mapping[Key, FieldType], doubted: Sequence[Key]) -> None:
        if not new and not doubted:
            return
        now = time.time_ns()
        with transaction(self._db):
            self._db.executemany("DELETE FROM types WHERE measurement = ? AND field = ?", doubted)
            self._db.executemany(
                "INSERT INTO types VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                [(measurement, field, found, now) for (measurement, field), found in new.items()],
            )

    def list(self, measurement: str | None = None) -> list[tuple[str, str, str, int]]:
        """Measurement, field, type and when it was learned (ns since 1970), by name."""
        where, values = ("WHERE measurement = ?", (measurement,)) if measurement is not None else ("", ())
        with self._lock:
            return self._db.execute(f"SELECT * FROM types {where} ORDER BY measurement, field", values).fetchall()

    def forget(self, measurement: str, field: str) -> bool:
        """Delete a type. Returns whether it was there."""
        with self._lock, transaction(self._db):
            done = self._db.execute("DELETE FROM types WHERE measurement = ? AND field = ?", (measurement, field))
            return done.rowcount > 0

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()


def _open(path: Path) -> sqlite3.Connection:
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        if not is_damaged(error):
            raise
        log.warning("field types: %s is damaged, and an empty file takes its place", path)
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    return open_store(path, "field types", LAYOUT_VERSION, _SCHEMA, "NORMAL")  # the newest may be lost, see above
