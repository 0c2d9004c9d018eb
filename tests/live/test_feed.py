"""The live feed in this process: real sockets, a clock that ticks fast."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from gateway.devices.fleet import Fleet
from gateway.ledger import Entry, Ledger
from gateway.live import feed as module
from gateway.live.events import PIECE_BYTES
from gateway.live.feed import SEND_BUFFER, LiveFeed
from gateway.metrics import Metrics
from tests.support.peer import eventually
from tests.support.watcher import Event, events_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Mapping

    from gateway.live.changes import DeviceChange
    from gateway.live.events import Piece
    from gateway.live.viewer import Viewer

    Test = Callable[["World"], Coroutine[Any, Any, None]]
    Run = Callable[[Test], None]

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"
DEVICES = [f"device-{number}" for number in range(1000)]
TEXT = "x" * 500


class Open(RequestHandler):
    def initialize(self, live: LiveFeed) -> None:
        self.live = live

    def get(self) -> None:
        after = self.request.headers.get("Last-Event-ID")
        devices = self.get_query_arguments("device")
        self.live.open(self.detach(), HEAD, devices, None if after is None else int(after))


class Client:
    """Reads events when asked to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.number = ""
        self.received = 0
        self._events: list[Event] = []

    async def next(self) -> Event:
        while not self._events:
            block = await asyncio.wait_for(self.reader.readuntil(b"\n\n"), 10)
            self.received += len(block)
            self._events += events_of(block[:-2].decode(), self.number)
            self.number = self._events[-1].number
        return self._events.pop(0)

    async def until(self, name: str) -> Event:
        while (found := await self.next()).name != name:
            pass
        return found


class World:
    """A fleet, its live feed, and a server of it on a port."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.fleet = Fleet(Ledger())
        self.live = LiveFeed(self.fleet, self.metrics, self.totals)
        self.port = 0
        self.second = 0

    def totals(self, _states: Mapping[str, int], _viewers: int) -> dict[str, Any]:
        return {"viewers": self.live.viewers}

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[World]:
        listening, self.port = bind_unused_port()
        server = HTTPServer(Application([("/", Open, {"live": self.live})]))
        server.add_socket(listening)
        try:
            yield self
        finally:
            self.live.close()
            server.stop()

    @contextlib.asynccontextmanager
    async def watching(self, query: str = "", last: str = "", buffer: int = 1 << 16) -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=buffer)
        resumed = f"Last-Event-ID: {last}\r\n" if last else ""
        writer.write(f"GET /{query} HTTP/1.1\r\nHost: x\r\n{resumed}\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        try:
            yield Client(reader, writer)
        finally:
            writer.close()

    def viewers(self) -> list[Viewer]:
        return [viewer for feed in self.live._groups.values() for viewer in feed.viewers]

    def measure(self, device: str, **values: Any) -> None:
        now = time.time_ns()
        self.fleet.show(Entry(device, lines=1, arrived_ns=now, latest=values, time_ns=now))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a test in a world whose ticks take 5 ms."""
    monkeypatch.setattr(module, "TICK", 0.005)

    def runner(test: Test) -> None:
        async def main() -> None:
            async with World().serving() as world:
                await test(world)

        asyncio.run(asyncio.wait_for(main(), 30))

    return runner


def test_a_slow_viewer_gets_the_newest_values_and_delays_no_other(run: Run) -> None:
    async def test(world: World) -> None:
        async with world.watching(buffer=1 << 23) as slow, world.watching(buffer=1 << 23) as quick:
            await slow.until("hello")
            own = slow.writer.get_extra_info("sockname")
            [stuck] = [viewer for viewer in world.viewers() if viewer.stream.socket.getpeername() == own]
            slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
            waited = 0
            for number in range(25):
                for device in DEVICES:
                    world.measure(device, number=number, text=TEXT)
                seen: dict[str, Any] = {}
                while seen.get(DEVICES[-1], {}).get("latest", {}).get("number") != number:
                    data = (await quick.until("readings")).data
                    seen |= data["devices"]
                    assert not data["conflated"]
                waited = max(waited, len(stuck.stream._write_buffer))
            assert 0 < waited < PIECE_BYTES + 10_000, "one piece may wait, and totals"
            assert len(world.live._whole._data._numbers) == len(DEVICES)  # type: ignore[union-attr]
            slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
            newest: dict[str, Any] = {}
            marks = []
            while {shown["latest"]["number"] for shown in newest.values()} != {24} or len(newest) < len(DEVICES):
                data = (await slow.until("readings")).data
                marks.append(data["conflated"])
                newest |= data["devices"]
            assert True in marks
            assert slow.received < quick.received / 2
            assert world.metrics.live_conflated.collect()[0].samples[0].value >= 1
            world.measure("last", number=25)
            while "last" not in (data := (await slow.until("readings")).data)["devices"]:
                pass
            assert data["conflated"] is False, "who has caught up is like the others"

    run(test)


def test_the_same_bytes_go_to_all_viewers_that_are_not_behind(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    original = module.piece_of

    def counted(changes: Iterable[DeviceChange], *rest: Any) -> Generator[None, None, Piece]:
        known = list(changes)
        encoded.append(len(known))
        return original(known, *rest)

    monkeypatch.setattr(module, "piece_of", counted)

    async def test(world: World) -> None:
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(world.watching()) for _ in range(20)]
            for client in clients:
                await client.until("hello")
            for number in range(3):
                world.measure("a", number=number)
                world.measure("b", number=number)
                for client in clients:
                    found = await client.until("readings")
                    assert {d["latest"]["number"] for d in found.data["devices"].values()} == {number}
            assert encoded == [4, 2, 2]  # at first their states too

    run(test)


def test_nothing_is_kept_or_done_without_viewers(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 0.05)

    async def test(world: World) -> None:
        assert world.fleet.watcher is None
        for query in ("", "?device=a"):
            async with world.watching(query) as client:
                await client.until("hello")
                world.measure("a", number=1)
                await client.until("readings")
            await eventually(lambda: world.fleet.watcher is None, "the feed to rest")
            assert (world.live._groups, world.live._chosen, world.live._whole) == ({}, {}, None)
            assert world.live._timer is None

    run(test)


def test_changes_are_kept_for_a_while_for_viewers_that_reconnect(run: Run) -> None:
    async def test(world: World) -> None:
        async with world.watching() as client:
            world.measure("a", number=1)
            last = (await client.until("readings")).number
        await eventually(lambda: world.live.viewers == 0, "the viewer to be gone")
        later = world.live._ticks + 5
        await eventually(lambda: world.live._ticks > later, "some ticks")
        world.measure("b", number=2)
        async with world.watching(last=last) as client:
            found = (await client.until("readings")).data
        assert (set(found["devices"]), found["conflated"]) == ({"b"}, False)

    run(test)


def test_a_large_fleet_comes_in_pieces_and_only_the_last_has_the_number_of_the_end(run: Run) -> None:
    async def test(world: World) -> None:
        async with world.watching(buffer=1 << 22) as client:
            hello = await client.until("hello")
            for device in DEVICES:
                world.measure(device, text=TEXT)
            first = await client.until("readings")
            assert len(first.data["devices"]) < len(DEVICES)
        async with world.watching(last=first.number, buffer=1 << 22) as client:
            rest = await client.until("readings")
            while len(rest.data["devices"]) < len(DEVICES) - len(first.data["devices"]):
                rest.data["devices"].update((await client.until("readings")).data["devices"])
        assert not set(first.data["devices"]) & set(rest.data["devices"])
        assert int(hello.number) < int(first.number) < int(rest.number)

    run(test)


def test_a_round_that_fails_does_not_end_the_feed(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def test(world: World) -> None:
        async with world.watching() as client:
            await client.until("hello")
            broken, world.totals = world.totals, lambda _states, _viewers: {}["no"]  # type: ignore[method-assign]
            world.live._totals = world.totals
            await eventually(lambda: "round failed" in caplog.text, "a round to fail")
            world.live._totals = broken
            world.measure("a", number=1)
            assert (await client.until("readings")).data["devices"]["a"]["latest"] == {"number": 1}

    run(test)


def test_there_is_an_end_to_viewers_and_a_stop_to_all(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_VIEWERS", 2)

    async def test(world: World) -> None:
        async with world.watching() as first, world.watching("?device=a"):
            await eventually(lambda: world.live.viewers == 2, "two viewers")
            assert world.live.full
            world.live.close()
            with pytest.raises(asyncio.IncompleteReadError):
                while True:
                    await first.next()
            assert (world.live.full, world.live.viewers, world.fleet.watcher) == (True, 0, None)

    run(test)


def test_heartbeats_come(run: Run) -> None:
    async def test(world: World) -> None:
        async with world.watching() as client:
            assert (await client.until("comment")).data == "heartbeat"

    run(test)


def test_what_waits_in_the_kernel_is_bounded(run: Run) -> None:
    async def test(world: World) -> None:
        async with world.watching() as client:
            await client.until("hello")
            [viewer] = world.viewers()
            size = viewer.stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
            assert size <= 2 * SEND_BUFFER  # Linux doubles it for its own use (socket(7))

    run(test)
