"""The writing half of a device's connection: what Tornado expects of an `IOStream`, on an event loop's transport.

Rules that hold here:

* Frames written before a transport is attached wait here; the transport sends them first.
* A connection on which more than ``limit`` bytes wait for the peer is aborted. The bound is tested before a frame is
  added, so one frame larger than the bound still reaches a peer that reads.
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

    ``limit`` is in bytes; ``overflow`` is called when more bytes wait, and has to abort the connection.
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
        """Tornado's stream; None once `take_socket` has taken its socket."""
        self._loop = loop
        self._limit = limit
        self._overflow = overflow
        self._transport: asyncio.Transport | None = None
        """None before `attach` and after `lost`."""
        self._queued = b""
        """Frames written before there was a transport."""
        self._waiters: list[asyncio.Future[None]] = []
        """Futures of writes that wait until the transport's buffer has drained."""
        self._paused = False
        """Whether the transport's buffer is above its high-water mark."""
        self._closing = False
        """Whether this side has ended: nothing is written any more."""

    async def take_socket(self) -> tuple[socket.socket, bytes]:
        """The socket, taken from Tornado's stream once the handshake is sent, and the bytes that came behind it.

        Raises:
            StreamClosedError: the connection has ended.
        """
        iostream = self._iostream
        if iostream is None or iostream.closed():
            raise StreamClosedError
        await iostream.write(b"")
        # If bytes have arrived, the read is done at once. If not, it is abandoned together with the stream.
        reading = cast("asyncio.Future[bytes]", iostream.read_bytes(iostream.max_buffer_size, partial=True))
        early = reading.result() if reading.done() else b""
        sock = iostream.socket
        iostream.socket = None  # type: ignore[assignment] # as its own close() does
        iostream.io_loop.remove_handler(sock)
        self._iostream = None
        return sock, early

    def attach(self, transport: asyncio.Transport) -> None:
        """Write to ``transport`` from now on, the queued frames first."""
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
        """Write one frame. The future is done when the transport can take more, which is usually at once."""
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
        """The transport's buffer is above its high-water mark."""
        self._paused = True

    def resume_writing(self) -> None:
        """The transport's buffer has drained."""
        self._paused = False
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def half_close(self) -> None:
        """Send what is written and then the end of the stream, and go on reading."""
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
        self._overflow = _nothing  # it refers back to this object, and the cycle would wait for the garbage collector
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
    """Stands in for ``overflow`` after the end."""


def _fail(waiter: asyncio.Future[None]) -> None:
    waiter.set_exception(StreamClosedError())
    waiter.exception()  # mark it as retrieved: a caller that does not wait must not cause a warning
