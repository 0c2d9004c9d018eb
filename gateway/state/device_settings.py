"""The settings a device should have and those it says it has: its twin (SQLite, one file).

Rules that hold here:

* Both are changed by merge patches (RFC 7396). A change of the desired ones that changes something takes the next
  version, and is on disk (``synchronous=FULL``) before the device hears of it.
* Neither is ever over `MAX_SETTINGS`; what would make it so changes nothing.
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
    version INTEGER NOT NULL,   -- of what is desired; 0: nothing ever was
    desired BLOB NOT NULL,      -- JSON
    changed_ns INTEGER NOT NULL,
    role TEXT NOT NULL,         -- who changed it last
    address TEXT NOT NULL,
    reported_version INTEGER,
    reported BLOB NOT NULL,     -- JSON
    reported_ns INTEGER NOT NULL
) WITHOUT ROWID
"""


class SettingsTooLarge(GatewayError):
    """With this change the settings would have more than `MAX_SETTINGS` bytes."""


class VersionConflict(GatewayError):
    """Somebody else has changed the settings meanwhile; ``version`` is theirs."""

    def __init__(self, version: int) -> None:
        super().__init__(f"the settings have version {version} by now; look at them and try again")
        self.version = version


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """Settings are JSON, times ns since 1970, 0 for never."""

    device: str
    version: int = 0
    desired: bytes = b"{}"
    changed_ns: int = 0
    role: str = ""
    address: str = ""
    reported_version: int | None = None
    reported: bytes = b"{}"
    reported_ns: int = 0

    def shown(self) -> dict[str, Any]:
        """As the API shows it; ``difference`` is what is desired and not reported."""
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
    """What a device said of its settings: a patch (JSON) of what it said before, and the version it has seen."""

    device: str
    version: int | None
    patch: bytes
    at_ns: int


class DeviceSettingsStore:
    """The file at ``path``. Methods block, may be called from any thread, and raise sqlite3.Error when it fails."""

    def __init__(self, path: Path) -> None:
        """Raises: GatewayError if a newer gateway wrote the file."""
        self._lock = threading.Lock()
        self._db = open_store(path, "settings", LAYOUT_VERSION, _SCHEMA)

    def desiring(self) -> set[str]:
        """The devices of which settings are desired."""
        with self._lock:
            return {row[0] for row in self._db.execute("SELECT device FROM twins WHERE version > 0")}

    def show(self, device: str) -> DeviceSettings:
        """The twin of a device, empty if nothing was ever said about its settings."""
        with self._lock:
            return self._twin(device)

    def _twin(self, device: str) -> DeviceSettings:
        row = self._db.execute("SELECT * FROM twins WHERE device = ?", (device,)).fetchone()
        return DeviceSettings(device) if row is None else DeviceSettings(*row)

    def change(
        self, device: str, patch: Settings, version: int | None, role: str, address: str, now_ns: int
    ) -> tuple[DeviceSettings, bool]:
        """Change what is desired, if it is still at ``version``; the twin, and whether anything has changed.

        Raises:
            VersionConflict: it is at another version.
            SettingsTooLarge: it would be.
        """
        with self._lock, transaction(self._db):
            before = self._twin(device)
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
        """Take what devices say of their settings; the devices whose settings would be too large, where nothing is."""
        refused = []
        with self._lock, transaction(self._db):
            for report in reports:
                before = self._twin(report.device)
                try:
                    reported = _applied(before.reported, orjson.loads(report.patch))
                except SettingsTooLarge:
                    refused.append(report.device)
                else:
                    seen = before.reported_version if report.version is None else report.version
                    self._put(replace(before, reported=reported, reported_version=seen, reported_ns=report.at_ns))
        return refused

    def _put(self, twin: DeviceSettings) -> None:
        self._db.execute(
            "REPLACE INTO twins VALUES (?,?,?,?,?,?,?,?,?)",
            (
                twin.device,
                twin.version,
                twin.desired,
                twin.changed_ns,
                twin.role,
                twin.address,
                twin.reported_version,
                twin.reported,
                twin.reported_ns,
            ),
        )

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()


def _applied(settings: bytes, patch: Settings) -> bytes:
    result = orjson.dumps(merged(orjson.loads(settings), patch), option=orjson.OPT_SORT_KEYS)
    if len(result) > MAX_SETTINGS:
        raise SettingsTooLarge(f"settings have at most {MAX_SETTINGS} bytes of JSON, these would have {len(result)}")
    return result
