"""Lets connections in a few at a time, so that those who are connected go on being served when thousands come at once.

Rules that hold here:

* A connection waits here, for the price of a socket, until it says something. Let in while they are silent, a thousand
  would ask in the same turn of the event loop, and everybody else would wait for all their handshakes.
* Who spoke is let in in order, `ADMITTED_PER_TURN` in a turn of the loop.
* The silent have a time-out and a bound; one too many is closed at once: there may be no TLS yet to say anything in.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

log = logging.getLogger(__name__)

ACCEPTED_PER_TURN = 64
"""Taking a connection from the kernel costs some 20 us."""
ADMITTED_PER_TURN = 4
"""A handshake costs a third of a millisecond, over TLS more than one."""
MOST_SILENT = 16_384
SILENT_SECONDS = 30.0
PAUSE_SECONDS = 1.0
"""Until the next try after the system had no more files or memory for a connection."""


class Gate:
    """Accepts on ``listening`` from now on; ``admit`` gets each connection, non-blocking, with its address."""

    def __init__(
        self,
        listening: socket.socket,
        admit: Callable[[socket.socket, Any], None],
        turned_away: Callable[[], None],
        *,
        most_silent: int = MOST_SILENT,
        silent_seconds: float = SILENT_SECONDS,
    ) -> None:
        self._listening = listening
        self._admit = admit
        self._turned_away = turned_away
        self._most_silent = most_silent
        self._silent_seconds = silent_seconds
        self._silent: dict[socket.socket, float] = {}
        self._ready: deque[tuple[socket.socket, Any]] = deque()
        self._expiring: asyncio.TimerHandle | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(listening, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTED_PER_TURN):
            try:
                connection, address = self._listening.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                log.error("no more connections can be accepted for now: %s", error)  # noqa: TRY400 - no traceback
                self._loop.remove_reader(self._listening)
                self._pause = self._loop.call_later(PAUSE_SECONDS, self._loop.add_reader, self._listening, self._accept)
                return
            if len(self._silent) < self._most_silent:
                self._wait_for(connection, address)
            else:
                self._turned_away()
                connection.close()

    def _wait_for(self, connection: socket.socket, address: Any) -> None:
        connection.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        self._silent[connection] = self._loop.time() + self._silent_seconds
        self._loop.add_reader(connection, self._spoke, connection, address)
        if self._expiring is None:
            self._expiring = self._loop.call_later(self._silent_seconds, self._expire)

    def _spoke(self, connection: socket.socket, address: Any) -> None:
        self._loop.remove_reader(connection)
        del self._silent[connection]
        self._ready.append((connection, address))
        if len(self._ready) == 1:
            self._loop.call_soon(self._let_in)

    def _let_in(self) -> None:
        ready = self._ready
        for _ in range(min(ADMITTED_PER_TURN, len(ready))):
            connection, address = ready.popleft()
            try:
                self._admit(connection, address)
            except Exception:  # a bug that one connection meets must not keep all others out for good
                log.exception("a connection from %s could not be let in", address)
                connection.close()
        if ready:
            self._loop.call_soon(self._let_in)

    def _expire(self) -> None:
        self._expiring = None
        now = self._loop.time()
        for connection, due in list(self._silent.items()):
            if due > now:
                self._expiring = self._loop.call_at(due, self._expire)
                break
            self._forget(connection)

    def _forget(self, connection: socket.socket) -> None:
        self._loop.remove_reader(connection)
        del self._silent[connection]
        connection.close()

    def close(self) -> None:
        """Listen no more, and close what has not been let in; a second time it does nothing."""
        if self._listening.fileno() < 0:
            return
        for timer in (self._expiring, self._pause):
            if timer is not None:
                timer.cancel()
        self._loop.remove_reader(self._listening)
        self._listening.close()
        for connection in list(self._silent):
            self._forget(connection)
        while self._ready:
            self._ready.popleft()[0].close()
