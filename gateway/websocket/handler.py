"""The handler of device sockets: Tornado's `WebSocketHandler` for peers that stay connected and send much.

Rules that hold here:

* Messages come in order, also across pauses, and none comes after the handler has closed.
* An exception of a handler ends its own connection (close 1011), never the server.
* `StreamHandler.on_close` is called exactly once for every connection that was upgraded, and for no other.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

from tornado.websocket import WebSocketHandler, _WebSocketParams

from gateway.websocket import frames
from gateway.websocket.disconnect_cause import CloseCause
from gateway.websocket.stream_protocol import StreamProtocol, Write

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    from tornado.httputil import HTTPServerRequest

    from gateway.websocket.transport_stream import TransportStream

log = logging.getLogger(__name__)

__all__ = ["BINARY", "TEXT", "RequestSummary", "StreamHandler", "Write", "write_all"]


TEXT = frames.FINAL | frames.TEXT
BINARY = frames.FINAL | frames.BINARY


def write_all(writes: Iterable[Write]) -> None:
    """Make many prepared writes, one directly after the other.

    With work in between, the receiving process would go to sleep after each write and be woken for the next.
    docs/explanation/way-of-a-reading.md, "From a frame to an ack".
    """
    for stream, frame in writes:
        try:
            stream.send(frame)
        except Exception:  # a bug on one connection must not keep the others from their writes
            log.exception("a connection could not be written to")


class RequestSummary:
    """The part of a request that is kept after the upgrade, for log lines."""

    __slots__ = ("method", "remote_ip", "uri")

    def __init__(self, request: HTTPServerRequest) -> None:
        self.method = request.method
        self.uri = request.uri
        self.remote_ip = request.remote_ip

    def __repr__(self) -> str:
        return f"{self.method} {self.uri} from {self.remote_ip}"


class StreamHandler(WebSocketHandler):
    """A `WebSocketHandler` for peers that stay connected and send much.

    Override `on_text` for text as bytes that are not checked to be UTF-8, or ``on_message`` for Tornado's own contract
    (str and bytes, text checked, close 1007). After ``open`` has returned, ``request`` is a `RequestSummary` and no
    other part of the request or of the response is left: take what is needed in ``open``. What ``open`` writes is sent
    when it returns. ``on_message``, ``on_text`` and ``on_binary`` may return an awaitable; reading pauses until it is
    done. Tornado's pinger is off: compare `last_byte_at` and call `send_ping`.
    """

    __slots__ = ("close_cause", "last_byte_at")

    write_limit: int = 1024 * 1024
    """Bytes that may wait for the peer; with more, the connection is aborted."""
    close_timeout: float = 5.0
    """Seconds a peer has to answer a Close frame and to take what was written, before it is aborted."""

    ws_connection: StreamProtocol | None
    last_byte_at: float
    """When the last byte of the peer came, on the event loop's clock."""
    close_cause: CloseCause | None
    """Why the connection ended, from `on_close` on. ``close_code`` and ``close_reason`` are those of the first Close
    frame that either side sent, None without one."""

    def on_text(self, data: bytes) -> Awaitable[None] | None:
        """Take one text message; here: check it and hand it to ``on_message``."""
        try:
            text = data.decode()
        except UnicodeDecodeError:
            self.close(frames.NOT_UTF8, "text is not UTF-8")
            return None
        return self.on_message(text)

    def on_binary(self, data: bytes) -> Awaitable[None] | None:
        """Take one binary message; here: hand it to ``on_message``."""
        return self.on_message(data)

    def write_text(self, data: bytes) -> None:
        """Send one text message, UTF-8, with one write and no task; after a close it is dropped.

        If more than `write_limit` bytes wait for the peer, the connection is aborted instead.
        """
        if self.ws_connection is not None:
            self._write(self.ws_connection.prepare(TEXT, data))

    def _write(self, write: Write | None) -> None:
        if write is not None:
            stream, frame = write
            stream.send(frame)

    def send_ping(self) -> None:
        """Send a ping; after a close, do nothing."""
        if self.ws_connection is not None and not self.ws_connection.is_closing():
            self.ws_connection.write_ping(b"")

    @property
    def record_timeout(self) -> float:
        """Seconds for which the bytes of one incomplete TLS record count as a sign of life."""
        return 120.0

    @property
    def unfinished(self) -> int:
        """0 between messages. Inside a message a number that stays the same until the message has ended."""
        return 0 if self.ws_connection is None else self.ws_connection.unfinished

    def set_max_message_size(self, size: int) -> None:
        """Accept messages of up to ``size`` bytes from now on; before this call `max_message_size` counts."""
        if self.ws_connection is not None:
            self.ws_connection.set_limit(size)

    def pause_reading(self) -> None:
        """Hold messages back, including those that have already arrived."""
        if self.ws_connection is not None:
            self.ws_connection.pause()

    def resume_reading(self) -> None:
        """Deliver the messages held back, then read on; the event loop does both after this call."""
        if self.ws_connection is not None:
            self.ws_connection.resume()

    def deliver_backlog(self) -> None:
        """Deliver the messages that `pause_reading` has held back. Call it before a close, which would drop them."""
        if self.ws_connection is not None:
            self.ws_connection.deliver_backlog()

    def close(self, code: int | None = None, reason: str | None = None, *, timeout: float | None = None) -> None:
        """Send a Close frame and wait for the peer's, at most ``timeout`` seconds (`close_timeout`); then abort."""
        if self.ws_connection is not None:
            self.ws_connection.close(code, reason, timeout=timeout)

    def abort(self) -> None:
        """Drop the connection and what was not sent; the event loop calls ``on_close`` later."""
        if self.ws_connection is not None:
            self.ws_connection.abort(CloseCause.ABORTED)

    @property
    def ping_interval(self) -> None:
        """None: Tornado's pinger costs a task per connection and counts only pongs as signs of life."""

    def get_websocket_protocol(self) -> StreamProtocol | None:
        """The protocol that serves the version the client asked for."""
        if self.request.headers.get("Sec-WebSocket-Version") != "13":
            return None
        self.close_cause = None
        return StreamProtocol(
            self,
            _WebSocketParams(
                max_message_size=self.max_message_size, compression_options=self.get_compression_options()
            ),
        )

    def _detach_stream(self) -> TransportStream:  # type: ignore[override]
        return cast("StreamProtocol", self.ws_connection).take_over(self.detach())

    def on_connection_close(self) -> None:
        """Tornado's hook; before the upgrade there is nothing to close."""
        if self.ws_connection is not None:
            super().on_connection_close()

    def release_request(self) -> None:
        """Drop what only the handshake needed: three quarters of an idle connection's memory."""
        self.request = RequestSummary(self.request)  # type: ignore[assignment]
        self._headers = None  # type: ignore[assignment]
        self.ui = None  # type: ignore[assignment]
