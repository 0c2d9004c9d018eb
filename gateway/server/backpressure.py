"""Devices that are not read for a moment, because more waits for the disk than should.

Rules that hold here:

* Who sends while the spool is congested is not read any more. TCP then holds the device back, and nothing is lost:
  what it has sent waits in the kernel, and in at most one chunk that was read already.
* Who was paused first is resumed first, in slices, and no more of them once the spool is congested again: each gets at
  least one message through before any other gets its second turn.
* One timer for all, and for each device its place in the line.
* Who waits longer than `PATIENCE` is told once, by a throttle that asks for patience and refuses nothing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

SLICE = 64
"""Devices resumed before the event loop sees what they send."""
PATIENCE = 1.0
"""Seconds that a device waits unread before it is told."""


class Sender(Protocol):
    """A device's socket. ``last_byte_at`` is in the event loop's time."""

    paused: bool
    last_byte_at: float

    def pause_reading(self) -> None:
        """Leave what comes in the kernel."""
        ...

    def resume_reading(self) -> None:
        """Read on; not from inside this call."""
        ...

    def tell_paused(self) -> None:
        """Let the device know that it is kept waiting."""
        ...


class Congested(Protocol):
    """The spool, as far as it matters here."""

    congested: bool
    eased: Callable[[], None]


class Backpressure:
    """The line of paused devices. ``count`` is called for each that joins it."""

    def __init__(self, spool: Congested, count: Callable[[], None]) -> None:
        self._spool = spool
        self._count = count
        self._told: dict[Sender, float] = {}
        self._untold: dict[Sender, float] = {}
        self._timer: asyncio.Handle | None = None
        self._resuming: asyncio.Handle | None = None
        self._stopped = False
        spool.eased = self._resume

    def __len__(self) -> int:
        return len(self._told) + len(self._untold)

    def pause(self, sender: Sender) -> None:
        """Read no more of ``sender`` until its turn comes."""
        if sender.paused or self._stopped:
            return
        sender.paused = True
        sender.pause_reading()
        loop = asyncio.get_running_loop()
        self._untold[sender] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(PATIENCE, self._tell)
        self._count()

    def forget(self, sender: Sender) -> None:
        """``sender`` is closed."""
        if sender.paused:
            self._told.pop(sender, None)
            self._untold.pop(sender, None)

    def stop(self) -> None:
        """Pause and resume nobody any more."""
        self._stopped = True
        for handle in (self._timer, self._resuming):
            if handle is not None:
                handle.cancel()
        self._told, self._untold = {}, {}

    def _resume(self) -> None:
        """The spool is not congested: let the first in the line go on."""
        if self._resuming is not None:
            self._resuming.cancel()
            self._resuming = None
        loop = asyncio.get_running_loop()
        for _ in range(SLICE):
            line = self._told or self._untold  # who was told has waited longer
            if not line or self._spool.congested:
                return
            sender = next(iter(line))
            del line[sender]
            sender.paused = False
            sender.last_byte_at = loop.time()  # it may have sent all the while
            sender.resume_reading()
        self._resuming = loop.call_soon(self._resume)

    def _tell(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        latest = loop.time() - PATIENCE
        for _ in range(SLICE):
            sender, since = next(iter(self._untold.items()), (None, 0.0))
            if sender is None:
                return
            if since > latest:
                self._timer = loop.call_at(since + PATIENCE, self._tell)
                return
            self._told[sender] = self._untold.pop(sender)
            sender.tell_paused()
        self._timer = loop.call_soon(self._tell)
