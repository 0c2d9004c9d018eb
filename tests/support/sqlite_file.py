"""SQLite files: what a person sees in the database, a clock to make its points old, and a store that fails."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

from gateway.state.sqlite_file import transaction

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def rows(path: Path, columns: str = "device, measurement, field, tags, time_ns, value, type") -> list[tuple[Any, ...]]:
    """The view of the file, in order of time."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(
            f"SELECT {columns} FROM readings ORDER BY time_ns, device, measurement, field"
        ).fetchall()


@contextlib.contextmanager
def failing_transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """In the place of `gateway.state.sqlite_file.transaction`: one that fails when all was done."""
    with transaction(db):
        yield db
        raise sqlite3.OperationalError("the disk is full")


class Clock:
    """Tells the time it is set to, in ns since 1970."""

    def __init__(self, now_ns: int) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns
