"""The open device sockets: how many there may be, and how they end when the gateway stops.

Rules that hold here:

* Only authenticated devices take one of the places. Unauthenticated connections and devices that wait for approval have
  places of their own (`gateway.devices.unauthenticated`, `gateway.devices.enrolment_queue`).
* At a stop, every device is told when to reconnect in the same turn of the event loop in which reading ends, before the
  commit under way. So a process that is killed in between has told them at least that.
* Reconnect delays grow by an even step, so that the devices come back evenly. Random delays would bunch them.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from gateway.config.active_config import ActiveConfig
    from gateway.devices.device_connection import DeviceConnection
    from gateway.devices.fleet import Fleet
    from gateway.metrics import Metrics

CLOSE_GRACE = 2.0
"""Seconds that devices have to answer the close before their sockets are cut."""
FIRST_RECONNECT_MS = 2000
"""Delay of the first device that reconnects after a drain: about what a restart takes."""
RECONNECTS_PER_SECOND = 500
"""How many devices reconnect per second after that. A handshake costs about a millisecond, and more with TLS."""


class Connections:
    """All device sockets of one gateway. ``devices_allowed`` is what the system's limit of open files leaves."""

    def __init__(self, active: ActiveConfig, fleet: Fleet, metrics: Metrics, devices_allowed: int) -> None:
        self._active = active
        self._fleet = fleet
        self._metrics = metrics
        self.devices_allowed = devices_allowed
        self._sockets: set[DeviceConnection] = set()
        self._all_closed = asyncio.Event()
        """Set when the last socket of a draining gateway has closed."""
        self.draining = False
        """Whether the gateway is stopping and takes no new device."""

    def __iter__(self) -> Iterator[DeviceConnection]:
        return iter(self._sockets)

    @property
    def limit(self) -> int:
        """How many devices may be connected at the same time."""
        return min(self._active.config.server.max_connections, self.devices_allowed)

    def full(self, device_id: str) -> bool:
        """Whether all places are taken, and this device has no connection whose place it would take over."""
        return self._metrics.connections.devices >= self.limit and self._fleet.connection(device_id) is None

    def opened(self, socket: DeviceConnection) -> None:
        """A socket was opened: keep it alive until it closes."""
        self._sockets.add(socket)

    def welcomed(self) -> None:
        """A socket turned out to be that of a device: it takes a place."""
        self._metrics.connections.devices += 1

    def closed(self, socket: DeviceConnection, *, welcomed: bool) -> None:
        """A socket has closed."""
        self._sockets.discard(socket)
        self._metrics.connections.devices -= welcomed
        if self.draining and not self._sockets:
            self._all_closed.set()

    async def drain(self, flush: Callable[[], Awaitable[None]]) -> None:
        """Close every socket; what was accepted from it becomes durable. Call it once ``draining`` is set.

        ``flush`` returns when the spool has committed everything that it was given.
        """
        sockets = list(self._sockets)
        for n, socket in enumerate(sockets):
            socket.drain(FIRST_RECONNECT_MS + n * 1000 // RECONNECTS_PER_SECOND)
        await flush()
        for socket in sockets:
            socket.restart()
        await self._wait_until_closed()
        for socket in list(self._sockets):
            socket.abort()
        await self._wait_until_closed()
        await flush()

    async def _wait_until_closed(self) -> None:
        if self._sockets:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_closed.wait(), CLOSE_GRACE)
