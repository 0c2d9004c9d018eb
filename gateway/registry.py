"""Which devices there are and what proves that they are who they say (SQLite, one file).

Rules that hold here:

* A token is 256 random bits, shown once by `Registry.add` or `Registry.rotate`; only its SHA-256 is kept. A slow hash
  would protect nothing: there is no list of likely tokens to try.
* An unknown device, a revoked one and a wrong token cost the same time and give the same answer.
* All devices are in memory, in a mapping that is replaced and never changed: `Registry.authenticate` and
  `Registry.lookup` take no lock and may run on the event loop while another thread is in `Registry.refresh`.
* Rows are never deleted. Every change takes the next ``version``, so that `Registry.refresh` reads only what is new.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
import sqlite3
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gateway.config.names import check_device_id, check_tag
from gateway.config.sections import DEFAULT_PROFILE
from gateway.errors import DeviceExists, RegistryError, UnknownDevice
from gateway.stores import BUSY_TIMEOUT, transaction

if TYPE_CHECKING:
    from _collections_abc import dict_keys
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
TOKEN_BYTES = 32

_SCHEMA = """
CREATE TABLE devices (
    id TEXT PRIMARY KEY,
    profile TEXT NOT NULL,
    tags TEXT NOT NULL,          -- a JSON object
    token_sha256 BLOB,           -- NULL: revoked
    created_ns INTEGER NOT NULL,
    changed_ns INTEGER NOT NULL, -- when the token was made or revoked
    version INTEGER NOT NULL UNIQUE
) WITHOUT ROWID
"""
_NEXT_VERSION = "(SELECT coalesce(max(version), 0) + 1 FROM devices)"
_NOBODYS = secrets.token_bytes(32)
"""Compared with where there is no token to compare with; no token has this hash."""


@dataclass(frozen=True, slots=True)
class Device:
    """A registered device; times in ns since 1970, ``changed_ns`` is when its token was made or revoked."""

    id: str
    profile: str = DEFAULT_PROFILE
    tags: Mapping[str, str] = field(default_factory=dict)
    created_ns: int = 0
    changed_ns: int = 0
    revoked: bool = False


class Registry:
    """The devices in the file at ``path``, which is made if it is missing.

    Methods block except `authenticate`, `lookup`, `ids` and `list`, and may be called from any thread.

    Raises:
        RegistryError: the file cannot be used; so do all methods but `refresh`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._devices: dict[str, tuple[Device, bytes | None]] = {}
        self._changed: set[str] = set()
        self._version = 0
        self._data_version = -1
        self._readable = True
        with self._errors():
            self._db = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
                self._absorb()
            except BaseException:
                self._db.close()
                raise

    def _prepare(self) -> None:
        if self._found_schema() == 0:
            self._db.execute("BEGIN IMMEDIATE")
            if self._found_schema() == 0:  # nobody else was faster
                self._db.execute(_SCHEMA)
                self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            self._db.execute("COMMIT")
        found = self._found_schema()
        if found > SCHEMA_VERSION:
            raise RegistryError(
                f"registry {self._path} was written by a newer gateway (its layout is version {found}, this gateway "
                f"knows up to {SCHEMA_VERSION}): run that gateway or a later one"
            )

    def _found_schema(self) -> int:
        version: int = self._db.execute("PRAGMA user_version").fetchone()[0]
        return version

    def authenticate(self, device_id: str, token: str) -> Device | None:
        """The device, if it is registered and the token is its own."""
        device, expected = self._devices.get(device_id, (None, None))
        same = hmac.compare_digest(_hash(token), _NOBODYS if expected is None else expected)
        return device if same else None

    def lookup(self, device_id: str) -> Device | None:
        """The device, revoked ones too."""
        device, _ = self._devices.get(device_id, (None, None))
        return device

    def ids(self) -> dict_keys[str, Any]:
        """The ids of all devices, in the order in which they were registered."""
        return self._devices.keys()

    def list(self) -> list[Device]:
        """All devices, revoked ones too, by id."""
        devices = self._devices
        return [devices[device_id][0] for device_id in sorted(devices)]

    def show(self, device_id: str) -> Device:
        """The device.

        Raises:
            UnknownDevice: it is not registered.
        """
        device = self.lookup(device_id)
        if device is None:
            raise UnknownDevice(f"there is no device {device_id}")
        return device

    def add(self, device_id: str, profile: str = DEFAULT_PROFILE, tags: Mapping[str, str] | None = None) -> str:
        """Register a device; its token, which cannot be shown again.

        Raises:
            DeviceExists: it is registered, or was and is revoked.
            RegistryError: its id or its tags cannot be any.
        """
        tags = dict(tags or {})
        check_device(device_id, tags)
        token = secrets.token_urlsafe(TOKEN_BYTES)
        with self._change() as db:
            known = db.execute("SELECT token_sha256 IS NULL FROM devices WHERE id = ?", (device_id,)).fetchone()
            if known is not None:
                hint = "is revoked; rotate gives it a new token" if known[0] else "is registered already"
                raise DeviceExists(f"the device {device_id} {hint}")
            _insert(db, device_id, profile, tags, token)
        return token

    def check_new(self, device_id: str) -> None:
        """Accept an id for a device that was approved, and that nothing is to be replaced for.

        Raises:
            DeviceExists: it is registered, or was and is revoked.
        """
        self.refresh_devices()
        device = self.lookup(device_id)
        if device is not None:
            state = "was revoked" if device.revoked else "is registered"
            raise DeviceExists(
                f"the device {device_id} {state}: with replace (--replace) it gets a new token, and an old one ends"
            )

    def enrol(self, device_id: str, profile: str | None, tags: Mapping[str, str] | None, *, replaces: bool) -> str:
        """A token for a device that was approved; ``replaces``: also for one that is registered, or was.

        What is None is the default with a new device, and stays as it is with one that is known.

        Raises:
            DeviceExists: it is registered, or was, and nothing may be replaced.
            RegistryError: as `add`.
        """
        if not replaces:
            return self.add(device_id, DEFAULT_PROFILE if profile is None else profile, tags)
        check_device(device_id, tags or {})
        token = secrets.token_urlsafe(TOKEN_BYTES)
        with self._change() as db:
            done = db.execute(
                "UPDATE devices SET profile = coalesce(?, profile), tags = coalesce(?, tags), token_sha256 = ?,"
                f" changed_ns = ?, version = {_NEXT_VERSION} WHERE id = ?",
                (profile, None if tags is None else _json(tags), _hash(token), time.time_ns(), device_id),
            )
            if done.rowcount == 0:
                _insert(db, device_id, DEFAULT_PROFILE if profile is None else profile, tags or {}, token)
        return token

    def rotate(self, device_id: str) -> str:
        """Give the device a new token, also when it was revoked; the old one ends.

        Raises:
            UnknownDevice: it is not registered.
        """
        token = secrets.token_urlsafe(TOKEN_BYTES)
        self._set_hash(device_id, _hash(token))
        return token

    def revoke(self, device_id: str) -> None:
        """Let no token stand for the device; its profile and tags are kept for `rotate`.

        Raises:
            UnknownDevice: it is not registered.
        """
        self._set_hash(device_id, None)

    def _set_hash(self, device_id: str, token_hash: bytes | None) -> None:
        with self._change() as db:
            done = db.execute(
                f"UPDATE devices SET token_sha256 = ?, changed_ns = ?, version = {_NEXT_VERSION} WHERE id = ?",
                (token_hash, time.time_ns(), device_id),
            )
            if done.rowcount == 0:
                raise UnknownDevice(f"there is no device {device_id}")

    def refresh_devices(self) -> None:
        """Take in what changed in the file; a file that cannot be read is logged, once, and the devices known stay."""
        with self._lock:
            try:
                found: int = self._db.execute("PRAGMA data_version").fetchone()[0]
                if found != self._data_version:
                    self._absorb()
                    self._data_version = found
                self._readable = True
            except sqlite3.Error as error:
                if self._readable:
                    log.warning("registry %s cannot be read: %s; going on with the devices known", self._path, error)
                self._readable = False

    def refresh(self) -> frozenset[str]:
        """Likewise; the devices whose token ended since the last call."""
        self.refresh_devices()
        with self._lock:
            changed, self._changed = frozenset(self._changed), set()
        return changed

    def _absorb(self) -> None:
        rows = self._db.execute("SELECT * FROM devices WHERE version > ? ORDER BY version", (self._version,)).fetchall()
        if not rows:
            return
        devices = dict(self._devices)
        for device_id, profile, tags, token_hash, created_ns, changed_ns, version in rows:
            _, before = devices.get(device_id, (None, None))
            if before is not None and before != token_hash:
                self._changed.add(device_id)
            device = Device(device_id, profile, json.loads(tags), created_ns, changed_ns, token_hash is None)
            devices[device_id] = device, token_hash
            self._version = version
        self._devices = devices

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._errors():
            with transaction(self._db):
                yield self._db
            self._absorb()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise RegistryError(f"registry {self._path}: {error}") from error

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()


def check_profile(profile: str, profiles: Collection[str]) -> None:
    """Accept the name of a profile for a new device.

    Raises:
        RegistryError: it is none of the configuration's ``profiles``.
    """
    if profile not in profiles:
        raise RegistryError(f"the configuration has no profile {profile}; it has {', '.join(profiles)}")


def check_device(device_id: str, tags: Mapping[str, str]) -> None:
    """Accept the id and the tags of a device.

    Raises:
        RegistryError: they cannot be any.
    """
    try:
        check_device_id(device_id)
        for name, value in tags.items():
            check_tag(name, value)
    except ValueError as error:
        raise RegistryError(str(error)) from error


def _insert(db: sqlite3.Connection, device_id: str, profile: str, tags: Mapping[str, str], token: str) -> None:
    now = time.time_ns()
    db.execute(
        f"INSERT INTO devices VALUES (?, ?, ?, ?, ?, ?, {_NEXT_VERSION})",
        (device_id, profile, _json(tags), _hash(token), now, now),
    )


def _json(tags: Mapping[str, str]) -> str:
    return json.dumps(dict(tags), sort_keys=True)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
