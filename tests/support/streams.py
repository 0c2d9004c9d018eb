"""A server of `StreamHandler` in a thread of its own, and a client that sends exactly the bytes it is told to."""

from __future__ import annotations

import asyncio
import queue
import socket
import ssl
import struct
import threading
from typing import TYPE_CHECKING, Any, Self, TypeVar

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from gateway.websocket.handler import StreamHandler
from tests.support.modes import new_event_loop

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PATIENCE = 10.0
"""Seconds after which something that should have happened has not."""
MASK = b"\x37\xfa\x21\x3d"
TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A

T = TypeVar("T")


def unmask(mask: bytes, payload: bytes) -> bytes:
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(size)


def client_frame(first: int, payload: bytes = b"", *, mask: bytes | None = MASK) -> bytes:
    """A client's frame with the shortest length; ``mask`` None leaves it unmasked."""
    marked = 0x80 if mask is not None else 0
    if len(payload) < 126:
        header = struct.pack(">BB", first, marked | len(payload))
    elif len(payload) < 1 << 16:
        header = struct.pack(">BBH", first, marked | 126, len(payload))
    else:
        header = struct.pack(">BBQ", first, marked | 127, len(payload))
    return header + (payload if mask is None else mask + unmask(mask, payload))


def close_frame(code: int, reason: bytes = b"") -> bytes:
    return client_frame(CLOSE, struct.pack(">H", code) + reason)


class Recorder(StreamHandler):
    """Puts what happens to it into the server's ``events``."""

    close_timeout = 0.5

    def initialize(self, server: StreamServer) -> None:
        self.server = server

    def open(self) -> None:
        self.server.came(self)

    def on_text(self, data: bytes) -> None:
        self.server.events.put(("text", data))

    def on_binary(self, data: bytes) -> None:
        self.server.events.put(("binary", data))

    def on_ping(self, data: bytes) -> None:
        self.server.events.put(("ping", data))

    def on_pong(self, data: bytes) -> None:
        self.server.events.put(("pong", data))

    def on_close(self) -> None:
        self.server.left(self)
        self.server.events.put(("close", str(self.close_cause), self.close_code, self.close_reason))


class StreamServer:
    """Serves ``handler`` on a free port of the loopback, on a loop of its own in a thread of its own."""

    def __init__(
        self, handler: type[StreamHandler], *, loop: str, certificate: tuple[Path, Path] | None, **settings: Any
    ) -> None:
        self.events: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self.opened: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.errors: list[dict[str, Any]] = []
        self.port = 0
        self.client_context: ssl.SSLContext | None = None
        self._certificate = certificate
        if certificate:
            self.client_context = ssl.create_default_context(cafile=certificate[0])
        self._handler = handler
        self._settings = settings
        self._loop = new_event_loop(loop)
        self._live: set[StreamHandler] = set()
        self._idle = asyncio.Event()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        assert self.errors == []

    def _run(self) -> None:
        self._loop.set_exception_handler(lambda _, context: self.errors.append(context))
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        options = None
        if self._certificate:
            options = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            options.load_cert_chain(*self._certificate)
        application = Application([("/.*", self._handler, {"server": self})], **self._settings)
        server = HTTPServer(application, ssl_options=options)
        sockets = bind_sockets(0, "127.0.0.1")
        self.port = sockets[0].getsockname()[1]
        server.add_sockets(sockets)
        self._ready.set()
        await self._stop.wait()
        server.stop()
        await server.close_all_connections()
        if self._live:
            self._idle.clear()
            for handler in self._live:
                handler.abort()
            await asyncio.wait_for(self._idle.wait(), PATIENCE)

    def came(self, handler: StreamHandler) -> None:
        """A connection was opened."""
        self._live.add(handler)
        self.opened.put(handler)

    def left(self, handler: StreamHandler) -> None:
        """A connection was closed."""
        self._live.discard(handler)
        if not self._live:
            self._idle.set()

    def call(self, function: Callable[[], T]) -> T:
        """What ``function`` returns when the server's loop calls it."""

        async def run() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(PATIENCE)

    def handler(self) -> Any:
        """The handler of the next connection that was opened."""
        return self.opened.get(timeout=PATIENCE)

    def event(self) -> tuple[Any, ...]:
        """The next event."""
        return self.events.get(timeout=PATIENCE)

    def connect(self, *headers: str, behind: bytes = b"", receive_buffer: int | None = None) -> Peer:
        """A client whose handshake is done."""
        return Peer(self, headers, behind, receive_buffer)


class Peer:
    """A client on a blocking socket; ``behind`` is sent in one write with its handshake."""

    def __init__(
        self, server: StreamServer, headers: tuple[str, ...], behind: bytes, receive_buffer: int | None
    ) -> None:
        sock = socket.socket()
        sock.settimeout(PATIENCE)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.connect(("127.0.0.1", server.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if server.client_context is not None:
            sock = server.client_context.wrap_socket(sock, server_hostname="127.0.0.1")
        self.sock = sock
        self._received = bytearray()
        request = [
            "GET /devices/d1/stream HTTP/1.1",
            "Host: 127.0.0.1",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            *headers,
        ]
        self.send("\r\n".join(request).encode() + b"\r\n\r\n" + behind)
        self.response = self._handshake()

    def _handshake(self) -> str:
        while b"\r\n\r\n" not in self._received:
            assert self._receive(), "connection closed during the handshake"
        head, _, rest = bytes(self._received).partition(b"\r\n\r\n")
        self._received[:] = rest
        return head.decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def _receive(self) -> bool:
        try:
            data = self.sock.recv(1 << 16)
        except (ConnectionResetError, ssl.SSLEOFError):
            data = b""
        self._received += data
        return bool(data)

    def _exactly(self, count: int) -> bytes:
        while len(self._received) < count:
            if not self._receive():
                raise EOFError
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    def frame(self) -> tuple[int, bytes]:
        """The next frame's first byte and payload; EOFError at the end of the stream."""
        first, length = self._exactly(2)
        assert length < 128, "a server must not mask"
        if length == 126:
            (length,) = struct.unpack(">H", self._exactly(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self._exactly(8))
        return first, self._exactly(length)

    def closed_with(self) -> tuple[int | None, str]:
        """Skip to the Close frame: its code and reason."""
        while (frame := self.frame())[0] != CLOSE:
            pass
        payload = frame[1]
        return (struct.unpack(">H", payload[:2])[0], payload[2:].decode()) if payload else (None, "")

    def at_end(self) -> bool:
        """Whether nothing but the end of the stream comes."""
        return not self._received and not self._receive()
