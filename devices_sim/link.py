"""One device's connection: carries out the effects of its `Device` on a picows WebSocket, and tells it what arrives.

picows and not websockets, which is the other good client: 2,000 devices with a message a second each cost 25 us of CPU
per message with its ack against 52 (uvloop), 28 against 94 (asyncio), because frames arrive by callback, without a task
or a queue per connection. What it leaves to its user (fragmented messages, answers to a close) is here, and short.

Rules that hold here:

* No task lives as long as a connection: one runs while it is being made, callbacks do the rest.
* A connection that was given up keeps calling back until its socket is gone; only the current one is listened to.
* An exception in a callback ends the run with its traceback (`Network.failed`), as picows would only close that socket.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit

from picows import WSCloseCode, WSError, WSHandshakeError, WSListener, WSMsgType, WSTransport, ws_connect

from devices_sim.protocol import SUBPROTOCOL, Device, Drop, Effect, Phase, Ping, Reconnect, Send, Stop, Wake
from devices_sim.scheduler import Scheduler, clock

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from picows import WSFrame

    from devices_sim.scheduler import Moment
    from devices_sim.tally import Tally

HANDSHAKE_TIMEOUT = 10.0
CLOSE_TIMEOUT = 5.0
_TEXT, _PING, _PONG, _CLOSE, _CONTINUATION = (
    WSMsgType.TEXT,
    WSMsgType.PING,
    WSMsgType.PONG,
    WSMsgType.CLOSE,
    WSMsgType.CONTINUATION,
)
# An adapter, because picows makes a logger of its own per connection from a plain logger. Errors only: it warns of full
# socket buffers, which here are bounded by what a device may have unacknowledged.
_LOG = logging.LoggerAdapter(logging.getLogger("devices_sim.picows"), {})
_LOG.logger.setLevel(logging.ERROR)


class Network:
    """What the links of one run share: the gateway's address, the clock, the counts, and the look after silence."""

    def __init__(self, url: str, tally: Tally, *, tls: ssl.SSLContext | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self.scheduler = Scheduler(self.loop, self.fail)
        self.tally = tally
        self.url = url
        self.tls = tls
        self.links: list[Link] = []
        self.failed: asyncio.Future[None] = self.loop.create_future()
        self.last_failure = ""
        """Why the last connection could not be made, for progress and summary."""
        self.tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._all_gone: asyncio.Future[None] = self.loop.create_future()
        self._sweep()

    def stream_url(self, device_id: str) -> str:
        """Where ``device_id`` connects."""
        return f"{self.url.rstrip('/')}/v1/devices/{quote(device_id, safe=':')}/stream"

    def fail(self, error: BaseException) -> None:
        """End the run with ``error``."""
        if not self.failed.done():
            self.failed.set_exception(error)

    def finished(self, task: asyncio.Task[None]) -> None:
        """A connection attempt is over."""
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    async def close(self) -> None:
        """Close every connection as a device does that is switched off; those that do not answer are cut."""
        self._closing = True
        for link in self.links:
            link.leave()
        if self.tally.connected:
            await asyncio.wait([self._all_gone], timeout=CLOSE_TIMEOUT)
        self.scheduler.close()
        for link in self.links:
            link.vanish()
        for task in tuple(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if not self.failed.done():
            self.failed.cancel()

    def departed(self) -> None:
        """A connection is gone."""
        self.tally.connected -= 1
        if self._closing and not self.tally.connected and not self._all_gone.done():
            self._all_gone.set_result(None)

    def _sweep(self) -> None:
        now = clock()
        for link in self.links:
            link.check(now)
        self.scheduler.at(now + 1.0, self._sweep)


class Link:
    """The connection of one device, made again whenever the protocol says so."""

    __slots__ = (
        "_connection",
        "_hung",
        "_network",
        "_retry",
        "_token",
        "_wake",
        "_was_connected",
        "device",
        "stopped_because",
    )

    def __init__(self, device: Device, network: Network, token: str | None = None) -> None:
        self.device = device
        self.stopped_because = ""
        self._network = network
        self._token = token
        self._connection: _Connection | None = None
        self._hung = False
        self._was_connected = False
        self._retry: Moment | None = None
        self._wake: Moment | None = None
        network.links.append(self)

    @property
    def connected(self) -> bool:
        """Whether there is a connection, greeted or not."""
        return self._connection is not None

    def connect(self) -> None:
        """Start a connection attempt."""
        self._retry = None
        network = self._network
        if self.device.phase is Phase.STOPPED or network.failed.done():
            return
        task = network.loop.create_task(self._connect())
        network.tasks.add(task)
        task.add_done_callback(network.finished)

    def submit(self, data: bytes, readings: int) -> None:
        """Hand the device its next message."""
        self._apply(self.device.submit(data, readings, clock()))

    def repeat(self, seq: int, data: bytes) -> None:
        """Fault: send message ``seq`` once more though nobody asked for it, if it was sent at all."""
        if self._connection is not None and seq <= self.device.highest_sent:
            self._connection.send(data)
            self._network.tally.duplicates += 1

    def vanish(self) -> None:
        """Fault: the connection is gone without a close frame."""
        if self._connection is not None:
            self._connection.abort()

    def hang(self) -> None:
        """Fault: read nothing, answer nothing."""
        self._hung = True
        if self._connection is not None:
            self._connection.pause()

    def unhang(self) -> None:
        """The end of `hang`."""
        self._hung = False
        if self._connection is not None:
            self._connection.resume()
            self.device.heard(clock())

    def leave(self) -> None:
        """Close for good."""
        self.device.leave()
        if self._retry is not None:
            self._retry.cancel()
        if self._connection is not None:
            self._connection.resume()
            self._connection.close()

    def check(self, now: float) -> None:
        """Look after silence."""
        if self._connection is not None and not self._hung:
            self._apply(self.device.check(now))

    async def _connect(self) -> None:
        network = self._network
        headers = {"Sec-WebSocket-Protocol": SUBPROTOCOL}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            await ws_connect(
                lambda: _Connection(self),
                network.stream_url(self.device.id),
                ssl_context=network.tls,
                websocket_handshake_timeout=HANDSHAKE_TIMEOUT,
                extra_headers=headers,
                enable_auto_pong=False,
                read_buffer_init_size=1024,
                max_redirects=0,
                logger_name=_LOG,
            )
        except (OSError, TimeoutError, WSError) as error:
            network.tally.connect_failures += 1
            network.last_failure = str(error)
            self._apply(self._refused(error))

    def _refused(self, error: Exception) -> Iterable[Effect]:
        response = error.response if isinstance(error, WSHandshakeError) else None
        if response is None:
            return self.device.closed(None, str(error))
        body = error.raw_body or b"" if isinstance(error, WSHandshakeError) else b""
        return self.device.refused_handshake(int(response.status), body[:300].decode("utf-8", "replace"))

    # Called by the current connection.

    def opened(self, connection: _Connection, subprotocol: str | None) -> None:
        """The handshake of ``connection`` is done."""
        network, device = self._network, self.device
        if device.phase is Phase.STOPPED:
            connection.abort()
            return
        self._connection = connection
        tally = network.tally
        tally.connects += 1
        tally.reconnects += self._was_connected
        self._was_connected = True
        tally.connected += 1
        if subprotocol != SUBPROTOCOL:
            tally.violation(f"{device.id}: the gateway chose the subprotocol {subprotocol!r}")
        self._apply(device.opened(clock()))
        if self._hung:
            connection.pause()

    def lost(self, connection: _Connection, code: int | None, reason: str) -> None:
        """The socket of ``connection`` is gone."""
        if connection is not self._connection:
            return
        self._connection = None
        self._network.departed()
        self._network.tally.closes["no close frame" if code is None else str(code)] += 1
        self._apply(self.device.closed(code, reason))

    def heard(self, connection: _Connection, text: bytes | None = None) -> None:
        """A frame arrived; ``text`` is the message if it was one."""
        if connection is not self._connection:
            return
        now = clock()
        if text is None:
            self.device.heard(now)
        else:
            self._apply(self.device.received(text, now))

    def failed(self, error: BaseException) -> None:
        """A callback raised."""
        self._network.fail(error)

    def _apply(self, effects: Iterable[Effect]) -> None:
        connection = self._connection
        for effect in effects:
            match effect:
                case Send(data) if connection is not None:
                    connection.send(data)
                case Ping() if connection is not None:
                    connection.ping()
                case Drop(reason) if connection is not None:
                    self._network.tally.closes[reason] += 1
                    connection.abort()
                case Reconnect(after):
                    self._retry = self._network.scheduler.at(clock() + after, self.connect)
                case Wake(at):
                    if self._wake is not None:
                        self._wake.cancel()
                    self._wake = self._network.scheduler.at(at, self._resume)
                case Stop(reason):
                    self.stopped_because = reason
                    self._network.tally.stopped += 1

    def _resume(self) -> None:
        self._wake = None
        self._apply(self.device.resume(clock()))


class _Connection(WSListener):
    """picows' callbacks for one socket."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._transport: WSTransport | None = None
        self._parts: list[bytes] = []
        self._code: int | None = None
        self._reason = ""

    def send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.send(_TEXT, data)

    def ping(self) -> None:
        if self._transport is not None:
            self._transport.send_ping(b"")

    def close(self) -> None:
        if self._transport is not None:
            self._transport.send_close(WSCloseCode.OK)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    def pause(self) -> None:
        if self._transport is not None:
            self._transport.underlying_transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None:
            self._transport.underlying_transport.resume_reading()

    def on_ws_connected(self, transport: WSTransport) -> None:
        try:
            self._transport = transport
            self._link.opened(self, transport.response.headers.get("Sec-WebSocket-Protocol"))
        except Exception as error:
            self._link.failed(error)
            raise

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        try:
            self._frame(transport, frame)
        except Exception as error:
            self._link.failed(error)
            raise

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        try:
            self._link.lost(self, self._code, self._reason)
        except Exception as error:
            self._link.failed(error)
            raise

    def _frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind in (_TEXT, _CONTINUATION):
            self._parts.append(frame.get_payload_as_bytes())
            if frame.fin:
                text = b"".join(self._parts)
                self._parts.clear()
                self._link.heard(self, text)
        elif kind == _PING:
            transport.send_pong(frame.get_payload_as_bytes())
            self._link.heard(self)
        elif kind == _PONG:
            self._link.heard(self)
        elif kind == _CLOSE:
            self._closing(transport, frame.get_payload_as_bytes())

    def _closing(self, transport: WSTransport, payload: bytes) -> None:
        """Answer a close frame (RFC 6455 section 5.5.1) and hang up."""
        self._code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
        self._reason = payload[2:].decode("utf-8", "replace")
        if not transport.is_close_frame_sent:
            transport.send(_CLOSE, payload[:2])
        transport.disconnect()


def websocket_url(url: str) -> str:
    """``url`` with the scheme a WebSocket has; http and https are taken as ws and wss.

    Raises:
        ValueError: it is not the address of a gateway.
    """
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"not the address of a gateway, such as ws://127.0.0.1:8080: {url}")
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
