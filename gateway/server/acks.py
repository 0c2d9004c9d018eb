"""Acks that wait for more messages they can cover, where a device has just had one.

Rules that hold here:

* The first ack goes at once, so who sends now and then, or waits for each ack, hears soon. What becomes safe within
  ``delay`` after it waits until the delay is over, and is one ack then.
* Nothing waits longer than ``delay``, but for the turns of the event loop that many acks take.
* One timer for all connections; it runs while any of them has had an ack within the delay.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

SLICE = 512
"""Acks that are written before the event loop sees to others: some milliseconds."""


class Debtor(Protocol):
    """A connection that owes its device an ack."""

    def acknowledge(self) -> None:
        """Write it, unless it has been written meanwhile."""
        ...


class Acks:
    """The connections that had an ack within the last ``delay`` (seconds), and which of them owe another.

    ``observe`` is told how long, in seconds, the oldest message of what is acknowledged together had to wait.
    """

    def __init__(self, delay: float, observe: Callable[[float], None]) -> None:
        self._delay = delay
        self._observe = observe
        self._recent: dict[Debtor, bool] = {}
        self._left = SLICE
        self._owing = False
        self._oldest_ns: int | None = None
        self._timer: asyncio.Handle | None = None

    def owe(self, debtor: Debtor) -> None:
        """Have ``debtor`` acknowledge: now, or within the delay if it has just done so or many others do."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._delay, self._flush)
        if debtor in self._recent or not self._left:
            self._recent[debtor] = self._owing = True
        else:
            self._recent[debtor] = False
            self._left -= 1
            debtor.acknowledge()

    def committed(self, arrived_ns: int) -> None:
        """A commit is over, whose oldest message came at ``arrived_ns``; its acks are written or owed."""
        self._left = SLICE
        if self._oldest_ns is None or arrived_ns < self._oldest_ns:
            self._oldest_ns = arrived_ns
        if not self._owing:
            self._over()

    def _over(self) -> None:
        if self._oldest_ns is not None:
            self._observe(max(0, time.time_ns() - self._oldest_ns) / 1e9)
            self._oldest_ns = None

    def _flush(self) -> None:
        """The delay is over: write what is owed, and start another for those who got it."""
        owed = [debtor for debtor, owes in self._recent.items() if owes]
        self._recent = dict.fromkeys(owed[:SLICE], False) | dict.fromkeys(owed[SLICE:], True)
        self._owing = len(owed) > SLICE
        loop = asyncio.get_running_loop()
        if self._owing:
            self._timer = loop.call_soon(self._flush)
        else:
            self._timer = loop.call_later(self._delay, self._flush) if owed else None
        for debtor in owed[:SLICE]:
            try:
                debtor.acknowledge()
            except Exception:  # a bug that one connection meets must not keep the others from their acks
                log.exception("a connection could not be told that its readings are safe")
        if not self._owing:
            self._over()
