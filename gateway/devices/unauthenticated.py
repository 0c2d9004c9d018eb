"""Connections that have not said who they are yet: a few of them, for a few seconds.

Anybody can have one, so they have no claim to the places of devices. There is a bound to their number, and who has been
at it for longest gives way: a device needs one round trip for its hello, who only holds on does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.devices.device_connection import DeviceConnection

MAX_UNAUTHENTICATED = 1024


class UnauthenticatedConnections:
    """At most ``most`` connections; ``crowded_out`` counts those that had to go."""

    def __init__(self, most: int = MAX_UNAUTHENTICATED) -> None:
        self._most = most
        self._waiting: dict[DeviceConnection, None] = {}
        self.crowded_out = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, stranger: DeviceConnection) -> None:
        """One more came."""
        if len(self._waiting) >= self._most:
            first = next(iter(self._waiting))
            del self._waiting[first]
            self.crowded_out += 1
            first.close_to_make_room()
        self._waiting[stranger] = None

    def forget(self, stranger: DeviceConnection) -> None:
        """This one said who it is, or has left."""
        self._waiting.pop(stranger, None)
