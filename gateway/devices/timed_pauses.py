"""Senders that are not read until a time of their own: one timer for all.

A sender that closes is let go at once. What is left of it is a number in the heap, which is swept when most of it
is that.
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
"""Senders woken before the event loop sees what they send, and numbers not worth a sweep."""


class TimedPauses(Generic[T]):
    """Who rests. ``wake`` is called with each whose time is over."""

    def __init__(self, wake: Callable[[T], None]) -> None:
        self._wake = wake
        self._tickets: dict[T, int] = {}
        self._senders: dict[int, T] = {}
        self._due: list[tuple[float, int]] = []
        self._next = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._tickets)

    def __contains__(self, sender: T) -> bool:
        return sender in self._tickets

    def add(self, sender: T, seconds: float) -> None:
        """Wake ``sender`` after so long, whatever was said of it before."""
        self.forget(sender)
        due, ticket = asyncio.get_running_loop().time() + seconds, next(self._next)
        self._tickets[sender], self._senders[ticket] = ticket, sender
        heapq.heappush(self._due, (due, ticket))
        if self._due[0][1] == ticket:
            self._wake_at(due)

    def forget(self, sender: T) -> None:
        """``sender`` rests no more; it is not woken."""
        ticket = self._tickets.pop(sender, None)
        if ticket is None:
            return
        del self._senders[ticket]
        if len(self._due) > 2 * len(self._senders) + SLICE:
            self._due = [alarm for alarm in self._due if alarm[1] in self._senders]
            heapq.heapify(self._due)

    def stop(self) -> None:
        """Wake nobody any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._tickets, self._senders, self._due = {}, {}, []

    def _wake_at(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(due, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for _ in range(SLICE):
            if not self._due or self._due[0][0] > now:
                break
            sender = self._senders.pop(heapq.heappop(self._due)[1], None)
            if sender is not None:
                del self._tickets[sender]
                self._wake(sender)
        if self._due:
            self._wake_at(self._due[0][0])
