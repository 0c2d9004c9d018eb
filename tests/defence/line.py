"""One connection of an attacker: a raw socket that sends exact bytes, and notes how it ended."""

from __future__ import annotations

import asyncio
import base64
import secrets
import socket
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable

CLOSE = 0x88
KEPT = 512
"""Received bytes that are kept: enough for the status of an answer, and for a close frame."""
_LATE_PORT = 24
"""IP_BIND_ADDRESS_NO_PORT of ip(7), which Python does not name: the port is chosen when it connects."""


class Line:
    """A connection from ``address`` to the gateway at ``target``."""

    def __init__(
        self, target: tuple[str, int], address: str = "127.0.0.1", *, receive_buffer: int | None = None
    ) -> None:
        self._target = target
        self._loop = asyncio.get_running_loop()
        self._sock = socket.socket()
        self._sock.setblocking(False)
        if receive_buffer is not None:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock.setsockopt(socket.IPPROTO_IP, _LATE_PORT, 1)
        self._sock.bind((address, 0))
        self.begin = b""
        self.end = b""

    async def __aenter__(self) -> Self:
        try:
            await self._loop.sock_connect(self._sock, self._target)
        except BaseException:
            self._sock.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._sock.close()

    async def say(self, data: bytes) -> None:
        """Send all of it."""
        await self._loop.sock_sendall(self._sock, data)

    async def hear(self, size: int = 65536) -> bytes:
        """The next bytes.

        Raises:
            EOFError: the connection ended.
        """
        data = await self._loop.sock_recv(self._sock, size)
        if not data:
            raise EOFError
        self.begin = (self.begin + data)[:KEPT] if len(self.begin) < KEPT else self.begin
        self.end = (self.end + data)[-KEPT:]
        return data

    async def hear_out(self) -> None:
        """Read and drop everything until the end."""
        while True:
            await self.hear()

    async def while_hearing(self, saying: Awaitable[None]) -> None:
        """Send and read at the same time, until either ends."""
        tasks = [asyncio.ensure_future(saying), asyncio.ensure_future(self.hear_out())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0] in done and tasks[0].exception() is not None:
                await asyncio.wait(tasks[1:], timeout=1.0)  # the close may be on its way
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def answer(self, request: bytes) -> bytes:
        """The head of the answer to a request."""
        await self.say(request)
        heard = b""
        while b"\r\n\r\n" not in heard:
            heard += await self.hear()
        return heard

    async def upgrade(self, device: str, token: str | None = None, *headers: str) -> bytes:
        """Shake hands as ``device``; the answer's head and what came behind it.

        Raises:
            ConnectionRefusedError: the answer is no 101.
        """
        heard = await self.answer(handshake(device, token, *headers))
        if not heard.startswith(b"HTTP/1.1 101"):
            raise ConnectionRefusedError(heard[:40])
        return heard

    @property
    def ended(self) -> str:
        """How it ended, as far as the gateway said: a close code, or the status of an answer."""
        for place in range(max(0, len(self.end) - 127), len(self.end) - 3):
            if self.end[place] == CLOSE and place + 2 + self.end[place + 1] == len(self.end):
                return str(int.from_bytes(self.end[place + 2 : place + 4]))
        status = self.begin[9:12].decode(errors="replace") if self.begin.startswith(b"HTTP/1.1 ") else ""
        return "cut" if status in {"", "101"} else f"HTTP {status}"


def handshake(device: str, token: str | None = None, *headers: str) -> bytes:
    """A request for a device's socket."""
    lines = [
        f"GET /v1/devices/{device}/stream HTTP/1.1",
        "Host: 127.0.0.1",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {base64.b64encode(secrets.token_bytes(16)).decode()}",
        *headers,
    ]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def frame(first: int, payload: bytes = b"") -> bytes:
    """A client's frame; its mask is of zeros, so that the payload stays as it is."""
    size = len(payload)
    if size < 126:
        return bytes((first, 0x80 | size)) + bytes(4) + payload
    if size < 1 << 16:
        return bytes((first, 0xFE)) + size.to_bytes(2) + bytes(4) + payload
    return bytes((first, 0xFF)) + size.to_bytes(8) + bytes(4) + payload
