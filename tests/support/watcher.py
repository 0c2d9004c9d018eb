"""A viewer of the live feed who reads the bytes of the stream himself, when he likes."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import time
import urllib.parse
from typing import TYPE_CHECKING, Any, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 10.0


class Event(NamedTuple):
    """One event; ``number`` is the id of the stream after it. Comments are events of the name ``comment``."""

    name: str
    data: Any
    number: str


def events_of(block: str, number: str) -> Iterator[Event]:
    """The events of one block, as WHATWG HTML, 9.2.6 has them read, as far as the gateway uses it."""
    name, data = "message", []
    for line in block.split("\n"):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "":
            yield Event("comment", value, number)
        elif field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            number = value
    yield Event(name if data else "", json.loads("\n".join(data)) if data else None, number)


class Watcher:
    """One request for the feed of the gateway at ``url``; ``receive_buffer`` bounds what the kernel takes for him."""

    def __init__(
        self, url: str, query: str = "", *, last: str | None = None, receive_buffer: int | None = None
    ) -> None:
        target = urllib.parse.urlsplit(url)
        self._socket = socket.socket()
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(PATIENCE)
        self._socket.connect((str(target.hostname), target.port))
        if target.scheme == "https":
            self._socket = ssl.create_default_context().wrap_socket(self._socket, server_hostname=target.hostname)
        resumed = "" if last is None else f"Last-Event-ID: {last}\r\n"
        request = f"GET /v1/live{query} HTTP/1.1\r\nHost: {target.hostname}:{target.port}\r\n{resumed}\r\n"
        self._socket.sendall(request.encode())
        self._rest = b""
        self._events: list[Event] = []
        self.number = ""
        self.received = 0
        self.head = self._until(b"\r\n\r\n").decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _until(self, end: bytes) -> bytes:
        while end not in self._rest:
            data = self._socket.recv(1 << 16)
            if not data:
                raise EOFError(self._rest)
            self.received += len(data)
            self._rest += data
        block, _, self._rest = self._rest.partition(end)
        return block

    @property
    def status(self) -> int:
        """Of the answer."""
        return int(self.head.split(" ", 2)[1])

    def next(self) -> Event:
        """The next event."""
        while not self._events:
            self._events += events_of(self._until(b"\n\n").decode(), self.number)
            self.number = self._events[-1].number
        return self._events.pop(0)

    def until(self, name: str, seconds: float = PATIENCE) -> Event:
        """The next event of that name; others are passed over."""
        deadline = time.monotonic() + seconds
        while (found := self.next()).name != name:
            assert time.monotonic() < deadline, f"no {name} within {seconds} s"
        return found

    def device(self, device: str) -> dict[str, Any]:
        """What the next event with readings of ``device`` says of it."""
        while device not in (devices := self.until("readings").data["devices"]):
            pass
        return dict(devices[device])

    def ended(self) -> bool:
        """Whether the stream ends, whatever comes before that."""
        with contextlib.suppress(EOFError):
            while True:
                self.next()
        return True
