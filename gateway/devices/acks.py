"""Acks that wait until they can cover more messages, and are then written together.

Rules that hold here:

* One timer serves all connections. It starts when the first ack is owed, and ends when all of them are written.
* Acks are made first and then written in a row (`gateway.websocket.handler.write_all`).
* No ack waits longer than ``delay``, except for the turns of the event loop that many acks take.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from gateway.websocket.handler import write_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.devices.device_connection import DeviceConnection

log = logging.getLogger(__name__)

SLICE = 256
"""Acks that are written before the event loop serves others: some milliseconds."""


class Acks:
    """The connections that owe an ack. ``delay`` in seconds.

    ``observe`` gets, for acks that are written together, the seconds for which the oldest message waited for its ack.
    """

    def __init__(self, delay: float, observe: Callable[[float], None]) -> None:
        self._delay = delay
        self._observe = observe
        self._owed: dict[DeviceConnection, None] = {}
        """The connections that owe their device an ack."""
        self._timer: asyncio.Handle | None = None
        """Runs `_flush`; None while no ack is owed."""
        self._oldest_ns: int | None = None
        """When the oldest message arrived whose ack was not observed yet."""

    def owe(self, connection: DeviceConnection) -> None:
        """Have ``connection`` acknowledge within the delay."""
        self._owed[connection] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._delay, self._flush)

    def committed(self, arrived_ns: int) -> None:
        """A commit is over, whose oldest message arrived at ``arrived_ns``: its acks are written or owed."""
        if self._oldest_ns is None or arrived_ns < self._oldest_ns:
            self._oldest_ns = arrived_ns
        if self._timer is None:
            self._observe_oldest()

    def _observe_oldest(self) -> None:
        if self._oldest_ns is not None:
            self._observe(max(0, time.time_ns() - self._oldest_ns) / 1e9)
            self._oldest_ns = None

    def _flush(self) -> None:
        owed = list(self._owed)
        self._owed = dict.fromkeys(owed[SLICE:])
        self._timer = asyncio.get_running_loop().call_soon(self._flush) if self._owed else None
        writes = []
        for connection in owed[:SLICE]:
            try:
                if (write := connection.acknowledge()) is not None:
                    writes.append(write)
            except Exception:  # a bug that one connection meets must not keep the others from their acks
                log.exception("a connection could not be told that its readings are safe")
        write_all(writes)
        if self._timer is None:
            self._observe_oldest()
