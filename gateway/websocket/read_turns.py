"""Turns on the event loop for connections that have more to process than one turn allows.

Rules that hold here:

* Such connections wait in a queue, and a few continue in each turn of the loop. If thousands of them all
  continued in every turn, the other connections would get one turn in several seconds.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio

CONNECTIONS_PER_TURN = 4
"""Connections that continue in one turn of the loop; each may take two milliseconds."""


class Resumable(Protocol):
    """A connection that waits in the queue."""

    def take_turn(self) -> None:
        """Process the next part."""
        ...


class ReadTurns(threading.local):
    """The queue of one thread's event loop."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[Resumable] = deque()
        """Connections in the order of their turns."""
        self._called = False
        """Whether the loop will call `_advance`."""

    def join(self, loop: asyncio.AbstractEventLoop, connection: Resumable) -> None:
        """Put ``connection`` at the end of the queue."""
        if self._loop is not loop:  # an earlier loop of this thread has ended
            self._loop, self._waiting, self._called = loop, deque(), False
        self._waiting.append(connection)
        self._call(loop)

    def _call(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._waiting and not self._called:
            self._called = True
            loop.call_soon(self._advance, loop)

    def _advance(self, loop: asyncio.AbstractEventLoop) -> None:
        self._called = False
        try:
            for _ in range(min(CONNECTIONS_PER_TURN, len(self._waiting))):
                self._waiting.popleft().take_turn()
        finally:
            self._call(loop)


read_turns = ReadTurns()
