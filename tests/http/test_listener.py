"""The bounds of HTTP connections, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any

import pytest
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

from gateway.config.units import ListenAddress
from gateway.errors import GatewayError
from gateway.http.connection_bounds import ConnectionBounds
from gateway.http.listener import Listener, listening_sockets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.http.connection_bounds import CutReason

REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
UPGRADE = (
    b"GET /socket HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
WAIT = 10.0


class Hello(RequestHandler):
    def get(self) -> None:
        self.finish("hello")

    def post(self) -> None:
        self.finish(self.request.body)


class Late(RequestHandler):
    """Answers when it may."""

    waiting = 0
    over = asyncio.Event()

    async def get(self) -> None:
        Late.waiting += 1
        await Late.over.wait()
        self.finish("late")


class Counted(RequestHandler):
    """Counts its requests."""

    times = 0

    def get(self) -> None:
        Counted.times += 1


class Long(RequestHandler):
    """Answers more than a socket holds."""

    def get(self) -> None:
        self.finish(b"x" * 16 * 1024**2)


class Socket(WebSocketHandler):
    def on_message(self, message: str | bytes) -> None:
        pass


class World:
    """A listener, and clients of it."""

    def __init__(self, **bounds: Any) -> None:
        self.turned_away = 0
        self.cut: list[CutReason] = []
        self.writers: list[asyncio.StreamWriter] = []
        application = Application(
            [("/", Hello), ("/late", Late), ("/counted", Counted), ("/long", Long), ("/socket", Socket)],
            log_function=lambda _: None,
        )
        times = {name: bounds.pop(name) for name in ("body_timeout", "idle_timeout") if name in bounds}
        self.bounds = ConnectionBounds(self.cut.append, **bounds)
        self.server = Listener(application, on_turned_away=self._count, bounds=self.bounds, **times)
        sockets = bind_sockets(0, "127.0.0.1")
        self.port = sockets[0].getsockname()[1]
        self.server.add_sockets(sockets)

    def _count(self) -> None:
        self.turned_away += 1

    @property
    def connected(self) -> int:
        return len(self.bounds)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT):
            while not condition():  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.01)

    async def ask_and_read_slowly(self) -> None:
        """Have an answer under way that is not read; on a busy machine it may have been cut by then."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", self.port))
        _, writer = await asyncio.open_connection(sock=sock, limit=1024)
        self.writers.append(writer)
        writer.write(REQUEST.replace(b"/", b"/long", 1))
        await self.until(lambda: bool(self.cut) or any(known.stream.writing() for known in self.bounds._answered))

    async def ask(self, request: bytes) -> tuple[bytes, asyncio.StreamWriter]:
        """The first bytes of the answer; none when the connection was closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        writer.write(request)
        try:
            async with asyncio.timeout(WAIT):
                return await reader.read(1024), writer
        except ConnectionResetError:
            return b"", writer


def run(test: Callable[[World], Awaitable[None]], **bounds: Any) -> None:
    async def main() -> None:
        world = World(**bounds)
        Late.waiting, Late.over, Counted.times = 0, asyncio.Event(), 0
        try:
            await test(world)
        finally:
            for writer in world.writers:
                writer.close()
            world.server.stop()
            await world.server.close_all_connections()

    asyncio.run(main())


def test_the_oldest_incomplete_request_gives_way() -> None:
    async def test(world: World) -> None:
        half = [asyncio.create_task(world.ask(REQUEST[:n])) for n in (4, 8)]
        await world.until(lambda: world.connected == 2)
        assert (await world.ask(REQUEST))[0].startswith(b"HTTP/1.1 200")
        assert (await half[0])[0] == b""
        assert (await world.ask(REQUEST))[0].startswith(b"HTTP/1.1 200")
        assert (await half[1])[0] == b""
        assert world.cut == ["gave_way"] * 2
        assert world.turned_away == 0

    run(test, max_connections=2)


def test_what_is_being_answered_stays_and_one_too_many_is_closed() -> None:
    async def test(world: World) -> None:
        waiting = [asyncio.create_task(world.ask(REQUEST.replace(b"/", b"/late", 1))) for _ in range(2)]
        await world.until(lambda: Late.waiting == 2)
        assert (await world.ask(REQUEST))[0] == b""
        assert world.turned_away == 1
        Late.over.set()
        for task in waiting:
            assert (await task)[0].startswith(b"HTTP/1.1 200")
        assert (await world.ask(REQUEST))[0].startswith(b"HTTP/1.1 200")

    run(test, max_connections=2)


def test_a_client_that_does_not_take_an_answer_in_time_is_closed() -> None:
    async def test(world: World) -> None:
        await world.ask_and_read_slowly()
        await world.until(lambda: world.cut == ["slow_reader"])
        assert world.connected == 0

    run(test, answer_seconds=0.2)


def test_a_client_that_does_not_take_an_answer_gives_way() -> None:
    async def test(world: World) -> None:
        await world.ask_and_read_slowly()
        assert (await world.ask(REQUEST))[0].startswith(b"HTTP/1.1 200")
        assert world.cut == ["gave_way"]

    run(test, max_connections=1)


def test_requests_of_a_client_that_is_gone_are_not_processed() -> None:
    async def test(world: World) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", world.port)
        writer.write(REQUEST.replace(b"/", b"/late", 1) + REQUEST.replace(b"/", b"/counted", 1) * 50)
        await world.until(lambda: Late.waiting == 1)
        writer.transport.abort()
        await asyncio.sleep(0)
        Late.over.set()
        await world.until(lambda: world.connected == 0)
        assert Counted.times <= 2, "but for what was begun before it was seen"

    run(test)


def test_half_a_header_is_not_waited_for() -> None:
    async def test(world: World) -> None:
        assert (await world.ask(REQUEST[:-2]))[0] == b""
        assert world.cut == []

    run(test, idle_timeout=0.1)


def test_a_device_counts_as_a_connection_until_its_handshake_is_done() -> None:
    async def test(world: World) -> None:
        sockets = [await world.ask(UPGRADE) for _ in range(3)]
        assert all(answer.startswith(b"HTTP/1.1 101") for answer, _ in sockets)
        assert (await world.ask(REQUEST))[0].startswith(b"HTTP/1.1 200")
        assert world.turned_away == 0

    run(test, max_connections=1)


def test_half_a_body_is_not_waited_for() -> None:
    async def test(world: World) -> None:
        half = await world.ask(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nab")
        assert half[0] == b""
        whole = await world.ask(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nabcd")
        assert whole[0].endswith(b"\r\n\r\nabcd")

    run(test, body_timeout=0.1)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_socket_that_is_open_to_the_network_is_not_taken_for_loopback(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as held:
        assert listening_sockets(ListenAddress("0.0.0.0", 8080), [held]) == [held]
        with pytest.raises(GatewayError, match=r"server\.listen is 127\.0\.0\.1:8080"):
            listening_sockets(ListenAddress("127.0.0.1", 8080), [held])


def test_without_one_the_address_of_the_configuration_counts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        assert listening_sockets(ListenAddress("127.0.0.1", 8080), [held]) == [held]
    with contextlib.ExitStack() as stack:
        (made,) = (stack.enter_context(sock) for sock in listening_sockets(ListenAddress("127.0.0.1", 0)))
        assert made.getsockname()[0] == "127.0.0.1"
