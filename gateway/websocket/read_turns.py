"""Whose turn it is, among connections that have more than a turn's worth to be dealt with.

Rules that hold here:

* They stand in line, and a few go on in each turn of the loop. All of them in every turn would leave the other
  connections one turn in seconds, once they are thousands.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio

CONNECTIONS_PER_TURN = 4
"""Connections that go on in a turn of the loop; each may take two milliseconds."""


class Resumable(Protocol):
    """Whoever stands in the line."""

    def take_turn(self) -> None:
        """It is its turn."""
        ...


class ReadTurns(threading.local):
    """The line of a thread's event loop."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._standing: deque[Resumable] = deque()
        self._called = False

    def join(self, loop: asyncio.AbstractEventLoop, who: Resumable) -> None:
        """Have ``who`` go on when it is its turn."""
        if self._loop is not loop:  # an earlier loop of this thread has ended
            self._loop, self._standing, self._called = loop, deque(), False
        self._standing.append(who)
        self._call(loop)

    def _call(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._standing and not self._called:
            self._called = True
            loop.call_soon(self._advance, loop)

    def _advance(self, loop: asyncio.AbstractEventLoop) -> None:
        self._called = False
        try:
            for _ in range(min(CONNECTIONS_PER_TURN, len(self._standing))):
                self._standing.popleft().take_turn()
        finally:
            self._call(loop)


read_turns = ReadTurns()
