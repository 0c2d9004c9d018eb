"""HTTP connections: how long each may make no progress, and which is closed when there are too many.

A device counts as an HTTP connection until its handshake is done. So does a client that only pretends to send a request
or to read an answer.

Rules that hold here:

* An incomplete request costs a place and the memory of its body, and both are bounded. When there is no room left, the
  oldest incomplete request is closed: an honest one is complete after a round trip or two.
* An answer has to be taken within `ANSWER_SECONDS`, even if its reader makes slow progress. When there is no room left
  and no request is incomplete, a connection whose answer waits for its reader is closed.
* A request that waits only for the gateway's answer is never closed.
* `REQUESTS_PER_TURN` requests are begun in a turn of the event loop, and first requests of a connection go before
  others. So a client that sends many requests in a row delays only itself, and devices get their acks between turns.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from tornado.httputil import HTTPMessageDelegate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tornado.http1connection import HTTP1Connection, HTTP1ServerConnection
    from tornado.httputil import HTTPHeaders, RequestStartLine, ResponseStartLine

MAX_CONNECTIONS = 4096
MAX_BODY_BYTES = 32 * 1024**2
"""Bytes kept in memory of the bodies of all incomplete requests together."""
ANSWER_SECONDS = 60.0
"""Seconds within which an answer has to be taken, to its last byte."""
SCAN_SECONDS = 5.0
"""Between two searches for slow readers."""
REQUESTS_PER_TURN = 8
"""A request costs a third of a millisecond."""


class CutReason(StrEnum):
    """Why a connection was closed early."""

    GAVE_WAY = "gave_way"
    SLOW_READER = "slow_reader"


class RequestTurns:
    """Decides which requests begin in this turn of the event loop, and which wait for a later one."""

    def __init__(self, per_turn: int = REQUESTS_PER_TURN) -> None:
        self._per_turn = per_turn
        self._begun = 0
        """Requests begun in this turn."""
        self._first: deque[asyncio.Future[None]] = deque()
        """First requests of connections that wait for a turn; ``_further`` has the later ones."""
        self._further: deque[asyncio.Future[None]] = deque()
        self._loop = asyncio.get_running_loop()
        self._next: asyncio.Handle | None = None
        """The call that begins the next turn; None while no request has come."""

    def take(self, *, first: bool) -> asyncio.Future[None] | None:
        """None: the request begins now. Otherwise it begins when the future is done."""
        waiter = None
        if self._begun >= self._per_turn or self._first or self._further:
            waiter = self._loop.create_future()
            (self._first if first else self._further).append(waiter)
        else:
            self._begun += 1
        if self._next is None:
            self._next = self._loop.call_soon(self._turn)
        return waiter

    def _turn(self) -> None:
        self._next, self._begun = None, 0
        for line in (self._first, self._further):
            while line and self._begun < self._per_turn:
                waiter = line.popleft()
                if not waiter.done():
                    waiter.set_result(None)
                    self._begun += 1
        if self._begun:
            self._next = self._loop.call_soon(self._turn)


@dataclass(slots=True)
class IncompleteBody:
    """The body of an incomplete request: ``kept`` bytes are in memory, at most ``most`` will be."""

    kept: int = 0
    most: float = math.inf


class ConnectionBounds:
    """The HTTP connections of a listener; ``count`` is called with the reason when one is closed early."""

    def __init__(
        self,
        count: Callable[[CutReason], None],
        *,
        max_connections: int = MAX_CONNECTIONS,
        max_bytes: int = MAX_BODY_BYTES,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._count = count
        self._max_connections = max_connections
        self._max_bytes = max_bytes
        self._answer_seconds = answer_seconds
        self._incomplete: dict[HTTP1ServerConnection, IncompleteBody] = {}
        """Connections from which a request is expected or has begun, the one that waits longest first."""
        self._answered: dict[HTTP1ServerConnection, float] = {}
        """Connections with a complete request, with the time since which an answer waits to be taken."""
        self._bytes = 0
        """Bytes kept of incomplete bodies."""
        self.turns = RequestTurns()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        """The next search for slow readers; None while no request is complete."""

    def __len__(self) -> int:
        return len(self._incomplete) + len(self._answered)

    def make_room(self) -> bool:
        """Whether there is room for one more connection, if need be after closing another."""
        return len(self) < self._max_connections or self._give_way()

    def request_expected(self, connection: HTTP1ServerConnection) -> bool:
        """Expect a request from ``connection``; returns whether it is the connection's first."""
        self._incomplete[connection] = IncompleteBody()
        return self._answered.pop(connection, None) is None

    def limit_kept_body(self, connection: HTTP1ServerConnection, most: int) -> None:
        """Count at most ``most`` bytes of the body that begins: its handler discards the rest."""
        if connection in self._incomplete:
            self._incomplete[connection].most = most

    def body_received(self, connection: HTTP1ServerConnection, size: int) -> None:
        """Count ``size`` more bytes of a body."""
        body = self._incomplete.get(connection)
        if body is not None and body.kept + size <= body.most:
            body.kept += size
            self._bytes += size
            while self._bytes > self._max_bytes and self._give_way(with_body=True):
                pass

    def request_complete(self, connection: HTTP1ServerConnection) -> None:
        """The request is complete and will be answered."""
        if connection in self._incomplete:
            self._bytes -= self._incomplete.pop(connection).kept
            self._answered[connection] = self._loop.time()
            if self._timer is None:
                self._timer = self._loop.call_later(min(SCAN_SECONDS, self._answer_seconds), self._scan)

    def remove(self, connection: HTTP1ServerConnection) -> None:
        """The connection has ended, or has become a WebSocket."""
        self._bytes -= self._incomplete.pop(connection, IncompleteBody()).kept
        self._answered.pop(connection, None)

    def stop(self) -> None:
        """Stop looking for slow readers."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_way(self, *, with_body: bool = False) -> bool:
        """Close the oldest incomplete request, else an answer that waits for its reader; whether there was one."""
        found = next((known for known, body in self._incomplete.items() if body.kept or not with_body), None)
        if found is None and not with_body:
            found = next((known for known in self._answered if known.stream.writing()), None)
        if found is None:
            return False
        self._cut(found, CutReason.GAVE_WAY)
        return True

    def _cut(self, connection: HTTP1ServerConnection, why: CutReason) -> None:
        self.remove(connection)
        self._count(why)
        connection.stream.close()

    def _scan(self) -> None:
        self._timer = None
        now = self._loop.time()
        for connection, since in list(self._answered.items()):
            if not connection.stream.writing():
                self._answered[connection] = now  # the client has taken everything so far
            elif now - since >= self._answer_seconds:
                self._cut(connection, CutReason.SLOW_READER)
        if self._answered:
            self._timer = self._loop.call_later(min(SCAN_SECONDS, self._answer_seconds), self._scan)


class BoundedRequest(HTTPMessageDelegate):
    """Passes a request on to ``inner``, and reports its progress to ``connections``."""

    def __init__(
        self,
        inner: HTTPMessageDelegate,
        connection: HTTP1ServerConnection,
        request: HTTP1Connection,
        connections: ConnectionBounds,
    ) -> None:
        self._inner = inner
        self._connection = connection
        self._connections = connections
        self._request = request
        self._first = connections.request_expected(connection)

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        """The request has begun."""
        turn = self._connections.turns.take(first=self._first)
        return self._begin(start_line, headers) if turn is None else self._when(turn, start_line, headers)

    async def _when(
        self, turn: Awaitable[None], start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> None:
        await turn
        more = self._begin(start_line, headers)
        if more is not None:
            await more

    def _begin(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> Awaitable[None] | None:
        if not self._connection.stream.closed():
            return self._inner.headers_received(start_line, headers)
        self._request.detach()  # or Tornado would process all that it has read from a client that is gone
        return None

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """A chunk of the body has come."""
        self._connections.body_received(self._connection, len(chunk))
        return self._inner.data_received(chunk)

    def finish(self) -> None:
        """The request is whole."""
        self._connections.request_complete(self._connection)
        self._inner.finish()

    def on_connection_close(self) -> None:
        """The connection has ended."""
        self._inner.on_connection_close()
