"""A gateway of a few lines for the simulator's tests, on PyPI's websockets: it acks, or does what a test scripts.

It is no model of the gateway: it knows just enough of the protocol to answer, and remembers what it was sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import websockets
from websockets.asyncio.server import ServerConnection, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from websockets.http11 import Request, Response

LIMITS = {"max_message_bytes": 65536, "max_unacked": 1000, "readings_per_second": 200, "burst": 2000}
KEEPALIVE = {"ping_interval_ms": 20000, "timeout_ms": 30000}


@dataclass
class Conversation:
    """One connection of a device."""

    peer: Peer
    socket: ServerConnection
    device: str
    number: int
    boot: str = ""

    @property
    def last_seq(self) -> int | None:
        """What the peer has taken of this boot."""
        return self.peer.taken.get((self.device, self.boot))

    async def say(self, **message: Any) -> None:
        """Send one message."""
        with contextlib.suppress(websockets.ConnectionClosed):
            await self.socket.send(json.dumps(message))

    async def welcome(self, **over: Any) -> None:
        """The welcome that answers a hello."""
        message = {"session": "s", "server_time": 0, "boot": self.boot, "last_seq": self.last_seq, "ack": "durable"}
        await self.say(
            type="welcome", **{**message, "keepalive": self.peer.keepalive, "limits": self.peer.limits, **over}
        )

    async def take(self, message: dict[str, Any], *, ack: bool = True) -> None:
        """Take a numbered message as the gateway would, and acknowledge it."""
        seq = message["seq"]
        key = (self.device, self.boot)
        if seq > self.peer.taken.get(key, -1):
            self.peer.taken[key] = seq
            self.peer.stored.append((self.device, message))
        else:
            self.peer.duplicates += 1
        if ack:
            await self.say(type="ack", seq=self.peer.taken[key])

    def vanish(self) -> None:
        """Cut the connection without a close frame."""
        self.socket.transport.abort()


async def obliging(talk: Conversation, message: dict[str, Any]) -> None:
    """The behaviour of a gateway with nothing on its mind."""
    if message.get("type") == "hello":
        talk.boot = message["boot"]
        await talk.welcome()
    else:
        await talk.take(message)


@dataclass
class Peer:
    """``behave`` is called with each message; ``admit`` may answer a handshake with an HTTP response."""

    behave: Callable[[Conversation, dict[str, Any]], Awaitable[None]] = obliging
    admit: Callable[[ServerConnection, Request], Response | None] = lambda _connection, _request: None
    limits: dict[str, int] = field(default_factory=lambda: dict(LIMITS))
    keepalive: dict[str, int] = field(default_factory=lambda: dict(KEEPALIVE))
    taken: dict[tuple[str, str], int] = field(default_factory=dict)
    stored: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    duplicates: int = 0
    connections: list[Conversation] = field(default_factory=list)
    closes: list[int | None] = field(default_factory=list)
    subprotocols: list[str] = field(default_factory=lambda: ["telemetry.v1.json"])
    url: str = ""

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Peer]:
        """Listen on a free port of loopback."""
        server = await serve(
            self._converse,
            "127.0.0.1",
            0,
            subprotocols=[websockets.Subprotocol(name) for name in self.subprotocols],
            select_subprotocol=self._select,
            process_request=self._admit,
            ping_interval=None,
            close_timeout=1,
        )
        async with server:
            self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield self

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.path == "/metrics":
            return connection.respond(http.HTTPStatus.OK, "process_cpu_seconds_total 1.5\n")
        return self.admit(connection, request)

    def _select(self, _connection: ServerConnection, offered: Sequence[websockets.Subprotocol]) -> Any:
        return next((name for name in offered if name in self.subprotocols), None)

    async def _converse(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        device = socket.request.path.removeprefix("/v1/devices/").removesuffix("/stream")
        talk = Conversation(self, socket, device, len(self.connections))
        self.connections.append(talk)
        with contextlib.suppress(websockets.ConnectionClosed):
            async for text in socket:
                await self.behave(talk, json.loads(text))
        self.closes.append(socket.close_code)


async def eventually(condition: Callable[[], Any], what: str, seconds: float = 10.0) -> None:
    """Wait until ``condition`` holds."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - the condition is the simulator's state, which has no event
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"waited {seconds} s for {what}") from None
