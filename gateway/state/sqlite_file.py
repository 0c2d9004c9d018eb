"""How every small SQLite file in the state directory is opened, and changed while other processes use it too.

Rules that hold here:

* The version of a file's layout is its ``user_version``. An older file can be read; a newer one is not touched.
* Transactions are explicit. A transaction waits at its beginning until no other process writes.
* To open a file that has its layout already writes nothing, so that it works on a full disk.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TypeVar

from gateway.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

StoreT = TypeVar("StoreT")

BUSY_TIMEOUT = 10.0
"""Seconds to wait for another process's transaction."""


def connect(path: Path) -> sqlite3.Connection:
    """A connection to the file at ``path``, which is made if it is missing; any thread may use it, one at a time.

    Raises:
        sqlite3.Error: the file cannot be opened.
    """
    return sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)


def open_store(
    path: Path, what: str, version: int, schema: str, synchronous: Literal["FULL", "NORMAL"] = "FULL"
) -> sqlite3.Connection:
    """As `connect`, with the tables of ``schema`` and a write-ahead log; ``what`` names the file in an error.

    Raises:
        GatewayError: a newer version of the gateway wrote it.
        sqlite3.Error: it cannot be used.
    """
    db = connect(path)
    try:
        found = check_layout(db, path, what, version)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {synchronous}")
        stamp = f"PRAGMA user_version = {version};" if found != version else ""
        db.executescript(f"BEGIN IMMEDIATE; {schema}; {stamp} COMMIT;")
    except BaseException:
        db.close()
        raise
    return db


def is_damaged(error: sqlite3.Error) -> bool:
    """Whether the error says that the file is no database, or a broken one."""
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return primary in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}


def access_hint(path: Path) -> str:
    """The end of an error text: who owns ``path`` or its directory, if this process may not read and write it."""
    for place, how in (path.parent, os.R_OK | os.W_OK | os.X_OK), (path, os.R_OK | os.W_OK):
        if os.access(place, os.F_OK) and not os.access(place, how):
            return f"; {place} belongs to {_owner(place)}, and this process runs as user {os.geteuid()}"
    return ""


def _owner(path: Path) -> str:
    try:
        return f"{path.owner()} (user {path.stat().st_uid})"
    except KeyError:  # the number has no name on this machine
        return f"user {path.stat().st_uid}"


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Commit at the end of the block; roll back if it raises."""
    # IMMEDIATE waits for the other process here, whatever the first statement is.
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def check_layout(db: sqlite3.Connection, path: Path, what: str, known: int) -> int:
    """The version of the file's layout; 0 for a new file, and for one that was made before layouts had versions.

    Raises:
        GatewayError: a newer version of the gateway wrote it; nothing was changed.
    """
    found: int = db.execute("PRAGMA user_version").fetchone()[0]
    if found > known:
        raise GatewayError(
            f"{what} {path} was written by a newer gateway (its layout is version {found}, this gateway knows up to "
            f"{known}): run that gateway or a later one"
        )
    return found


def open_naming_file(what: str, store: Callable[[Path], StoreT], path: Path) -> StoreT:
    """The store at ``path``.

    Raises:
        GatewayError: as `errors_name_file`.
    """
    with errors_name_file(what, path):
        return store(path)


@contextmanager
def errors_name_file(what: str, path: Path) -> Iterator[None]:
    """Make an error of a store name its file, and say what to do.

    Raises:
        GatewayError: in the place of sqlite3.Error.
    """
    try:
        yield
    except sqlite3.Error as error:
        advice = f"; restore it from a backup, or move it away ({path.name}-wal and -shm, too) to start without it"
        raise GatewayError(f"{what} {path}: {error}{advice if is_damaged(error) else access_hint(path)}") from error
