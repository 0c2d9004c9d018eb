"""The settings of devices: those that a device should have, and those that it reports (one SQLite file).

Rules that hold here:

* Both are changed by merge patches (RFC 7396). A patch that really changes the desired settings gives them the next
  version, and is on disk (``synchronous=FULL``) before it is sent to the device.
* Neither ever has more than `MAX_SETTINGS` bytes; a patch that would make it larger changes nothing.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson

from gateway.errors import GatewayError
from gateway.protocol.merge_patch import MAX_SETTINGS, difference, merged
from gateway.state.sqlite_file import open_store, transaction
from gateway.time_units import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gateway.protocol.merge_patch import Settings

LAYOUT_VERSION = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS twins (
    device TEXT PRIMARY KEY,
    version INTEGER NOT NULL,   -- of the desired settings; 0: there never were any
    desired BLOB NOT NULL,      -- JSON
    changed_ns INTEGER NOT NULL,
    role TEXT NOT NULL,         -- of the person or program that changed them last
    address TEXT NOT NULL,
    reported_version INTEGER,
    reported BLOB NOT NULL,     -- JSON
    reported_ns INTEGER NOT NULL
) WITHOUT ROWID
"""


class SettingsTooLarge(GatewayError):
    """With this change the settings would have more than `MAX_SETTINGS` bytes."""


class VersionConflict(GatewayError):
    """The desired settings have another version than the caller expected: ``version``."""

    def __init__(self, version: int) -> None:
        super().__init__(f"the settings have version {version} by now; read them again, then change them")
        self.version = version


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """What a device should have and what it reports; times are ns since 1970, 0 for never."""

    device: str
    version: int = 0
    """Of the desired settings; 0: there never were any."""
    desired: bytes = b"{}"
    """JSON."""
    changed_ns: int = 0
    """When the desired settings were last changed."""
    role: str = ""
    """The role of the person or program that changed them last."""
    address: str = ""
    """The address that this change came from."""
    reported_version: int | None = None
    """The version of the desired settings that the device has seen; None: it has not said."""
    reported: bytes = b"{}"
    """JSON."""
    reported_ns: int = 0

    def shown(self) -> dict[str, Any]:
        """As the API shows it; ``difference`` has what is desired and not reported."""
        desired, reported = orjson.loads(self.desired), orjson.loads(self.reported)
        by = {"role": self.role, "address": self.address} if self.version else None
        return {
            "device": self.device,
            "desired": {
                "version": self.version,
                "settings": desired,
                "changed_at": self.changed_ns // NS_PER_MS or None,
                "by": by,
            },
            "reported": {
                "version": self.reported_version,
                "settings": reported,
                "at": self.reported_ns // NS_PER_MS or None,
            },
            "difference": difference(desired, reported),
        }


@dataclass(frozen=True, slots=True)
class SettingsReport:
    """What a device reports of its settings."""

    device: str
    version: int | None
    """The version of the desired settings that the device has seen; None: it did not say."""
    patch: bytes
    """JSON, a merge patch of what it reported before."""
    at_ns: int


class DeviceSettingsStore:
    """The file at ``path``. Methods block, may be called from any thread, and raise sqlite3.Error when it fails."""

    def __init__(self, path: Path) -> None:
        """Raises: GatewayError if a newer gateway wrote the file, sqlite3.Error if it cannot be used."""
        self._lock = threading.Lock()
        self._db = open_store(path, "settings", LAYOUT_VERSION, _SCHEMA)

    def desiring(self) -> set[str]:
        """The devices that have desired settings."""
        with self._lock:
            return {row[0] for row in self._db.execute("SELECT device FROM twins WHERE version > 0")}

    def show(self, device: str) -> DeviceSettings:
        """The settings of a device, empty if nothing was ever desired or reported."""
        with self._lock:
            return self._read(device)

    def _read(self, device: str) -> DeviceSettings:
        row = self._db.execute("SELECT * FROM twins WHERE device = ?", (device,)).fetchone()
        return DeviceSettings(device) if row is None else DeviceSettings(*row)

    def change(
        self, device: str, patch: Settings, version: int | None, role: str, address: str, now_ns: int
    ) -> tuple[DeviceSettings, bool]:
        """Change the desired settings. Returns all settings after it, and whether anything has changed.

        If ``version`` is given, the change is made only while the desired settings have that version.

        Raises:
            VersionConflict: they have another version.
            SettingsTooLarge: they would be too large.
        """
        with self._lock, transaction(self._db):
            before = self._read(device)
            if version is not None and version != before.version:
                raise VersionConflict(before.version)
            desired = _applied(before.desired, patch)
            if desired == before.desired:
                return before, False
            after = replace(
                before, version=before.version + 1, desired=desired, changed_ns=now_ns, role=role, address=address
            )
            self._put(after)
            return after, True

    def report(self, reports: Iterable[SettingsReport]) -> list[str]:
        """Write reports. Returns the devices whose settings would be too large; theirs are left as they were."""
        refused = []
        with self._lock, transaction(self._db):
            for report in reports:
                before = self._read(report.device)
                try:
                    reported = _applied(before.reported, orjson.loads(report.patch))
                except SettingsTooLarge:
                    refused.append(report.device)
                else:
                    seen = before.reported_version if report.version is None else report.version
                    self._put(replace(before, reported=reported, reported_version=seen, reported_ns=report.at_ns))
        return refused

    def _put(self, settings: DeviceSettings) -> None:
        self._db.execute(
            "REPLACE INTO twins VALUES (?,?,?,?,?,?,?,?,?)",
            (
                settings.device,
                settings.version,
                settings.desired,
                settings.changed_ns,
                settings.role,
                settings.address,
                settings.reported_version,
                settings.reported,
                settings.reported_ns,
            ),
        )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()


def _applied(settings: bytes, patch: Settings) -> bytes:
    result = orjson.dumps(merged(orjson.loads(settings), patch), option=orjson.OPT_SORT_KEYS)
    if len(result) > MAX_SETTINGS:
        raise SettingsTooLarge(f"settings have at most {MAX_SETTINGS} bytes of JSON, these would have {len(result)}")
    return result
