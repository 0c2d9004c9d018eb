"""A transport over a TLS socket whose handshake is done.

Tornado shakes hands on an `ssl.SSLSocket`. asyncio and uvloop can only start TLS themselves, and their engines cost
twice the time and more memory per connection; here OpenSSL reads and writes the socket itself.

Rules that hold here:

* The protocol is a `BufferedProtocol`: bytes are decrypted straight into its buffer. OpenSSL keeps the bytes of an
  incomplete record to itself, so the protocol is told of them (`TLSProtocol.partial_record_received`).
* One read per wake-up, so that no peer blocks the loop. OpenSSL may hold decrypted bytes for which the buffer had
  no room. They do not make the socket readable again, so another read is scheduled for them.
* OpenSSL reports a write as done or not done, even if a part of it is sent, so it gets one record at a time. A write
  that it could not finish is repeated with the same bytes in front (SSL_write(3)).
* ``connection_lost`` comes exactly once, and never from inside a call of the protocol.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import Any

_WOULD_BLOCK = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError)
_HIGH_WATER = 64 * 1024
_RECORD = 16 * 1024


class TLSProtocol(asyncio.BufferedProtocol):
    """A protocol on a `TLSTransport`."""

    __slots__ = ()

    def partial_record_received(self) -> None:
        """Bytes of an incomplete record have arrived."""
        raise NotImplementedError


class TLSTransport(asyncio.Transport):
    """Carries ``protocol`` over ``sock``; construct, then `start`."""

    __slots__ = (
        "_buffer",
        "_closing",
        "_ended",
        "_eof",
        "_high_water",
        "_loop",
        "_low_water",
        "_paused",
        "_protocol",
        "_sock",
        "_writing_paused",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: ssl.SSLSocket, protocol: TLSProtocol) -> None:
        super().__init__({"socket": sock})
        self._loop = loop
        self._sock = sock
        self._protocol = protocol
        self._buffer = bytearray()
        """Bytes that the socket has not taken yet."""
        self._closing = False
        """Whether the transport is closed or will be once ``_buffer`` is sent; nothing is read any more."""
        self._ended = False
        """Whether the connection is over, and ``connection_lost`` was scheduled."""
        self._eof = False
        """Whether `write_eof` was called: nothing more is written."""
        self._paused = False
        """Whether the protocol has paused reading."""
        self._writing_paused = False
        """Whether the protocol was told to pause writing."""
        self.set_write_buffer_limits()

    def start(self) -> None:
        """Call ``connection_made`` of the protocol, then read."""
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._protocol.connection_made(self)
        if self.is_reading():
            self._watch()

    def _watch(self) -> None:
        self._loop.add_reader(self._sock, self._read_ready, True)  # noqa: FBT003 - it takes no names
        # OpenSSL may hold decrypted bytes, for which the empty socket will not wake the loop.
        self._loop.call_soon(self._read_ready)

    def _read_ready(self, woken: bool = False) -> None:  # noqa: FBT001, FBT002 - see _watch
        if self._paused or self._closing:
            return
        buffer: Any = self._protocol.get_buffer(-1)  # has a length, which not every buffer has by its type
        try:
            # While there is TLS on the socket, recv_into would call read, on a longer way.
            count: Any = self._sock.recv_into(buffer) if self._eof else self._sock.read(len(buffer), buffer)
        except _WOULD_BLOCK:
            if woken:
                self._protocol.partial_record_received()
            return
        except OSError as error:
            self._end(error)
            return
        try:
            self._received(count, full=count == len(buffer))
        except Exception as error:
            self._end(error)
            raise

    def _received(self, count: int, *, full: bool) -> None:
        if not count:
            self._protocol.eof_received()
            self.close()
            return
        self._protocol.buffer_updated(count)
        if full and self._sock.pending():
            self._loop.call_soon(self._read_ready)

    def is_reading(self) -> bool:
        """Whether bytes may reach the protocol."""
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        """Stop reading; the peer's bytes stay in the kernel."""
        if self.is_reading():
            self._paused = True
            self._loop.remove_reader(self._sock)

    def resume_reading(self) -> None:
        """Read on."""
        if self._paused and not self._closing:
            self._paused = False
            self._watch()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send as much as the socket takes now, and keep the rest."""
        if self._closing or self._eof or not data:
            return
        if self._buffer:
            self._buffer += data
        elif len(data) > _RECORD or not self._sent(data):
            self._buffer += data
            self._flush()
            if self._buffer:
                self._loop.add_writer(self._sock, self._write_ready)
        if len(self._buffer) > self._high_water and not self._writing_paused:
            self._writing_paused = True
            self._protocol.pause_writing()

    def _sent(self, data: bytes | bytearray | memoryview) -> bool:
        """Whether nothing is left to send: the socket took the record, or the connection is over."""
        try:
            return self._sock.write(data) == len(data)
        except _WOULD_BLOCK:
            return False
        except OSError as error:
            self._end(error)
            return True

    def _flush(self) -> None:
        while self._buffer:
            try:
                sent = self._sock.send(self._buffer[:_RECORD])
            except _WOULD_BLOCK:
                return
            except OSError as error:
                self._end(error)
                return
            del self._buffer[:sent]

    def _write_ready(self) -> None:
        self._flush()
        if self._ended:
            return
        if self._writing_paused and len(self._buffer) <= self._low_water:
            self._writing_paused = False
            self._protocol.resume_writing()
        if not self._buffer:
            self._loop.remove_writer(self._sock)
            if self._closing:
                self._finish()
            elif self._eof:
                self._shut_down()

    def get_write_buffer_size(self) -> int:
        """Bytes that the socket has not taken yet."""
        return len(self._buffer)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Bounds, in bytes, at which the protocol is told to pause and to resume writing."""
        self._high_water = _HIGH_WATER if high is None else high
        self._low_water = self._high_water // 4 if low is None else low

    def can_write_eof(self) -> bool:
        """Always: TLS has an end of its own, and TCP one below it."""
        return True

    def write_eof(self) -> None:
        """End this direction once everything is sent. What the peer sends after that arrives undecrypted."""
        self._eof = True
        if not self._buffer and not self._closing:
            self._shut_down()

    def _shut_down(self) -> None:
        self._close_notify()
        with contextlib.suppress(OSError):  # the peer is gone; reading will say so
            self._sock.shutdown(socket.SHUT_WR)

    def _close_notify(self) -> None:
        # It does not wait for the peer's answer, so it ends in SSLWantReadError even when all is well.
        with contextlib.suppress(OSError, ValueError):
            self._sock.unwrap()

    def is_closing(self) -> bool:
        """Whether the transport is closed or will be once everything is sent."""
        return self._closing

    def close(self) -> None:
        """Close once everything is sent."""
        if self._closing:
            return
        self._closing = True
        self._loop.remove_reader(self._sock)
        if not self._buffer:
            self._finish()

    def _finish(self) -> None:
        self._close_notify()
        self._end(None)

    def abort(self) -> None:
        """Close at once; what is not sent is lost."""
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        if self._ended:
            return
        self._ended = self._closing = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._buffer.clear()
        self._loop.call_soon(self._lost, error)

    def _lost(self, error: Exception | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            self._sock.close()
