from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING

from gateway.server import backpressure
from gateway.server.backpressure import PATIENCE, SLICE, Backpressure

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    import pytest


class Spool:
    """Congested or not, as the test says."""

    def __init__(self) -> None:
        self.congested = True
        self.eased: Callable[[], None] = lambda: None

    def ease(self) -> None:
        self.congested = False
        self.eased()


class Sender:
    def __init__(self, name: int, resumed: list[int]) -> None:
        self.name = name
        self.paused = False
        self.reading = True
        self.last_byte_at = 0.0
        self.told = 0
        self.heard = asyncio.Event()
        self._resumed = resumed

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        assert not self.paused
        self.reading = True
        self._resumed.append(self.name)

    def tell_paused(self) -> None:
        assert not self.reading
        self.told += 1
        self.heard.set()


class World:
    def __init__(self, senders: int) -> None:
        self.spool = Spool()
        self.counted = 0
        self.resumed: list[int] = []
        self.line = Backpressure(self.spool, self.count)
        self.senders = [Sender(n, self.resumed) for n in range(senders)]
        for sender in self.senders:
            self.line.pause(sender)

    def count(self) -> None:
        self.counted += 1


async def turn() -> None:
    """One turn of the event loop, with all that was due."""
    await asyncio.sleep(0)


def on_a_loop(test: Callable[[], Coroutine[None, None, None]]) -> Callable[[], None]:
    @functools.wraps(test)
    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), 20))

    return run


@on_a_loop
async def test_who_sends_is_paused_once_and_counted() -> None:
    world = World(3)
    world.line.pause(world.senders[1])
    assert [sender.reading for sender in world.senders] == [False] * 3
    assert (world.counted, len(world.line)) == (3, 3)
    world.line.stop()


@on_a_loop
async def test_all_are_resumed_in_order_a_slice_in_each_turn() -> None:
    world = World(2 * SLICE + 1)
    world.spool.ease()
    assert world.resumed == list(range(SLICE))
    await turn()
    assert world.resumed == list(range(2 * SLICE))
    await turn()
    assert world.resumed == list(range(2 * SLICE + 1))
    assert len(world.line) == 0
    assert world.senders[0].last_byte_at > 0, "it may have sent all the while"


@on_a_loop
async def test_no_more_are_resumed_once_it_is_congested_again_and_newcomers_stand_behind() -> None:
    world = World(SLICE + 2)
    world.spool.ease()
    world.spool.congested = True
    world.line.pause(world.senders[0])
    await turn()
    assert world.resumed == list(range(SLICE))
    world.spool.ease()
    assert world.resumed[SLICE:] == [SLICE, SLICE + 1, 0]


@on_a_loop
async def test_what_eases_again_while_the_line_goes_on_does_not_hurry_it() -> None:
    world = World(4 * SLICE)
    world.spool.ease()
    world.spool.ease()
    assert world.resumed == list(range(2 * SLICE))
    await turn()
    assert world.resumed == list(range(3 * SLICE))
    await turn()
    assert world.resumed == list(range(4 * SLICE))


@on_a_loop
async def test_a_closed_one_leaves_the_line() -> None:
    world = World(3)
    world.line.forget(world.senders[1])
    world.line.forget(Sender(9, world.resumed))
    world.spool.ease()
    assert world.resumed == [0, 2]


@on_a_loop
async def test_at_a_stop_nobody_is_resumed() -> None:
    """The gateway has paused them all for good; what they send now nobody would acknowledge."""
    world = World(2 * SLICE)
    world.spool.ease()
    world.line.stop()
    await turn()
    world.spool.ease()
    world.line.pause(late := Sender(999, world.resumed))
    assert world.resumed == list(range(SLICE))
    assert late.reading
    assert len(world.line) == 0


def test_who_waits_long_is_told_once_and_still_resumed_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backpressure, "PATIENCE", 0.05)

    async def main() -> None:
        world = World(SLICE + 3)
        await world.senders[-1].heard.wait()
        world.line.pause(late := Sender(999, world.resumed))
        world.line.forget(world.senders[0])
        await asyncio.sleep(0.03)
        world.line.pause(later := Sender(1000, world.resumed))
        await late.heard.wait()
        assert ({sender.told for sender in world.senders}, later.told) == ({1}, 0), "each has its own second"
        world.spool.ease()
        await turn()
        assert world.resumed == [*range(1, SLICE + 3), 999, 1000]

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_device_is_told_after_about_a_second() -> None:
    assert 0.5 <= PATIENCE <= 1.5
