"""The schema of the registry's file, the step from an older version to this one, and how a row is read.

A new version of the schema only adds columns, so a file of the first version is opened and keeps its rows.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from gateway.errors import GatewayError, RegistryError
from gateway.state.registered_device import NO_TOKEN, Device, DeviceRow
from gateway.state.sqlite_file import check_layout, transaction

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping
    from pathlib import Path

LAYOUT_VERSION = 2

_SCHEMA = """
CREATE TABLE devices (
    id TEXT PRIMARY KEY,
    profile TEXT NOT NULL,
    tags TEXT NOT NULL,          -- a JSON object
    token_sha256 BLOB,           -- NULL: revoked
    created_ns INTEGER NOT NULL,
    changed_ns INTEGER NOT NULL, -- when the token was made or revoked
    version INTEGER NOT NULL UNIQUE,
    old_sha256 BLOB,             -- the previous token, valid too until `old_until_ns`
    old_until_ns INTEGER
) WITHOUT ROWID
"""
_FROM_1_TO_2 = (
    "ALTER TABLE devices ADD COLUMN old_sha256 BLOB",
    "ALTER TABLE devices ADD COLUMN old_until_ns INTEGER",
)
NEXT_VERSION = "(SELECT coalesce(max(version), 0) + 1 FROM devices)"
"""SQL for the ``version`` of the next change of a row."""


def prepare(db: sqlite3.Connection, path: Path) -> None:
    """Create the schema in a new file, and upgrade an older one.

    Raises:
        RegistryError: a newer gateway wrote the file.
        sqlite3.Error: the file cannot be used.
    """
    if _version(db, path) == LAYOUT_VERSION:
        return
    with transaction(db):
        found = _version(db, path)  # another process may have done it since
        if found == 0:
            db.execute(_SCHEMA)
        elif found == 1:
            for statement in _FROM_1_TO_2:
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {LAYOUT_VERSION}")


def _version(db: sqlite3.Connection, path: Path) -> int:
    try:
        return check_layout(db, path, "registry", LAYOUT_VERSION)
    except GatewayError as error:
        raise RegistryError(str(error)) from error


def parse_row(row: tuple[Any, ...]) -> tuple[DeviceRow, int]:
    """The device of a row, and the row's version."""
    device_id, profile, tags, token, created_ns, changed_ns, version, old, until_ns = row
    device = Device(
        device_id, profile, json.loads(tags), created_ns, changed_ns, token is None, until_ns or 0, token or b""
    )
    return DeviceRow(device, token or NO_TOKEN, old or NO_TOKEN), version


def as_json(tags: Mapping[str, str]) -> str:
    """Tags as a row has them."""
    return json.dumps(dict(tags), sort_keys=True)
