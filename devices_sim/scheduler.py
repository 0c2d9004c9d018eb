"""One heap of moments for all devices: thousands of samples, reconnects and faults on one timer of the event loop.

Callbacks run in order of their moments and never early. The timer is `_SLACK` late, so that callbacks that are due
within that time share a wake-up.
"""

from __future__ import annotations

import heapq
import itertools
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

clock = time.monotonic
"""The steady clock of a run, in seconds. The clock of uvloop moves once per turn, in milliseconds: too coarse here."""
_SLACK = 0.005
"""Seconds."""
_MAX_CALLBACKS = 500
"""In one wake-up, so that a simulator that is late serves its sockets, too, while it catches up."""


class Moment:
    """A callback that waits for its moment, and can be cancelled."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Do not call it; of no effect after the call."""
        self.callback = None


class Scheduler:
    """Calls back at moments of `clock`; ``failed`` gets what a callback raises."""

    def __init__(self, loop: asyncio.AbstractEventLoop, failed: Callable[[Exception], None]) -> None:
        self._loop = loop
        self._failed = failed
        self._heap: list[tuple[float, int, Moment]] = []
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._running = False
        self._closed = False

    def at(self, when: float, callback: Callable[[], None]) -> Moment:
        """Call ``callback`` at ``when``."""
        moment = Moment(callback)
        heapq.heappush(self._heap, (when, next(self._numbers), moment))
        if not self._running and self._heap[0][2] is moment:
            self._arm()
        return moment

    def close(self) -> None:
        """Make no more calls."""
        self._closed = True
        self._heap.clear()
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap and not self._closed:
            self._timer = self._loop.call_later(max(0.0, self._heap[0][0] + _SLACK - clock()), self._run)

    def _run(self) -> None:
        self._running = True
        until = clock()
        try:
            for _ in range(_MAX_CALLBACKS):
                if not self._heap or self._heap[0][0] > until:
                    break
                callback = heapq.heappop(self._heap)[2].callback
                if callback is not None:
                    callback()
        except Exception as error:
            self._failed(error)
            raise
        finally:
            self._running = False
            self._arm()
