"""Tornado's WebSocket protocol on the event loop's transport.

Tornado reads a frame with up to four awaits and writes one with a task. Here its protocol keeps everything but the
reading of frames: after the upgrade the socket moves to a transport, and a message goes from the loop's read callback
to `StreamHandler.on_text` with no task and no future.

Rules that hold here:

* No close waits for the peer without a limit: a close that takes too long becomes an abort.
* One connection never holds the loop for more than `FRAMES_PER_TURN` frames or one chunk at a time.
* A pause of reading also holds back the frames that were already read.
* The rate of pings and pongs is limited: each ping costs an answer, and no honest peer needs many.
* Private names of Tornado are used here and in ``handler.py``, nowhere else; a test lists them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
import threading
import zlib
from typing import TYPE_CHECKING, Any, Protocol, cast

from tornado.util import _websocket_mask
from tornado.websocket import WebSocketClosedError, WebSocketProtocol13, _DecompressTooLargeError

from gateway.websocket import frames
from gateway.websocket.disconnect_cause import CloseCause
from gateway.websocket.frames import FrameParser, Violation
from gateway.websocket.read_turns import read_turns
from gateway.websocket.tls_transport import TLSProtocol, TLSTransport
from gateway.websocket.transport_stream import TransportStream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tornado.iostream import IOStream
    from tornado.websocket import WebSocketHandler, _WebSocketParams


_CHUNK = 64 * 1024
RECEIVE_BUFFER = 64 * 1024
"""Size of the kernel's receive buffer of a connection. By default the kernel lets it grow to megabytes for a peer that
sends much, and uvloop reads up to 250 KB of it at once: too much to hold for thousands of paused connections."""

MAX_CONTROLS = 300
CONTROL_SECONDS = 10.0
"""A peer may send `MAX_CONTROLS` pings and pongs in `CONTROL_SECONDS`."""

# Bits: the reasons why reading is paused. A connection reads while none is set.
_PAUSED_BY_HANDLER = 1
_PAUSED_FOR_AWAITABLE = 2
_PAUSED_FOR_TURN = 4


Write = tuple[TransportStream, bytes]
"""A frame, and the stream that it is to be written to."""


class _ReceiveBuffer(threading.local):
    """One buffer for all sockets of a thread: its content is copied before the loop reads another socket."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(_CHUNK))


_receive_buffer = _ReceiveBuffer()


class MessageHandler(Protocol):
    """The handler of one connection (`gateway.websocket.handler.StreamHandler`): the part that the protocol uses."""

    last_byte_at: float
    """When the last byte came, on the event loop's clock."""
    close_cause: CloseCause | None
    """The first cause of the end of the connection; None while it is open."""
    write_limit: int
    """Bytes that may wait for the peer."""
    close_timeout: float
    """Seconds that the peer has to answer a close frame."""

    @property
    def record_timeout(self) -> float:
        """Seconds for which the bytes of one TLS record count as life."""
        ...

    def release_request(self) -> None:
        """Drop the parts of the request that only the handshake needed."""
        ...

    def on_text(self, data: bytes) -> Awaitable[None] | None:
        """One text message."""
        ...

    def on_binary(self, data: bytes) -> Awaitable[None] | None:
        """One binary message."""
        ...

    def on_ping(self, data: bytes) -> None:
        """A ping came."""
        ...

    def on_pong(self, data: bytes) -> None:
        """A pong came."""
        ...

    def on_ws_connection_close(self, close_code: int | None = None, close_reason: str | None = None) -> None:
        """The connection has ended."""
        ...

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """The handler has raised an exception."""
        ...

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        """Refuse the handshake."""
        ...


class StreamProtocol(WebSocketProtocol13, asyncio.Protocol, TLSProtocol):
    """Tornado's protocol on a transport.

    uvloop uses it as a `Protocol`, asyncio and `TLSTransport` as a `BufferedProtocol`: each is the faster way there.
    """

    # The base class sets 29 attributes, and CPython lets instances share the keys of a dictionary up to 30.
    __slots__ = (
        "_backlog",
        "_buffer",
        "_controls",
        "_controls_since",
        "_deadline",
        "_heard_at",
        "_loop",
        "_parser",
        "_pauses",
        "_record_since",
        "_transport",
    )

    handler: MessageHandler  # type: ignore[assignment]
    stream: TransportStream  # type: ignore[assignment]

    def __init__(self, handler: MessageHandler, params: _WebSocketParams) -> None:
        super().__init__(cast("WebSocketHandler", handler), mask_outgoing=False, params=params)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        """The event loop's transport; None before the handshake is answered, and after the connection has ended."""
        self._backlog: list[frames.Frame] = []
        """Frames that were parsed and not delivered yet, because reading is paused."""
        self._pauses = 0
        """The reasons why reading is paused: bits of the constants above."""
        self._deadline: asyncio.TimerHandle | None = None
        """Aborts a connection that takes too long to close."""
        self._controls = 0
        """Pings and pongs since ``_controls_since``."""
        self._heard_at = 0.0
        """The value that bytes of an incomplete TLS record last gave to ``last_byte_at``, on the event loop's clock."""
        self._record_since = 0.0
        """When the incomplete TLS record began, on the event loop's clock."""
        handler.last_byte_at = self._controls_since = self._loop.time()

    async def accept_connection(self, handler: WebSocketHandler) -> None:
        """Answer the handshake, open the handler, and leave the connection to the event loop."""
        try:
            await super().accept_connection(handler)
        finally:
            if self.stream is not None and self._transport is None:
                self._connection_ended()

    def take_over(self, iostream: IOStream) -> TransportStream:
        """The stand-in for the stream that carried the handshake."""
        return TransportStream(iostream, self._loop, self.handler.write_limit, self._overflowed)

    async def _receive_frame_loop(self) -> None:
        """Move the socket to a transport; unlike Tornado's, this returns at once and leaves no task behind."""
        try:
            sock, early = await self.stream.take_socket()
        except OSError:  # the connection has ended; Tornado's StreamClosedError is an OSError
            return
        self._parser = FrameParser(
            self.params.max_message_size, _websocket_mask, compression=self._decompressor is not None
        )
        self.params = None  # type: ignore[assignment] # a tenth of an idle connection's memory, and the parser has what matters
        self.handler.release_request()
        self._backlog = self._parser.feed(early)
        try:
            with contextlib.suppress(OSError):  # macOS refuses it for a peer that has left
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            if isinstance(sock, ssl.SSLSocket):
                TLSTransport(self._loop, sock, self).start()
            else:
                await self._loop.connect_accepted_socket(lambda: self, sock)
        except BaseException:
            sock.close()
            raise

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Deliver the frames that came with the handshake; reading starts after that."""
        self._transport = cast("asyncio.Transport", transport)
        self._buffer = _receive_buffer.view
        self.stream.attach(self._transport)
        self._continue()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        self._connection_ended()

    def _connection_ended(self) -> None:
        self._set_cause(CloseCause.LOST)
        self.client_terminated = self.server_terminated = True
        self._transport = None
        self._backlog = []
        self.stream.lost()
        if self._deadline is not None:
            self._deadline.cancel()
        try:
            self.handler.on_ws_connection_close(self.close_code, self.close_reason)
        except Exception:  # noqa: BLE001 - the handler's, and logged
            self.handler.log_exception(*sys.exc_info())

    def data_received(self, data: bytes) -> None:
        """Take bytes from uvloop. After a full chunk uvloop would read on at once, so others get a turn first."""
        handler = self.handler
        handler.last_byte_at = self._loop.time()
        if self._pauses or self.server_terminated or (text := self._parser.single_text(data)) is None:
            self._receive(data)
        else:
            self._call(handler.on_text, text)
        if len(data) >= _CHUNK:
            self._yield_turn()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where asyncio and `TLSTransport` put bytes."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes from asyncio or `TLSTransport`."""
        self.data_received(self._buffer[:nbytes].tobytes())

    def partial_record_received(self) -> None:
        """Count bytes of an incomplete TLS record as a sign of life, for ``record_timeout`` seconds of one record."""
        handler, now = self.handler, self._loop.time()
        if handler.last_byte_at != self._heard_at:  # a whole record has come since
            self._record_since = now
        if now - self._record_since < handler.record_timeout:
            handler.last_byte_at = self._heard_at = now

    def eof_received(self) -> None:
        """The peer ended its direction without a Close frame; frames already written may still reach it."""
        self._set_cause(CloseCause.LOST)
        self._set_deadline(self.handler.close_timeout)
        self.stream.close()

    def pause_writing(self) -> None:
        """The transport's buffer is above its high-water mark."""
        self.stream.pause_writing()

    def resume_writing(self) -> None:
        """The transport's buffer has drained."""
        self.stream.resume_writing()

    def _receive(self, data: bytes) -> None:
        """Take bytes that are not exactly one whole text message, or that come while reading is paused."""
        if self.client_terminated:
            return
        found = self._parser.feed(data)
        if self._pauses:  # uvloop reads once even when it was paused in connection_made
            self._backlog += found
            self.pause(0)
        else:
            self._deliver(found)

    def _deliver(self, found: list[frames.Frame]) -> None:
        on_text = self.handler.on_text
        for index, (kind, payload) in enumerate(found, 1):
            if kind == frames.TEXT and not self.server_terminated:
                self._call(on_text, payload)
            else:
                self._handle(kind, payload)
            if self._pauses:
                self._backlog = found[index:]
                return
            if self.client_terminated:
                return
        if self._parser.violation is not None:
            self._fail(self._parser.violation)
        elif self._parser.has_more:
            self._yield_turn()

    def _handle(self, kind: int, payload: bytes) -> None:
        """Process any frame but a plain text message of an open connection."""
        if kind in {frames.PING, frames.PONG}:
            self._take_control(kind, payload)
        elif kind == frames.CLOSE:
            self._peer_closed(payload)
        elif not self.server_terminated:
            self._message(kind, payload)

    def _take_control(self, kind: int, payload: bytes) -> None:
        self._controls += 1
        if self._controls > MAX_CONTROLS:
            since, self._controls_since = self._controls_since, self.handler.last_byte_at
            if self._controls_since - since < CONTROL_SECONDS:
                text = f"more than {MAX_CONTROLS} pings and pongs in {CONTROL_SECONDS:.0f} s"
                return self._fail(Violation(frames.POLICY, text))
            self._controls = 1
        if kind == frames.PING:
            self._send_pong(payload)
        return self._call(self.handler.on_ping if kind == frames.PING else self.handler.on_pong, payload)

    def _message(self, kind: int, payload: bytes) -> None:
        if kind & frames.COMPRESSED and self._decompressor is not None:
            try:
                payload = self._decompressor.decompress(payload)
            except _DecompressTooLargeError:
                return self._fail(frames.too_big(self._parser.limit))
            except zlib.error:
                return self._fail(Violation(frames.PROTOCOL_ERROR, "message cannot be decompressed"))
        binary = kind & ~frames.COMPRESSED == frames.BINARY
        return self._call(self.handler.on_binary if binary else self.handler.on_text, payload)

    def _peer_closed(self, payload: bytes) -> None:
        close = frames.decode_close(payload)
        if isinstance(close, Violation):
            self._fail(close)
            return
        self._set_cause(CloseCause.PEER)
        if not self.server_terminated:
            self.close_code, self.close_reason = close
        self.client_terminated = True
        self.close(close.code)

    def _call(self, callback: Callable[[bytes], Any], data: bytes) -> None:
        """Call the handler. An exception ends the connection; reading pauses until a returned awaitable is done."""
        try:
            result = callback(data)
            if result is not None:
                asyncio.ensure_future(result).add_done_callback(self._awaited)
                self.pause(_PAUSED_FOR_AWAITABLE)
        except (Exception, asyncio.CancelledError):  # noqa: BLE001 - the handler's, and logged
            self._failed()

    def _awaited(self, future: asyncio.Future[Any]) -> None:
        try:
            future.result()
        except WebSocketClosedError:
            pass  # the handler wrote to a peer that had left
        except (Exception, asyncio.CancelledError):  # noqa: BLE001 - the handler's, and logged
            self._failed()
        self._clear_pause(_PAUSED_FOR_AWAITABLE)

    def _failed(self) -> None:
        self.handler.log_exception(*sys.exc_info())
        self._set_cause(CloseCause.ERROR)
        self.close(frames.INTERNAL_ERROR, "internal error")

    def _fail(self, violation: Violation) -> None:
        """Send a Close frame with the reason. The peer's bytes are still read and dropped: closing a socket with unread
        bytes resets the connection, and the reset may overtake the Close frame (RFC 6455, 7.1.7; RFC 1122,
        4.2.2.13)."""
        self._set_cause(CloseCause.VIOLATION)
        self.close(*violation)
        self.client_terminated = True
        self._backlog = []
        self._parser.discard()
        self.stream.half_close()

    def _overflowed(self) -> None:
        self.abort(CloseCause.WRITE_LIMIT)

    def _set_cause(self, cause: CloseCause) -> None:
        if self.handler.close_cause is None:
            self.handler.close_cause = cause

    @property
    def unfinished(self) -> int:
        """As `FrameParser.unfinished`; 0 while there is no transport."""
        return 0 if self._transport is None else self._parser.unfinished

    def set_limit(self, size: int) -> None:
        """Take messages of up to ``size`` bytes from now on."""
        self._parser.limit = size

    def pause(self, reason: int = _PAUSED_BY_HANDLER) -> None:
        """Pause reading for ``reason``."""
        self._pauses |= reason
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """End the handler's pause; the event loop then delivers what was held back."""
        self._pauses &= ~_PAUSED_BY_HANDLER
        self._loop.call_soon(self._continue)

    def deliver_backlog(self) -> None:
        """Deliver frames that were read and held back, at most a chunk; called before the connection is closed."""
        found, self._backlog = self._backlog, []
        while found and not self.client_terminated:
            for kind, payload in found:
                self._handle(kind, payload)
            found = self._parser.next_frames()

    def _yield_turn(self) -> None:
        """Pause until the other connections have had the loop."""
        if not self._pauses & _PAUSED_FOR_TURN:
            self.pause(_PAUSED_FOR_TURN)
            read_turns.join(self._loop, self)

    def take_turn(self) -> None:
        """Continue: the other connections have had the loop."""
        self._clear_pause(_PAUSED_FOR_TURN)

    def _clear_pause(self, reason: int) -> None:
        self._pauses &= ~reason
        self._continue()

    def _continue(self) -> None:
        """Deliver what was held back, then read. Only the event loop calls this, never a delivery."""
        if self._pauses or self._transport is None:
            return
        if not self.client_terminated:
            found, self._backlog = self._backlog, []
            self._deliver(found or self._parser.next_frames())
        if not self._pauses and not self._transport.is_closing():
            self._transport.resume_reading()

    def prepare(self, first: int, data: bytes) -> Write | None:
        """The write of one message, to be made before any other; None after a close. ``first``: see `encode_frame`."""
        if self.server_terminated:
            return None
        if self._compressor is not None:
            first, data = first | frames.COMPRESSED, self._compressor.compress(data)
        return self.stream, frames.encode_frame(first, data)

    def close(self, code: int | None = None, reason: str | None = None, *, timeout: float | None = None) -> None:
        """Send a Close frame, or answer the peer's and close the socket; never waits longer than ``timeout``."""
        if not self.server_terminated:
            self.server_terminated = True
            self._set_cause(CloseCause.SERVER)
            if not self.client_terminated:
                self.close_code, self.close_reason = code, reason
            self._write_frame(fin=True, opcode=frames.CLOSE, data=frames.encode_close(code, reason))
        self._set_deadline(self.handler.close_timeout if timeout is None else timeout)
        if self.client_terminated:
            self.stream.close()
        elif self._pauses & _PAUSED_BY_HANDLER:
            self.resume()

    def _set_deadline(self, seconds: float) -> None:
        if self._deadline is None and not self.stream.closed():
            self._deadline = self._loop.call_later(seconds, self.stream.abort)

    def abort(self, cause: CloseCause) -> None:
        """Drop the connection."""
        self._set_cause(cause)
        self.client_terminated = self.server_terminated = True
        self.stream.abort()

    def _abort(self) -> None:
        """Called by Tornado if a handshake cannot be finished, or if ``open`` raised."""
        if self.stream is None:
            self.handler.send_error(400)  # type: ignore[unreachable] # None before the upgrade
        else:
            self.abort(CloseCause.ERROR)
