"""The version of a store's layout, in SQLite's ``user_version``: an older file is read, a newer one is left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import GatewayError

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path


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
