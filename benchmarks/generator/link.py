"""One device's connection, without an event loop: the generator's epoll calls it.

Rules that hold here:

* Sending one message costs one system call and no allocation; a frame that did not fit stays in ``rest`` and blocks
  the next one, so that frames are never mixed.
* What a server says is read frame by frame and never skipped: an ack that is missed would be a loss reported.
* A throttle is obeyed as the protocol says: wait, then send again from its number on. A message's time is that of its
  first sending, so what a throttle costs is in the latencies.
"""

from __future__ import annotations

import base64
import os
import socket
import ssl
from array import array
from time import monotonic
from typing import TYPE_CHECKING, Any

import orjson

from benchmarks.messages import FIN_PING, FIN_PONG, client_frame

if TYPE_CHECKING:
    from benchmarks.generator.tally import Tally

READ_SIZE = 65536
SEND_BUFFER = 65536
"""Bytes the kernel may hold per device: a slow server must show, not be hidden by buffers."""
DEVICES_PER_ADDRESS = 2000
ACK = b'{"type":"ack","seq":'
ACK_SEQ = slice(len(ACK), -1)

OPENING, SHAKING, UPGRADING, OPEN = range(4)


class Link:
    """A device: connecting, then sending frames in order and counting what comes back."""

    __slots__ = (
        "_buffer",
        "_context",
        "_request",
        "_send",
        "_tally",
        "acked",
        "fd",
        "held_until",
        "high",
        "next",
        "parked",
        "pongs",
        "rest",
        "sent_at",
        "sock",
        "started",
        "state",
        "wants_write",
        "welcome",
    )

    def __init__(self, number: int, request: bytes, context: ssl.SSLContext | None, tally: Tally) -> None:
        self._request = request
        self._context = context
        self._tally = tally
        self._buffer = b""
        self.rest = b""
        self.state = OPENING
        self.next = self.high = 0
        self.held_until = 0.0
        self.acked = -1
        self.pongs = 0
        self.parked = False
        self.wants_write = True
        self.welcome = False
        self.sent_at = array("d")
        self.sock: socket.socket | ssl.SSLSocket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.sock.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self.sock.setsockopt(socket.IPPROTO_IP, socket.IP_BIND_ADDRESS_NO_PORT, 1)
        self.sock.bind((f"127.0.0.{2 + number // DEVICES_PER_ADDRESS}", 0))
        self._send = self.sock.send
        self.fd = self.sock.fileno()

    def close(self) -> None:
        """Close the socket; ``fd`` is negative from now on."""
        self.fd = -1
        self.sock.close()

    def connect(self, port: int) -> None:
        """Begin to connect."""
        self.started = monotonic()
        self.sock.connect_ex(("127.0.0.1", port))

    def opening(self) -> None:
        """Go on with the TCP connection, TLS or the upgrade, as far as the socket allows.

        Raises:
            OSError: the server refused.
        """
        if self.state == OPENING:
            error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, os.strerror(error))
            if self._context is not None:
                self.sock = self._context.wrap_socket(self.sock, do_handshake_on_connect=False)
                self._send = self.sock.send
            self.state = SHAKING
        if self.state == SHAKING and self._shaken():
            self.state = UPGRADING
            self._put(self._request)
        elif self.state == UPGRADING:
            self._upgrade(self._read())

    def _shaken(self) -> bool:
        if not isinstance(self.sock, ssl.SSLSocket):
            return True
        try:
            self.sock.do_handshake()
        except ssl.SSLWantReadError:
            self.wants_write = False
            return False
        except ssl.SSLWantWriteError:
            self.wants_write = True
            return False
        return True

    def _upgrade(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        if b" 101 " not in head.split(b"\r\n", 1)[0]:
            raise OSError(f"no upgrade: {head[:200]!r}")
        self.state = OPEN
        self._buffer = b""
        if rest:
            self._take(rest)

    def send(self, frame: bytes) -> bool:
        """Send message ``next``, which grows; whether the socket took it whole. ``high`` is the first never sent."""
        if self.next == self.high:
            self.sent_at.append(monotonic())
            self.high += 1
        self.next += 1
        self._put(frame)
        return not self.wants_write

    @property
    def behind(self) -> bool:
        """It has messages to send again."""
        return self.next < self.high

    def _put(self, frame: bytes) -> None:
        try:
            sent = self._send(frame)
        except OSError:  # full (also SSLWantWriteError), or broken: then epoll says so, and reading tells why
            sent = 0
        if sent == len(frame):
            self.wants_write = False
        else:
            self.rest = frame[sent:]
            self.wants_write = True

    def flush(self) -> None:
        """The socket takes bytes again."""
        rest, self.rest = self.rest, b""
        self._put(rest)

    def control(self, frame: bytes) -> None:
        """Send a ping or a pong, never into the middle of a message."""
        if self.rest:
            self.rest += frame
        else:
            self._put(frame)

    def readable(self) -> None:
        """Read and handle what arrived.

        Raises:
            OSError: the connection is gone.
        """
        self._take(self._read())

    def _read(self) -> bytes:
        if not isinstance(self.sock, ssl.SSLSocket):
            try:
                data = self.sock.recv(READ_SIZE)
            except BlockingIOError:
                return b""
            if not data:
                raise ConnectionResetError("closed by the server")
            return data
        parts: list[bytes] = []
        try:
            while part := self.sock.recv(READ_SIZE):
                parts.append(part)
        except ssl.SSLWantReadError:
            return b"".join(parts)
        raise ConnectionResetError("closed by the server")

    def _take(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        at, end = 0, len(data)
        while end - at >= 2:
            size, start = data[at + 1], at + 2
            if size >= 126:
                wide = 2 if size == 126 else 8
                size, start = int.from_bytes(data[start : start + wide], "big"), start + wide
            if end < start + size:
                break
            self._frame(data[at], data[start : start + size])
            at = start + size
        self._buffer = data[at:]

    def _frame(self, first: int, payload: bytes) -> None:
        if payload.startswith(ACK):
            self._acknowledged(int(payload[ACK_SEQ]))
        elif first == FIN_PING:
            self._tally.pings += 1
            self.control(client_frame(FIN_PONG, payload))
        elif first == FIN_PONG:
            self.pongs += 1
        elif payload.startswith(b'{"type":"welcome"'):
            self.welcome = True
        elif payload.startswith(b'{"type":"throttle"'):
            self._throttled(orjson.loads(payload))
        else:
            self._tally.unexpected(first, payload)

    def _throttled(self, message: dict[str, Any]) -> None:
        self.held_until = monotonic() + message["retry_after_ms"] / 1000
        self.next = message["from_seq"]
        self._tally.throttled(self, message["limit"])

    def _acknowledged(self, seq: int) -> None:
        now, sent_at, record = monotonic(), self.sent_at, self._tally.latencies.append
        for number in range(self.acked + 1, seq + 1):
            record(now - sent_at[number])
        self._tally.acked += seq - self.acked
        self._tally.acks += 1
        self._tally.last_ack_at = now
        self.acked = seq


def upgrade_request(path: str, port: int, token: str) -> bytes:
    """The opening handshake of RFC 6455, section 4.1."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
    ]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    return "\r\n".join([*lines, "", ""]).encode()
