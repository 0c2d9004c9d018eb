"""The order and the bounds of admission, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from gateway.http import admission
from gateway.http.admission import ADMITTED_PER_TURN, Admission
from tests.support.modes import LOOPS, new_event_loop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Run = Callable[..., None]

PATIENCE = 10.0


class Refusing(socket.socket):
    """Fails for want of files for the next ``failures`` connections."""

    failures = 0

    def accept(self) -> tuple[socket.socket, Any]:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


class World:
    """An `Admission` and what it admitted: ``turns`` has the turn of the loop of each. It fails ``broken`` times."""

    def __init__(self, clients: contextlib.ExitStack, failures: int, **bounds: Any) -> None:
        self._clients = clients
        self._turn = 0
        self.turns: list[int] = []
        self.admitted: list[socket.socket] = []
        self.sources: list[str] = []
        self.turned_away = 0
        self.broken = 0
        self.changed = asyncio.Event()
        listening = clients.enter_context(Refusing(socket.AF_INET, socket.SOCK_STREAM))
        listening.bind(("127.0.0.1", 0))
        listening.listen(200)
        listening.setblocking(False)
        listening.failures = failures
        self.address = listening.getsockname()
        self.admission = Admission(listening, self._admit, self._turn_away, **bounds)
        self._tick()

    def _tick(self) -> None:
        self._turn += 1
        self._ticking = asyncio.get_running_loop().call_soon(self._tick)

    def _admit(self, connection: socket.socket, address: Any) -> None:
        assert not connection.getblocking()
        if self.broken:
            self.broken -= 1
            raise AssertionError("a bug")
        self.admitted.append(self._clients.enter_context(connection))
        self.sources.append(address[0])
        self.turns.append(self._turn)
        self.changed.set()

    def _turn_away(self) -> None:
        self.turned_away += 1
        self.changed.set()

    def client(self, said: bytes = b"", source: str = "127.0.0.1") -> socket.socket:
        made = self._clients.enter_context(socket.create_connection(self.address, PATIENCE, (source, 0)))
        made.sendall(said)
        return made

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    def close(self) -> None:
        self._ticking.cancel()
        self.admission.close()


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    def runs(test: Callable[[World], Awaitable[None]], failures: int = 0, **bounds: Any) -> None:
        async def main() -> None:
            with contextlib.ExitStack() as clients:
                world = World(clients, failures, **bounds)
                try:
                    await test(world)
                finally:
                    world.close()

        with asyncio.Runner(loop_factory=lambda: new_event_loop(request.param)) as runner:
            runner.run(main())

    return runs


def gone(client: socket.socket) -> bool:
    """Whether the other side has closed."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_silent_connection_waits_and_does_not_delay_others(run: Run) -> None:
    async def test(world: World) -> None:
        silent = world.client()
        world.client(b"first")
        await world.until(lambda: len(world.admitted) == 1)
        assert world.admitted[0].recv(10) == b"first"
        silent.sendall(b"second")
        await world.until(lambda: len(world.admitted) == 2)
        assert world.admitted[1].recv(10) == b"second"

    run(test)


def test_only_a_few_connections_are_admitted_in_one_turn_of_the_loop(run: Run) -> None:
    async def test(world: World) -> None:
        clients = [world.client() for _ in range(100)]
        for client in clients:
            client.sendall(b"x")
        await world.until(lambda: len(world.admitted) == 100)
        assert max(world.turns.count(turn) for turn in world.turns) <= ADMITTED_PER_TURN

    run(test)


def test_silent_connections_time_out_and_others_do_not(run: Run) -> None:
    async def test(world: World) -> None:
        silent = [world.client() for _ in range(3)]
        world.client(b"x")
        await world.until(lambda: len(world.admitted) == 1)
        closed = [await asyncio.to_thread(gone, client) for client in silent]
        assert closed == [True] * 3
        world.admitted[0].send(b"still there")

    run(test, silent_seconds=0.1)


def test_of_too_many_silent_ones_the_oldest_of_the_largest_crowd_gives_way(run: Run) -> None:
    async def test(world: World) -> None:
        other = world.client(source="127.0.0.2")
        crowd = [world.client() for _ in range(3)]
        await world.until(lambda: world.turned_away == 1)
        assert await asyncio.to_thread(gone, crowd[0])
        world.client(b"new", source="127.0.0.3")
        await world.until(lambda: len(world.admitted) == 1)
        assert world.turned_away == 2
        assert await asyncio.to_thread(gone, crowd[1])
        for client in (other, crowd[2]):
            client.sendall(b"x")
        await world.until(lambda: len(world.admitted) == 3)
        assert sorted(world.sources) == ["127.0.0.1", "127.0.0.2", "127.0.0.3"]

    run(test, max_silent=3)


def test_of_too_many_that_wait_for_their_turn_one_of_the_largest_crowd_gives_way(run: Run) -> None:
    async def test(world: World) -> None:
        for client in [world.client() for _ in range(100)] + [world.client(source=f"127.0.0.{n}") for n in (2, 3)]:
            client.sendall(b"x")
        await world.until(lambda: len(world.admitted) + world.turned_away == 102)
        assert world.turned_away > 0
        assert {"127.0.0.2", "127.0.0.3"} < set(world.sources)

    run(test, max_ready=10)


def test_the_queue_knows_its_largest_network_across_random_changes() -> None:
    random, queue = Random(1), admission.FairQueue()
    waiting: list[tuple[Any, Any]] = []
    for number in range(3000):
        if waiting and random.random() < 0.3 + 0.4 * (number % 1000 > 500):
            found = queue.oldest_of_largest() if random.random() < 0.5 else random.choice(waiting)
            waiting.remove(found)
            queue.remove(*found)
        else:
            waiting.append((number, (f"127.0.0.{random.randrange(9)}", 0)))
            queue.add(*waiting[-1])
        assert len(queue) == len(waiting)
        if waiting:
            crowds = Counter(address for _, address in waiting)
            oldest, address = queue.oldest_of_largest()
            assert crowds[address] == max(crowds.values())
            assert oldest == min(n for n, other in waiting if other == address)


def test_accepting_resumes_when_there_are_files_again(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(admission, "PAUSE_SECONDS", 0.05)

    async def test(world: World) -> None:
        world.client(b"x")
        await world.until(lambda: len(world.admitted) == 1)

    run(test, failures=2)
    assert [record.message for record in caplog.records] == [
        "no more connections can be accepted for now: [Errno 24] Too many open files"
    ] * 2


def test_a_connection_that_cannot_be_admitted_does_not_keep_out_others(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(world: World) -> None:
        world.broken = 1
        clients = [world.client() for _ in range(10)]
        for client in clients:
            client.sendall(b"x")
        await world.until(lambda: len(world.admitted) == 9)
        world.client(b"x")
        await world.until(lambda: len(world.admitted) == 10)

    run(test)
    assert caplog.text.count("could not be admitted") == 1


def test_a_connection_that_ends_without_a_byte_is_admitted(run: Run) -> None:
    async def test(world: World) -> None:
        world.client().close()
        await world.until(lambda: len(world.admitted) == 1)
        assert world.admitted[0].recv(1) == b""

    run(test)


def test_closing_admission_closes_all_waiting_connections(run: Run) -> None:
    async def test(world: World) -> None:
        silent = [world.client() for _ in range(3)]
        world.client(b"x")
        await world.until(lambda: len(world.admitted) == 1)
        world.admission.close()
        assert all([await asyncio.to_thread(gone, client) for client in silent])
        with pytest.raises(ConnectionRefusedError):
            world.client()

    run(test)


def test_many_connections_from_one_address_do_not_delay_another_address(run: Run) -> None:
    async def test(world: World) -> None:
        clients = [world.client() for _ in range(100)] + [world.client(source=f"127.0.0.{n}") for n in (2, 3)]
        for client in clients:
            client.sendall(b"x")
        await world.until(lambda: len(world.admitted) == 102)
        places = [world.sources.index(f"127.0.0.{n}") for n in (2, 3)]
        assert max(places) < 100 - ADMITTED_PER_TURN

    run(test)


def test_an_address_that_may_not_connect_is_closed_at_once(run: Run) -> None:
    async def test(world: World) -> None:
        refused = world.client(b"x", source="127.0.0.2")
        world.client(b"x")
        await world.until(lambda: len(world.admitted) == 1)
        assert await asyncio.to_thread(gone, refused)
        assert world.sources == ["127.0.0.1"]
        assert world.turned_away == 0

    run(test, may_connect=lambda address: address != "127.0.0.2")
