"""Settings between the gateway and its devices: desired ones go down, reported ones come up.

Rules that hold here:

* One thread reads and writes everything that is sent, in order: a device never gets an older version after a newer one.
* A device without desired settings costs a look into a set when it connects.
* One transaction writes all reports that have come since the last one. At most `MAX_WAITING` reports of a device wait
  for it, and `MAX_WAITING_IN_ALL` of all devices, as JSON of at most `MAX_SETTINGS` bytes each (32 MiB). A device that
  reports faster is told so.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from gateway.process.threads import WorkerThreads
from gateway.protocol.merge_patch import MAX_SETTINGS
from gateway.state.device_settings import DeviceSettingsStore, SettingsReport

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.devices.device_connection import DeviceConnection
    from gateway.protocol.merge_patch import Settings
    from gateway.protocol.reports import Reported
    from gateway.state.device_settings import DeviceSettings

log = logging.getLogger(__name__)

MAX_WAITING = 32
MAX_WAITING_IN_ALL = 4096
MAX_TOGETHER = 256
"""Reports in one transaction."""
LAST_WRITES = 5.0
"""Seconds that a stop leaves for reports that are still to be written."""
TOO_LARGE = f"settings: reported settings have at most {MAX_SETTINGS} bytes of JSON, with these they would have more"
TOO_FAST = "settings: reported faster than they can be kept"


class SettingsExchange:
    """Between the file of settings and the connected devices; made on a running loop. The constructor blocks.

    ``connection`` gives the socket of a device, if it has one.
    """

    def __init__(self, twins: DeviceSettingsStore, connection: Callable[[str], DeviceConnection | None]) -> None:
        """Raises: sqlite3.Error."""
        self._twins = twins
        self._connection = connection
        self._desiring = twins.desiring()
        """The devices that have desired settings."""
        self._writer: WorkerThreads[Any] = WorkerThreads(1, "settings")
        self._reports: list[SettingsReport] = []
        """The reports that are not written yet, the oldest first."""
        self._waiting: dict[str, int] = {}
        """How many reports of each device are not written yet."""
        self._writing = False
        """Whether a transaction with reports is under way."""

    def connected(self, device: str) -> None:
        """The device was welcomed: send it the desired settings."""
        if device in self._desiring:
            self._writer.submit(partial(self._twins.show, device)).add_done_callback(partial(self._read, device))

    def _read(self, device: str, found: asyncio.Future[DeviceSettings]) -> None:
        if found.cancelled():
            return
        if (error := found.exception()) is None:
            self._send(found.result())
        else:
            text = "device %s: its settings cannot be read; it keeps those that it has: %s"
            log.warning(text, device, error, extra={"device": device})

    def _send(self, twin: DeviceSettings) -> None:
        connection = self._connection(twin.device)
        if connection is not None:
            connection.send_settings(twin.version, twin.desired)

    async def show(self, device: str) -> DeviceSettings:
        """The twin of a device, with all it has reported. Raises sqlite3.Error."""
        twin: DeviceSettings = await self._writer.submit(partial(self._twins.show, device))
        return twin

    async def change(
        self, device: str, patch: Settings, version: int | None, role: str, address: str
    ) -> DeviceSettings:
        """Change the desired settings, and send them.

        Raises:
            VersionConflict, SettingsTooLarge, sqlite3.Error: nothing has changed.
        """
        change = partial(self._twins.change, device, patch, version, role, address, time.time_ns())
        twin: DeviceSettings
        twin, changed = await self._writer.submit(change)
        if changed:
            self._desiring.add(device)
            text = "device %s: settings, version %d, by %s at %s"
            log.info(text, device, twin.version, role, address, extra={"device": device})
            self._send(twin)
        return twin

    def reported(self, device: str, reported: Reported) -> bool:
        """Keep the settings that a device reports; False if too many of its reports wait already."""
        waiting = self._waiting.get(device, 0)
        if waiting >= MAX_WAITING or len(self._reports) >= MAX_WAITING_IN_ALL:
            return False
        self._waiting[device] = waiting + 1
        self._reports.append(SettingsReport(device, reported.version, reported.settings, time.time_ns()))
        self._write()
        return True

    def _write(self) -> None:
        if self._writing or not self._reports:
            return
        self._writing = True
        reports, self._reports = self._reports[:MAX_TOGETHER], self._reports[MAX_TOGETHER:]
        self._writer.submit(partial(self._twins.report, reports)).add_done_callback(partial(self._written, reports))

    def _written(self, reports: list[SettingsReport], done: asyncio.Future[list[str]]) -> None:
        self._writing = False
        for report in reports:
            self._waiting[report.device] -= 1
            if not self._waiting[report.device]:
                del self._waiting[report.device]
        error = None if done.cancelled() else done.exception()
        if isinstance(error, sqlite3.Error):
            log.warning("%d reports of settings could not be kept: %s", len(reports), error)
        elif error is not None:
            log.error("reports of settings could not be kept", exc_info=error)
        else:
            self._refuse(done.result())
        self._write()

    def _refuse(self, devices: list[str]) -> None:
        for device in devices:
            connection = self._connection(device)
            if connection is not None:
                connection.refuse_report(TOO_LARGE)

    async def close(self) -> None:
        """Write the reports that are left, and close the file."""
        reports, self._reports = self._reports, []
        last = self._writer.submit(partial(self._twins.report, reports))
        last.add_done_callback(partial(self._written, reports))
        await asyncio.wait([last], timeout=LAST_WRITES)
        self._writer.close()
        if last.done():
            self._twins.close()
