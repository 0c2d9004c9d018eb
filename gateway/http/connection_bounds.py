"""Plain HTTP connections: how long each may be at it without getting on, and which gives way when there are too many.

A device is one of them until its handshake is done, and so is everybody who only pretends to ask or to read.

Rules that hold here:

* A request that is not whole costs a place and what is kept of its body, both bounded. When there is no room left the
  request that has been awaited for longest gives way: an honest one is whole after a round trip or two.
* An answer has to be taken in time, however steadily the reader moves. One that is not taken gives way, too.
* What is being answered, and waits for nothing but the gateway, is left alone.
* `REQUESTS_PER_TURN` are begun in a turn of the event loop, first requests of a connection before any others: who sends
  many behind each other waits for himself, and devices get their acks between two turns.
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
"""Kept of all requests that are not whole yet."""
ANSWER_SECONDS = 60.0
"""For the last byte of an answer to be on its way."""
SCAN_SECONDS = 5.0
REQUESTS_PER_TURN = 8
"""A request costs a third of a millisecond."""


class CutReason(StrEnum):
    """Why a connection was closed before its time."""

    GAVE_WAY = "gave_way"
    SLOW_READER = "slow_reader"


class RequestTurns:
    """Who may begin in this turn of the event loop, and who has to wait for one of the next."""

    def __init__(self, per_turn: int = REQUESTS_PER_TURN) -> None:
        self._per_turn = per_turn
        self._begun = 0
        self._first: deque[asyncio.Future[None]] = deque()
        self._further: deque[asyncio.Future[None]] = deque()
        self._loop = asyncio.get_running_loop()
        self._next: asyncio.Handle | None = None

    def take(self, *, first: bool) -> asyncio.Future[None] | None:
        """None: now. Otherwise when this is done."""
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
    """Of a request that is not whole yet: bytes that are kept, and how many will be at most."""

    kept: int = 0
    most: float = math.inf


class ConnectionBounds:
    """The connections of a listener; ``count`` hears why one was cut."""

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
        self._answered: dict[HTTP1ServerConnection, float] = {}
        self._bytes = 0
        self.turns = RequestTurns()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._incomplete) + len(self._answered)

    def make_room(self) -> bool:
        """Whether there is room for one more, which may be at the cost of another."""
        return len(self) < self._max_connections or self._give_way()

    def request_expected(self, connection: HTTP1ServerConnection) -> bool:
        """A request is expected from ``connection``: whether it is new, or else has its last answer."""
        self._incomplete[connection] = IncompleteBody()
        return self._answered.pop(connection, None) is None

    def limit_kept_body(self, connection: HTTP1ServerConnection, most: int) -> None:
        """Only so many bytes of the body that begins will be kept; the others are nobody's burden."""
        if connection in self._incomplete:
            self._incomplete[connection].most = most

    def body_received(self, connection: HTTP1ServerConnection, size: int) -> None:
        """So many bytes of a body came."""
        body = self._incomplete.get(connection)
        if body is not None and body.kept + size <= body.most:
            body.kept += size
            self._bytes += size
            while self._bytes > self._max_bytes and self._give_way(with_body=True):
                pass

    def request_complete(self, connection: HTTP1ServerConnection) -> None:
        """The request is whole."""
        if connection in self._incomplete:
            self._bytes -= self._incomplete.pop(connection).kept
            self._answered[connection] = self._loop.time()
            if self._timer is None:
                self._timer = self._loop.call_later(min(SCAN_SECONDS, self._answer_seconds), self._scan)

    def remove(self, connection: HTTP1ServerConnection) -> None:
        """The connection has ended, or become something else."""
        self._bytes -= self._incomplete.pop(connection, IncompleteBody()).kept
        self._answered.pop(connection, None)

    def stop(self) -> None:
        """Look after them no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_way(self, *, with_body: bool = False) -> bool:
        """Close the request awaited for longest, else the answer that waits to be taken; whether there was any."""
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
                self._answered[connection] = now  # it is the gateway that is slow
            elif now - since >= self._answer_seconds:
                self._cut(connection, CutReason.SLOW_READER)
        if self._answered:
            self._timer = self._loop.call_later(min(SCAN_SECONDS, self._answer_seconds), self._scan)


class BoundedRequest(HTTPMessageDelegate):
    """Hands a request to ``inner``, and tells ``connections`` how far it is."""

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
        self._request.detach()  # or Tornado would go on with all that it has read of one who is gone
        return None

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """A piece of the body."""
        self._connections.body_received(self._connection, len(chunk))
        return self._inner.data_received(chunk)

    def finish(self) -> None:
        """The request is whole."""
        self._connections.request_complete(self._connection)
        self._inner.finish()

    def on_connection_close(self) -> None:
        """The connection has ended."""
        self._inner.on_connection_close()
