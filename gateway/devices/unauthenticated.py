"""Connections that have not authenticated themselves yet: few of them, and for a few seconds.

Every client can open one, so they take no places of devices. Their number is bounded. When one more comes, the one that
has been unauthenticated for longest is closed: a device needs one round trip for its hello, an attacker holds on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.devices.device_connection import DeviceConnection

MAX_UNAUTHENTICATED = 1024


class UnauthenticatedConnections:
    """At most ``limit`` connections."""

    def __init__(self, limit: int = MAX_UNAUTHENTICATED) -> None:
        self._limit = limit
        self._connections: dict[DeviceConnection, None] = {}
        """The oldest first."""
        self.pushed_out = 0
        """How many were closed to make room."""

    def __len__(self) -> int:
        return len(self._connections)

    def add(self, connection: DeviceConnection) -> None:
        """One more, which pushes out the oldest if there is no room."""
        if len(self._connections) >= self._limit:
            oldest = next(iter(self._connections))
            del self._connections[oldest]
            self.pushed_out += 1
            oldest.close_to_make_room()
        self._connections[connection] = None

    def forget(self, connection: DeviceConnection) -> None:
        """This one has authenticated itself, or closed."""
        self._connections.pop(connection, None)
