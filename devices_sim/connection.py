"""One WebSocket on picows, as callbacks.

picows and not websockets, which is the other good client: 2,000 devices with a message a second each cost 25 us of CPU
per message with its ack against 52 (uvloop), 28 against 94 (asyncio), because frames arrive by callback, without a task
or a queue per connection. picows leaves fragmented messages and answers to a close to its user; they are handled here.

Rule that holds here: an exception in a callback goes to the owner, because picows would only close the socket.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from picows import WSCloseCode, WSListener, WSMsgType, WSTransport, ws_connect

if TYPE_CHECKING:
    import ssl

    from picows import WSFrame

    from devices_sim.wire import Json

HANDSHAKE_TIMEOUT = 10.0
NO_STATUS = 1005
"""RFC 6455 section 7.1.5: a close frame without a code."""
_TEXT, _BINARY, _PING, _PONG, _CLOSE, _CONTINUATION = (
    WSMsgType.TEXT,
    WSMsgType.BINARY,
    WSMsgType.PING,
    WSMsgType.PONG,
    WSMsgType.CLOSE,
    WSMsgType.CONTINUATION,
)
# An adapter, because picows makes a logger of its own per connection from a plain logger. Errors only: it warns of full
# socket buffers, which here are bounded by what a device may have unacknowledged.
_LOG = logging.LoggerAdapter(logging.getLogger("devices_sim.picows"), {})
_LOG.logger.setLevel(logging.ERROR)


class Owner(Protocol):
    """Gets the events of a connection."""

    def opened(self, connection: Connection, subprotocol: str | None) -> None:
        """The handshake has succeeded."""
        ...

    def lost(self, connection: Connection, code: int | None, reason: str) -> None:
        """The socket has ended; ``code`` is that of the peer's close frame, None without one."""
        ...

    def heard(self, connection: Connection, data: bytes | None = None) -> None:
        """A frame arrived; ``data`` is the message if it completed one."""
        ...

    def failed(self, error: Exception) -> None:
        """One of the callbacks above raised."""
        ...


async def connect(owner: Owner, url: str, wire: Json, *, token: str | None, tls: ssl.SSLContext | None) -> None:
    """Connect with the subprotocol of ``wire``; ``owner`` gets the connection with `Owner.opened`.

    Raises:
        OSError, TimeoutError, picows.WSError: the attempt failed; `picows.WSHandshakeError` has the answer, if any.
    """
    headers = {"Sec-WebSocket-Protocol": wire.subprotocol}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    _, connection = await ws_connect(
        lambda: Connection(owner, binary=wire.binary),
        url,
        ssl_context=tls,
        websocket_handshake_timeout=HANDSHAKE_TIMEOUT,
        extra_headers=headers,
        enable_auto_pong=False,
        read_buffer_init_size=1024,
        max_redirects=0,
        logger_name=_LOG,
    )
    # picows returns without an error when the socket ends in the middle of the handshake.
    if not isinstance(connection, Connection) or not connection.was_opened:
        raise ConnectionError("the connection ended in the handshake")


class Connection(WSListener):
    """One socket, for text or ``binary`` messages; usable from `Owner.opened` to `Owner.lost`."""

    _transport: WSTransport

    def __init__(self, owner: Owner, *, binary: bool = False) -> None:
        self.was_opened = False
        """Whether the handshake succeeded."""
        self._kind = _BINARY if binary else _TEXT
        self._owner = owner
        self._parts: list[bytes] = []
        """Frames of a message that is not complete."""
        self._code: int | None = None
        """The code of the peer's close frame; None before one."""
        self._reason = ""

    def send(self, data: bytes) -> None:
        """Send one message, in one frame."""
        self._transport.send(self._kind, data)

    def ping(self) -> None:
        """Send a ping frame."""
        self._transport.send_ping(b"")

    def close(self) -> None:
        """Begin the closing handshake."""
        self._transport.send_close(WSCloseCode.OK)

    def abort(self) -> None:
        """End the socket without a close frame."""
        self._transport.disconnect(graceful=False)

    def pause(self) -> None:
        """Stop reading."""
        self._transport.underlying_transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        self._transport.underlying_transport.resume_reading()

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Called by picows."""
        try:
            self._transport = transport
            self.was_opened = True
            self._owner.opened(self, transport.response.headers.get("Sec-WebSocket-Protocol"))
        except Exception as error:
            self._owner.failed(error)
            raise

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Called by picows."""
        try:
            self._frame(transport, frame)
        except Exception as error:
            self._owner.failed(error)
            raise

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Called by picows."""
        try:
            self._owner.lost(self, self._code, self._reason)
        except Exception as error:
            self._owner.failed(error)
            raise

    def _frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind in (self._kind, _CONTINUATION):
            self._parts.append(frame.get_payload_as_bytes())
            if frame.fin:
                data = b"".join(self._parts)
                self._parts.clear()
                self._owner.heard(self, data)
        elif kind == _PING:
            transport.send_pong(frame.get_payload_as_bytes())
            self._owner.heard(self)
        elif kind == _PONG:
            self._owner.heard(self)
        elif kind == _CLOSE:
            self._closing(transport, frame.get_payload_as_bytes())

    def _closing(self, transport: WSTransport, payload: bytes) -> None:
        """Answer a close frame (RFC 6455 section 5.5.1) and end the socket."""
        self._code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else NO_STATUS
        self._reason = payload[2:].decode("utf-8", "replace")
        if not transport.is_close_frame_sent:
            transport.send(_CLOSE, payload[:2])
        transport.disconnect()
