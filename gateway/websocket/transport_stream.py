"""The writing half of a device's connection: what Tornado expects of an `IOStream`, on an event loop's transport.

Rules that hold here:

* Before a transport is attached, what is written waits here; it goes first when one comes.
* A peer that leaves more than ``limit`` bytes untaken is cut off. The bound is tested before a frame is added, so that
  one frame larger than the bound still reaches a peer that reads.
* Nothing here raises because the peer has left: writes then do nothing, and their futures carry `StreamClosedError`.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, cast

from tornado.iostream import StreamClosedError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from tornado.iostream import IOStream

_HIGH_WATER = 64 * 1024


class TransportStream:
    """Stands in for the `IOStream` that carried the handshake, and takes its socket over.

    ``limit`` is in bytes; ``overflow`` is called when it is passed, and has to abort.
    """

    __slots__ = (
        "_closing",
        "_iostream",
        "_limit",
        "_loop",
        "_overflow",
        "_paused",
        "_queued",
        "_transport",
        "_waiters",
    )

    def __init__(
        self, iostream: IOStream, loop: asyncio.AbstractEventLoop, limit: int, overflow: Callable[[], None]
    ) -> None:
        self._iostream: IOStream | None = iostream
        self._loop = loop
        self._limit = limit
        self._overflow = overflow
        self._transport: asyncio.Transport | None = None
        self._queued = b""
        self._waiters: list[asyncio.Future[None]] = []
        self._paused = False
        self._closing = False

    async def take_socket(self) -> tuple[socket.socket, bytes]:
        """The socket, taken from Tornado's stream once the handshake is sent, and the bytes that came behind it.

        Raises:
            StreamClosedError: the connection has ended.
        """
        iostream = self._iostream
        if iostream is None or iostream.closed():
            raise StreamClosedError
        await iostream.write(b"")
        # A read that is done at once found bytes; one that is not is left behind with the stream.
        reading = cast("asyncio.Future[bytes]", iostream.read_bytes(iostream.max_buffer_size, partial=True))
        early = reading.result() if reading.done() else b""
        sock = iostream.socket
        iostream.socket = None  # type: ignore[assignment] # as its own close() does
        iostream.io_loop.remove_handler(sock)
        self._iostream = None
        return sock, early

    def attach(self, transport: asyncio.Transport) -> None:
        """Go on over ``transport``."""
        self._transport = transport
        if self._closing:
            transport.abort()
            return
        transport.set_write_buffer_limits(high=min(self._limit, _HIGH_WATER))
        transport.write(self._queued)
        self._queued = b""

    def send(self, frame: bytes) -> None:
        """Write one frame: no task, no future."""
        transport = self._transport
        if self._closing:
            return
        if transport is None:
            if len(self._queued) > self._limit:
                self._overflow()
            self._queued += frame
        elif self._paused and transport.get_write_buffer_size() > self._limit:
            self._overflow()
        elif not transport.is_closing():
            transport.write(frame)

    def write(self, frame: bytes) -> asyncio.Future[None]:
        """Write one frame; the future is done when the peer keeps up, at once in the ordinary case."""
        self.send(frame)
        waiter = self._loop.create_future()
        if self.closed():
            _fail(waiter)
        elif self._paused:
            self._waiters.append(waiter)
        else:
            waiter.set_result(None)
        return waiter

    def pause_writing(self) -> None:
        """The transport holds more than it likes to."""
        self._paused = True

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self._paused = False
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def half_close(self) -> None:
        """Send what is written and then the end of the stream, but let the peer's bytes come in."""
        if self._transport is None:
            self.close()
        elif not self.closed():
            self._closing = True
            try:
                self._transport.write_eof()
            except OSError:  # the peer is gone; the transport finds out by itself
                self._transport.abort()

    def close(self) -> None:
        """Send what is written, then close."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()
        elif self._iostream is not None:
            self._iostream.close()

    def abort(self) -> None:
        """Close at once; what is not sent is lost."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()
        elif self._iostream is not None:
            self._iostream.close()

    def lost(self) -> None:
        """The transport is gone."""
        self._closing = True
        self._transport = None
        self._overflow = _nothing  # it leads back to here: the two would wait for a garbage collection
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                _fail(waiter)

    def closed(self) -> bool:
        """Whether nothing can be written any more."""
        return self._closing or (self._transport is not None and self._transport.is_closing())

    def set_nodelay(self, value: bool) -> None:  # noqa: FBT001 - Tornado's signature
        """Turn Nagle's algorithm off or on; the transports start with it off."""
        if self._transport is not None:
            self._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(value))


def _nothing() -> None:
    """Nobody to tell."""


def _fail(waiter: asyncio.Future[None]) -> None:
    waiter.set_exception(StreamClosedError())
    waiter.exception()  # seen: a writer that does not wait must not be reported as one that forgot to
