"""Acks that wait for more messages they can cover, written together.

Rules that hold here:

* One timer for all connections: it starts with the first ack that is owed and ends with all of them written.
* Acks are made first and then written in a row (`gateway.websocket.handler.write_all`).
* Nothing waits longer than ``delay``, but for the turns of the event loop that many acks take.
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
"""Acks that are written before the event loop sees to others: some milliseconds."""


class Acks:
    """The connections that owe an ack, at most one entry each. ``delay`` in seconds.

    ``observe`` is told how long, in seconds, the oldest message of what is acknowledged together had to wait.
    """

    def __init__(self, delay: float, observe: Callable[[float], None]) -> None:
        self._delay = delay
        self._observe = observe
        self._owed: dict[DeviceConnection, None] = {}
        self._timer: asyncio.Handle | None = None
        self._oldest_ns: int | None = None

    def owe(self, debtor: DeviceConnection) -> None:
        """Have ``debtor`` acknowledge within the delay."""
        self._owed[debtor] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._delay, self._flush)

    def committed(self, arrived_ns: int) -> None:
        """A commit is over, whose oldest message came at ``arrived_ns``; its acks are written or owed."""
        if self._oldest_ns is None or arrived_ns < self._oldest_ns:
            self._oldest_ns = arrived_ns
        if self._timer is None:
            self._over()

    def _over(self) -> None:
        if self._oldest_ns is not None:
            self._observe(max(0, time.time_ns() - self._oldest_ns) / 1e9)
            self._oldest_ns = None

    def _flush(self) -> None:
        owed = list(self._owed)
        self._owed = dict.fromkeys(owed[SLICE:])
        self._timer = asyncio.get_running_loop().call_soon(self._flush) if self._owed else None
        writes = []
        for debtor in owed[:SLICE]:
            try:
                if (write := debtor.acknowledge()) is not None:
                    writes.append(write)
            except Exception:  # a bug that one connection meets must not keep the others from their acks
                log.exception("a connection could not be told that its readings are safe")
        write_all(writes)
        if self._timer is None:
            self._over()
