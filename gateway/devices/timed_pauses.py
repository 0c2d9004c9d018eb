"""Senders that are not read for a time of their own, with one timer for all.

A sender that closes is forgotten at once. Its number stays in the heap, which is swept when most of its numbers belong
to forgotten senders.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

SLICE = 64
"""Senders resumed before the event loop serves others; also how many forgotten numbers are not worth a sweep."""


class TimedPauses(Generic[T]):
    """The paused senders. ``resume`` is called with each whose time is over."""

    def __init__(self, resume: Callable[[T], None]) -> None:
        self._resume = resume
        self._numbers: dict[T, int] = {}
        """The number of each paused sender."""
        self._senders: dict[int, T] = {}
        """The sender of each number that is in force."""
        self._due: list[tuple[float, int]] = []
        """A heap of moments, in the event loop's time, and numbers; some of the numbers are forgotten."""
        self._next = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        """Runs at the earliest moment in `_due`."""

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, sender: T) -> bool:
        return sender in self._numbers

    def add(self, sender: T, seconds: float) -> None:
        """Resume ``sender`` after so many seconds, in place of any earlier time."""
        self.forget(sender)
        due, number = asyncio.get_running_loop().time() + seconds, next(self._next)
        self._numbers[sender], self._senders[number] = number, sender
        heapq.heappush(self._due, (due, number))
        if self._due[0][1] == number:
            self._set_timer(due)

    def forget(self, sender: T) -> None:
        """Do not resume ``sender``."""
        number = self._numbers.pop(sender, None)
        if number is None:
            return
        del self._senders[number]
        if len(self._due) > 2 * len(self._senders) + SLICE:
            self._due = [entry for entry in self._due if entry[1] in self._senders]
            heapq.heapify(self._due)

    def stop(self) -> None:
        """Resume no sender any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._numbers, self._senders, self._due = {}, {}, []

    def _set_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(due, self._timer_due)

    def _timer_due(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for _ in range(SLICE):
            if not self._due or self._due[0][0] > now:
                break
            sender = self._senders.pop(heapq.heappop(self._due)[1], None)
            if sender is not None:
                del self._numbers[sender]
                self._resume(sender)
        if self._due:
            self._set_timer(self._due[0][0])
