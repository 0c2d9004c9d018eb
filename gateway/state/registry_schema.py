"""The registry's file: its layout, how an older one becomes this one, and what a row is in memory.

Rules that hold here:

* Tokens are there as SHA-256 only. In memory a random one stands for none, so that every comparison can be made.
* A layout grows by columns; a file of the first one is opened and kept.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.config.sections import DEFAULT_PROFILE
from gateway.errors import GatewayError, RegistryError
from gateway.state.sqlite_file import check_layout, transaction

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping
    from pathlib import Path

LAYOUT_VERSION = 2
TOKEN_BYTES = 32
NO_TOKEN = secrets.token_bytes(32)

_SCHEMA = """
CREATE TABLE devices (
    id TEXT PRIMARY KEY,
    profile TEXT NOT NULL,
    tags TEXT NOT NULL,          -- a JSON object
    token_sha256 BLOB,           -- NULL: revoked
    created_ns INTEGER NOT NULL,
    changed_ns INTEGER NOT NULL, -- when the token was made or revoked
    version INTEGER NOT NULL UNIQUE,
    old_sha256 BLOB,             -- a token that counts beside it, until `old_until_ns`
    old_until_ns INTEGER
) WITHOUT ROWID
"""
_SECOND = (
    "ALTER TABLE devices ADD COLUMN old_sha256 BLOB",
    "ALTER TABLE devices ADD COLUMN old_until_ns INTEGER",
)
NEXT_VERSION = "(SELECT coalesce(max(version), 0) + 1 FROM devices)"


@dataclass(frozen=True, slots=True)
class Device:
    """A registered device; times in ns since 1970, ``changed_ns`` is when its token was made or revoked.

    ``proof`` is the hash of the token it was let in with, empty where that was something else. ``old_until_ns`` is not
    0 while an older token counts, too.
    """

    id: str
    profile: str = DEFAULT_PROFILE
    tags: Mapping[str, str] = field(default_factory=dict)
    created_ns: int = 0
    changed_ns: int = 0
    revoked: bool = False
    old_until_ns: int = 0
    proof: bytes = field(default=b"", repr=False, compare=False)


class DeviceRow(NamedTuple):
    """A device and the hashes of its tokens, `NO_TOKEN` where it has none."""

    device: Device
    token: bytes
    old: bytes

    def counts(self, token: bytes, now_ns: int) -> bool:
        """Whether a token of this hash lets the device in."""
        return token == self.token or (token == self.old and now_ns < self.device.old_until_ns)


def prepare(db: sqlite3.Connection, path: Path) -> None:
    """Give the file this layout, if it has an older one or none.

    Raises:
        RegistryError: a newer gateway wrote it.
        sqlite3.Error: it cannot be used.
    """
    if _version(db, path) == LAYOUT_VERSION:
        return
    with transaction(db):
        found = _version(db, path)  # somebody may have been faster
        if found == 0:
            db.execute(_SCHEMA)
        elif found == 1:
            for statement in _SECOND:
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {LAYOUT_VERSION}")


def _version(db: sqlite3.Connection, path: Path) -> int:
    try:
        return check_layout(db, path, "registry", LAYOUT_VERSION)
    except GatewayError as error:
        raise RegistryError(str(error)) from error


def parse_row(row: tuple[Any, ...]) -> tuple[DeviceRow, int]:
    """What a row says, and its version."""
    device_id, profile, tags, token, created_ns, changed_ns, version, old, until_ns = row
    device = Device(
        device_id, profile, json.loads(tags), created_ns, changed_ns, token is None, until_ns or 0, token or b""
    )
    return DeviceRow(device, token or NO_TOKEN, old or NO_TOKEN), version


def new_token() -> str:
    """256 random bits; none that a command line takes for an option, or a table for a formula."""
    while (token := secrets.token_urlsafe(TOKEN_BYTES)).startswith("-"):
        pass
    return token


def hashed(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def as_json(tags: Mapping[str, str]) -> str:
    """Tags as in a row."""
    return json.dumps(dict(tags), sort_keys=True)
