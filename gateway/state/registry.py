"""The registry: the file of registered devices (SQLite), which several processes read and change.

Rules that hold here:

* A token is 256 random bits. `Registry.add` and `Registry.rotate` return it once; only its SHA-256 is kept. A slow
  hash would not protect it better, because there is no list of likely tokens to try.
* Rows are never deleted. Every change gives its row the next ``version``, so that `Registry.refresh` reads only what
  changed.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from gateway.config.sections import DEFAULT_PROFILE
from gateway.errors import DeviceExists, RegistryError, UnknownDevice
from gateway.state.registered_device import DeviceRow, check_device, hashed, new_token
from gateway.state.registry_cache import RegistryCache
from gateway.state.registry_schema import NEXT_VERSION, as_json, parse_row, prepare
from gateway.state.sqlite_file import access_hint, connect, transaction
from gateway.time_units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from gateway.state.registered_device import NewDevice

log = logging.getLogger(__name__)

MAX_CHANGES_LOGGED = 20
"""Changes of another process that are logged one by one."""


Keep: TypeAlias = "Callable[[str], None]"
"""Receives a new token before the change is committed. If it raises, the change is rolled back."""


def _nowhere(_token: str) -> None:
    """For a caller that uses the returned token only."""


class Registry:
    """The file at ``path``, which is made if it is missing, and the ``devices`` in it.

    Methods block, and may be called from any thread. Those of ``devices`` do not block.

    Raises:
        RegistryError: the file cannot be used. All methods except `look` and `refresh` raise it, too.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.devices = RegistryCache()
        # The version of the newest row that `devices` has.
        self._version = 0
        # SQLite's counter of changes by other processes, as `look` last saw it; -1 before the first time.
        self._data_version = -1
        # The last `look` could read the file; a failure is logged when this becomes false.
        self._readable = True
        with self._errors():
            self._db = connect(path)
            try:
                prepare(self._db, path)
                self._absorb()
            except BaseException:
                self._db.close()
                raise

    def add(
        self,
        device_id: str,
        profile: str = DEFAULT_PROFILE,
        tags: Mapping[str, str] | None = None,
        keep: Keep = _nowhere,
    ) -> str:
        """Register a device; its token, which cannot be shown again. ``keep`` receives it before the commit.

        Raises:
            DeviceExists: it is registered, or registered and revoked.
            RegistryError: its id or a tag is not allowed.
        """
        return self._add(device_id, profile, tags, time.time_ns(), keep)

    def _add(
        self, device_id: str, profile: str, tags: Mapping[str, str] | None, now_ns: int, keep: Keep = _nowhere
    ) -> str:
        tags = dict(tags or {})
        check_device(device_id, tags)
        token = new_token()
        with self._change() as db:
            found = db.execute("SELECT token_sha256 IS NULL FROM devices WHERE id = ?", (device_id,)).fetchone()
            if found is not None:
                state = "is revoked" if found[0] else "is registered already"
                raise DeviceExists(f"the device {device_id} {state}; rotate gives it a new token")
            _insert(db, device_id, profile, tags, token, now_ns)
            keep(token)
        return token

    def add_all(self, devices: Sequence[NewDevice], keep: Callable[[Sequence[tuple[str, str]]], None]) -> None:
        """Register all of them or, if anything fails, none.

        ``keep`` receives id and token of each device that came without a token, before the change is committed.

        Raises:
            RegistryError: one of them is registered.
        """
        made, rows, now = [], [], time.time_ns()
        with self._change() as db:
            version: int = db.execute(f"SELECT {NEXT_VERSION}").fetchone()[0]
            for number, device in enumerate(devices, version):
                token = None if device.revoked else device.token or new_token()
                if token is not None and device.token is None:
                    made.append((device.id, token))
                sha256 = None if token is None else hashed(token)
                rows.append((device.id, device.profile, as_json(device.tags), sha256, now, now, number, None, None))
            db.executemany("INSERT INTO devices VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            keep(made)

    def check_new(self, device_id: str) -> None:
        """Check the id of a device that is approved without ``replaces``.

        Raises:
            DeviceExists: it is registered, or registered and revoked.
        """
        self.look()
        device = self.devices.lookup(device_id)
        if device is not None:
            state = "was revoked" if device.revoked else "is registered"
            raise DeviceExists(
                f"the device {device_id} {state}: with replace (--replace) it gets a new token and its old one ends"
            )

    def enrol(
        self, device_id: str, profile: str | None, tags: Mapping[str, str] | None, now_ns: int, *, replaces: bool
    ) -> str:
        """A new token for an approved device; with ``replaces`` also for a device that is registered or revoked.

        A profile or tags of None: those of the device if it is registered, else the default. ``now_ns`` is when the
        token is made, for `Device.changed_ns`.

        Raises:
            DeviceExists: it is registered or revoked, and ``replaces`` is false.
            RegistryError: as `add`.
        """
        if not replaces:
            return self._add(device_id, DEFAULT_PROFILE if profile is None else profile, tags, now_ns)
        check_device(device_id, tags or {})
        token = new_token()
        with self._change() as db:
            done = db.execute(
                "UPDATE devices SET profile = coalesce(?, profile), tags = coalesce(?, tags), token_sha256 = ?,"
                f" old_sha256 = NULL, old_until_ns = NULL, changed_ns = ?, version = {NEXT_VERSION} WHERE id = ?",
                (profile, None if tags is None else as_json(tags), hashed(token), now_ns, device_id),
            )
            if done.rowcount == 0:
                _insert(db, device_id, DEFAULT_PROFILE if profile is None else profile, tags or {}, token, now_ns)
        return token

    def take_back(self, device_id: str, token: str) -> None:
        """Revoke the device if this is still its token: the token could not be delivered."""
        with self._change() as db:
            db.execute(
                "UPDATE devices SET token_sha256 = NULL, old_sha256 = NULL, old_until_ns = NULL, changed_ns = ?,"
                f" version = {NEXT_VERSION} WHERE id = ? AND token_sha256 = ?",
                (time.time_ns(), device_id, hashed(token)),
            )

    def rotate(self, device_id: str, overlap: float = 0.0, keep: Keep = _nowhere) -> str:
        """Give the device a new token, also if it is revoked; ``keep`` receives it before the change is committed.

        The old token ends at once or, with an ``overlap``, after so many seconds or at the first use of the new one.

        Raises:
            UnknownDevice: it is not registered.
        """
        token, until_ns = new_token(), time.time_ns() + round(overlap * NS_PER_S) if overlap else None
        self._set_token(device_id, hashed(token), until_ns, lambda: keep(token))
        return token

    def revoke(self, device_id: str) -> None:
        """End the device's tokens; its profile and tags are kept for `rotate`.

        Raises:
            UnknownDevice: it is not registered.
        """
        self._set_token(device_id, None, None)

    def _set_token(
        self, device_id: str, token: bytes | None, old_until_ns: int | None, done: Callable[[], None] = lambda: None
    ) -> None:
        with self._change() as db:
            changed = db.execute(
                "UPDATE devices SET old_sha256 = CASE WHEN :until THEN token_sha256 END,"
                " old_until_ns = CASE WHEN token_sha256 IS NOT NULL THEN :until END,"
                f" token_sha256 = :token, changed_ns = :now, version = {NEXT_VERSION} WHERE id = :id",
                {"until": old_until_ns, "token": token, "now": time.time_ns(), "id": device_id},
            )
            if changed.rowcount == 0:
                raise UnknownDevice(f"there is no device {device_id}")
            done()

    def look(self) -> None:
        """Read what changed in the file. If that fails, it is logged once, and `devices` stays as it is."""
        with self._lock:
            try:
                found: int = self._db.execute("PRAGMA data_version").fetchone()[0]
                if found != self._data_version:
                    self._tell(self._absorb())
                    self._data_version = found
                self._end_overlaps(time.time_ns())
                self._readable = True
            except sqlite3.Error as error:
                if self._readable:
                    log.warning(
                        "registry %s cannot be read: %s; the devices read before stay in force", self._path, error
                    )
                self._readable = False

    def refresh(self) -> frozenset[str]:
        """As `look`; the devices whose token ended since the last call."""
        self.look()
        with self._lock:
            return self.devices.take_ended()

    def _end_overlaps(self, now_ns: int) -> None:
        """Delete previous tokens from the file when their time is over, or when the new token was used."""
        over = self.devices.over(now_ns)
        if over:
            # The token is compared, so that a rotation that happened since keeps its own overlap.
            with transaction(self._db):
                self._db.executemany(
                    f"UPDATE devices SET old_sha256 = NULL, old_until_ns = NULL, version = {NEXT_VERSION}"
                    " WHERE id = ? AND token_sha256 = ?",
                    over,
                )
            self._absorb()
            self.devices.written_down(over)

    def _tell(self, changes: Sequence[tuple[DeviceRow | None, DeviceRow]]) -> None:
        """Log the changes that another process made."""
        if self._data_version < 0:
            return
        for before, now in changes[:MAX_CHANGES_LOGGED]:
            device_id, what = now.device.id, _change_of(before, now)
            log.info("device %s %s, by another process", device_id, what, extra={"device": device_id})
        if len(changes) > MAX_CHANGES_LOGGED:
            log.info("%d more devices were registered or changed by another process", len(changes) - MAX_CHANGES_LOGGED)

    def _absorb(self) -> Sequence[tuple[DeviceRow | None, DeviceRow]]:
        """Read the rows that changed into `devices`; each device before (None: new) and after."""
        rows = self._db.execute("SELECT * FROM devices WHERE version > ? ORDER BY version", (self._version,)).fetchall()
        if not rows:
            return ()
        found = [parse_row(row) for row in rows]
        self._version = found[-1][1]
        return self.devices.take_in(device for device, _version in found)

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            with self._errors("; nothing was changed"), transaction(self._db):
                yield self._db
            with self._errors("; what was changed is in force"):
                self._absorb()

    @contextmanager
    def _errors(self, changed: str = "") -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise RegistryError(f"registry {self._path}: {error}{changed}{access_hint(self._path)}") from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()


def _change_of(before: DeviceRow | None, now: DeviceRow) -> str:
    if before is None:
        return "was registered"
    if before.token != now.token:
        return "was revoked" if now.device.revoked else "got a new token"
    return "was changed"


def _insert(
    db: sqlite3.Connection, device_id: str, profile: str, tags: Mapping[str, str], token: str, now_ns: int
) -> None:
    db.execute(
        f"INSERT INTO devices VALUES (?, ?, ?, ?, ?, ?, {NEXT_VERSION}, NULL, NULL)",
        (device_id, profile, as_json(tags), hashed(token), now_ns, now_ns),
    )
