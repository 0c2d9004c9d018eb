"""Which devices are connected: one connection per device id, and each change as data.

Rules that hold here:

* The newest connection of a device wins; the older one is told that it was replaced, and closed.
* Each change of ``connected`` is one point of the measurement ``device_status``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from gateway.errors import SpoolFull
from gateway.ledger import Entry, Kind
from gateway.line_protocol import Series

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.devices.device_connection import DeviceConnection
    from gateway.devices.device_view import DeviceView
    from gateway.devices.fleet import Fleet

log = logging.getLogger(__name__)

MEASUREMENT = "device_status"


class Presence:
    """Notes in the fleet which device is connected; ``append`` puts the points of presence into the spool."""

    def __init__(self, fleet: Fleet, append: Callable[[Entry, None], None]) -> None:
        self._fleet = fleet
        self._append = append

    def connected(self, device: str, connection: DeviceConnection, now_ns: int) -> DeviceView:
        """Make ``connection`` the device's only one."""
        view = self._fleet.view(device)
        older = view.connection
        if older is not None:
            self.disconnected(device, older, "replaced", now_ns - 1)  # a point of its own, before the next one
            older.replace()
            view.taken_over(now_ns)
            if view.fought_over(now_ns):
                text = "device %s: connections keep taking over from each other; two devices with one id?"
                log.warning(text, device, extra={"device": device})
        self._change(view, connection, "connected", now_ns)
        return view

    def disconnected(self, device: str, connection: DeviceConnection, reason: str, now_ns: int) -> None:
        """Note that ``connection`` ended, unless a newer one has taken its place."""
        view = self._fleet.views[device]
        if view.connection is connection:
            self._change(view, None, reason, now_ns)

    def _change(self, view: DeviceView, connection: DeviceConnection | None, reason: str, now_ns: int) -> None:
        self._fleet.connection_changed(view, connection, reason, now_ns)
        try:
            self._append(_point(view.id, now_ns, connected=connection is not None, reason=reason), None)
        except SpoolFull:
            text = "device %s: the spool is full, its change of presence is not recorded"
            log.warning(text, view.id, extra={"device": view.id})


def _point(device: str, now_ns: int, *, connected: bool, reason: str) -> Entry:
    payload = Series(MEASUREMENT, {"device": device}).line({"connected": connected, "reason": reason}, now_ns)
    return Entry(device, lines=1, payload=payload, kind=Kind.PRESENCE, arrived_ns=now_ns)
