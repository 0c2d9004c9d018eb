"""The small SQLite files that hold what is no reading: how each is opened, and changed beside other processes.

Rules that hold here:

* The version of a file's layout is its ``user_version``: an older file is read, a newer one is left alone.
* Transactions are explicit, and wait for another process at their beginning.
* To open a file that has its layout already writes nothing: that has to go on a full disk, too.
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


def open_store(
    path: Path, what: str, version: int, schema: str, synchronous: Literal["FULL", "NORMAL"] = "FULL"
) -> sqlite3.Connection:
    """The file at ``path``, made if it is missing, for any thread.

    Raises:
        GatewayError: a newer version of the gateway wrote it.
        sqlite3.Error: it cannot be used.
    """
    db = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
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
    """Whether it says that the file is no database, or not a whole one."""
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return primary in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}


def access_hint(path: Path) -> str:
    """Whose ``path`` or its directory is, where this process may not read and write there, to be added to an error."""
    for place, how in (path.parent, os.R_OK | os.W_OK | os.X_OK), (path, os.R_OK | os.W_OK):
        if os.access(place, os.F_OK) and not os.access(place, how):
            return f"; {place} belongs to {_owner(place)}, and this runs as user {os.geteuid()}"
    return ""


def _owner(path: Path) -> str:
    try:
        return f"{path.owner()} (user {path.stat().st_uid})"
    except KeyError:  # nobody of that number has a name here
        return f"user {path.stat().st_uid}"


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All of what is done inside, or nothing of it."""
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
    """The version of the file, 0 for a new one and for one from before it had any.

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
    """Have an error of a store name its file, and say what to do.

    Raises:
        GatewayError: in the place of sqlite3.Error.
    """
    try:
        yield
    except sqlite3.Error as error:
        advice = f"; put a copy in its place, or move it away ({path.name}-wal and -shm, too) and go on without it"
        raise GatewayError(f"{what} {path}: {error}{advice if is_damaged(error) else access_hint(path)}") from error
