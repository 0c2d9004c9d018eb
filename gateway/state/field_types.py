"""Learned field types on disk (SQLite), shared by the gateway, which adds, and the command line, which takes away.

Rules that hold here:

* What is here is a memory, not a promise: the newest half second may be missing after a crash, and a file that cannot
  be used is begun anew. The types are learned again from the next readings; until then the database is the judge.
* The gateway's copy is in memory (`gateway.protocol.field_types`). `FieldTypeStore.refresh` brings both together.
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
        self._data_version = -1
        self._failed = False

    def refresh(self, new: Mapping[Key, FieldType], doubted: Iterable[Key]) -> dict[Key, FieldType] | None:
        """Forget what is ``doubted``, keep what is ``new``; all that is kept, at first and after others changed it.

        A file that fails is logged, once; what was new is then not kept.
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
                log.warning("field types %s cannot be kept: %s; they will be learned again", self._path, error)
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
        """Forget a type; whether it was known."""
        with self._lock, transaction(self._db):
            done = self._db.execute("DELETE FROM types WHERE measurement = ? AND field = ?", (measurement, field))
            return done.rowcount > 0

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()


def _open(path: Path) -> sqlite3.Connection:
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        if not is_damaged(error):
            raise
        log.warning("field types: %s is damaged and begun anew", path)
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    return open_store(path, "field types", LAYOUT_VERSION, _SCHEMA, "NORMAL")  # see above: the newest may be lost
