"""Which connection gives way and when, without sockets; `test_listener` uses real ones."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from gateway.http.connection_bounds import ConnectionBounds, RequestTurns

if TYPE_CHECKING:
    from collections.abc import Callable


class Connection:
    """A connection and its stream in one."""

    def __init__(self, *, writing: bool = False) -> None:
        self.stream: Any = self
        self.is_writing = writing
        self.closed = False

    def writing(self) -> bool:
        return self.is_writing

    def close(self) -> None:
        self.closed = True


def world(test: Callable[[ConnectionBounds, list[str]], None], **bounds: Any) -> None:
    async def main() -> None:
        cut: list[str] = []
        connections = ConnectionBounds(cut.append, **bounds)
        test(connections, cut)
        connections.stop()

    asyncio.run(main())


def test_bodies_under_way_have_a_bound_in_bytes() -> None:
    def test(connections: ConnectionBounds, cut: list[str]) -> None:
        first, without, second = Connection(), Connection(), Connection()
        known: Any
        for known in (first, without, second):
            connections.request_expected(known)
        connections.body_received(first, 60)  # type: ignore[arg-type]
        connections.body_received(second, 40)  # type: ignore[arg-type]
        assert cut == []
        connections.body_received(second, 1)  # type: ignore[arg-type]
        assert (first.closed, without.closed, second.closed) == (True, False, False)
        assert cut == ["gave_way"]
        connections.request_complete(second)  # type: ignore[arg-type]
        third: Any = Connection()
        connections.request_expected(third)
        connections.body_received(third, 100)
        assert not third.closed, "what is whole is no body under way any more"
        connections.body_received(third, 1)
        assert third.closed
        assert len(connections) == 2

    world(test, max_bytes=100)


def test_discarded_bytes_of_a_body_do_not_count() -> None:
    def test(connections: ConnectionBounds, cut: list[str]) -> None:
        half, stranger, large = Connection(), Connection(), Connection()
        known: Any
        for known in (half, stranger, large):
            connections.request_expected(known)
        connections.body_received(half, 40)  # type: ignore[arg-type]
        connections.limit_kept_body(stranger, 0)  # type: ignore[arg-type]
        connections.limit_kept_body(large, 50)  # type: ignore[arg-type]
        for known in (stranger, large) * 20:
            connections.body_received(known, 25)
        assert cut == []
        connections.request_complete(large)  # type: ignore[arg-type]
        connections.request_expected(stranger)  # type: ignore[arg-type]
        connections.body_received(stranger, 61)  # type: ignore[arg-type]
        assert half.closed, "the next request of a connection is one like any other"

    world(test, max_bytes=100)


def test_an_answer_that_is_taken_and_one_that_is_made_keep_their_places() -> None:
    def test(connections: ConnectionBounds, cut: list[str]) -> None:
        working: Any = Connection()
        connections.request_expected(working)
        connections.request_complete(working)
        assert not connections.make_room()
        working.is_writing = True
        assert connections.make_room()
        assert (working.closed, cut, len(connections)) == (True, ["gave_way"], 0)

    world(test, max_connections=1)


def test_the_next_request_of_a_connection_counts_as_the_newest() -> None:
    def test(connections: ConnectionBounds, _cut: list[str]) -> None:
        kept, half = Connection(), Connection()
        known: Any
        for known in (kept, half):
            connections.request_expected(known)
        known = kept
        connections.request_complete(known)
        connections.request_expected(known)
        assert connections.make_room()
        assert (kept.closed, half.closed) == (False, True)

    world(test, max_connections=2)


def test_few_are_begun_in_a_turn_and_first_requests_go_before_further_ones() -> None:
    async def main() -> None:
        turns, begun = RequestTurns(2), []

        def ask(name: str, *, first: bool) -> None:
            turn = turns.take(first=first)
            if turn is None:
                begun.append(name)
            else:
                turn.add_done_callback(lambda _: begun.append(name))

        for number in range(5):
            ask(f"further {number}", first=False)
        ask("first", first=True)
        assert begun == ["further 0", "further 1"]
        seen = []
        while len(begun) < 6:
            await asyncio.sleep(0)
            seen.append(len(begun))
        assert begun[2:] == ["first", "further 2", "further 3", "further 4"]
        assert all(later - before <= 2 for before, later in zip([2, *seen], seen, strict=False))
        for _ in range(3):
            await asyncio.sleep(0)
        assert turns._next is None, "nothing is done while nobody asks"

    asyncio.run(main())


def test_a_request_that_gave_up_waiting_takes_no_turn() -> None:
    async def main() -> None:
        turns = RequestTurns(1)
        assert turns.take(first=True) is None
        gone, waits = turns.take(first=True), turns.take(first=True)
        assert gone is not None
        assert waits is not None
        gone.cancel()
        await asyncio.wait_for(waits, 1)

    asyncio.run(main())
