from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING

import pytest

from gateway.devices import backpressure
from gateway.devices.backpressure import CALM, LIVE_WEIGHT, MESSAGE_BYTES, PATIENCE, SLICE, TURNS, Backpressure

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class Spool:
    """Congested or not, as the test says."""

    def __init__(self, headroom: int = 10**9) -> None:
        self.congested = self.scarce = True
        self.headroom = headroom
        self.queued_bytes = headroom
        self.eased: Callable[[], None] = lambda: None

    def ease(self) -> None:
        self.congested = False
        self.eased()


class Sender:
    def __init__(self, name: int, resumed: list[int]) -> None:
        self.name = name
        self.paused = False
        self.late = False
        self.reading = True
        self.last_byte_at = 0.0
        self.told = 0
        self.heard = asyncio.Event()
        self.resumed = asyncio.Event()
        self._resumed = resumed

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        assert not self.paused
        self.reading = True
        self._resumed.append(self.name)
        self.resumed.set()

    def tell_paused(self) -> None:
        assert not self.reading
        self.told += 1
        self.heard.set()


class World:
    def __init__(self, senders: int, headroom: int = 10**9) -> None:
        self.spool = Spool(headroom)
        self.counted = 0
        self.resumed: list[int] = []
        self.line = Backpressure(self.spool, self.count)
        self.senders = [Sender(n, self.resumed) for n in range(senders)]
        for sender in self.senders:
            self.line.took(sender, 1)

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
    world.line.took(world.senders[1], 1)
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
    world.line.took(world.senders[0], 20_000_000)
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
async def test_at_a_stop_no_device_is_resumed() -> None:
    """The gateway has paused them all for good; what they send now nobody would acknowledge."""
    world = World(2 * SLICE)
    world.spool.ease()
    world.line.stop()
    await turn()
    world.spool.ease()
    world.line.took(late := Sender(999, world.resumed), 1)
    assert world.resumed == list(range(SLICE))
    assert late.reading
    assert len(world.line) == 0


def test_who_waits_long_is_told_once_and_still_resumed_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backpressure, "PATIENCE", 0.05)

    async def main() -> None:
        world = World(SLICE + 3)
        await world.senders[-1].heard.wait()
        world.line.took(late := Sender(999, world.resumed), 1)
        world.line.forget(world.senders[0])
        await asyncio.sleep(0.03)
        world.line.took(later := Sender(1000, world.resumed), 1)
        await late.heard.wait()
        assert ({sender.told for sender in world.senders}, later.told) == ({1}, 0), "each has its own second"
        world.spool.ease()
        await turn()
        assert world.resumed == [*range(1, SLICE + 3), 999, 1000]

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_device_is_told_after_about_a_second() -> None:
    assert 0.5 <= PATIENCE <= 1.5


class Traffic:
    """Devices that send what they have whenever they are read, over a disk that takes ``headroom`` bytes a round."""

    def __init__(self, headroom: int) -> None:
        self.spool = Spool(headroom)
        self.line = Backpressure(self.spool, lambda: None)
        self.taken: dict[Sender, int] = {}
        self._waiting = 0

    def sender(self, *, late: bool = False) -> Sender:
        made = Sender(len(self.taken), [])
        made.late = late
        self.taken[made] = 0
        return made

    def send(self, sender: Sender, size: int, messages: int) -> int:
        """As many of so many messages as are read."""
        for sent in range(messages):
            if sender.paused:
                return sent
            self.line.took(sender, size)
            self.taken[sender] += size
            self._waiting += size + MESSAGE_BYTES
            self.spool.congested = self.spool.congested or self._waiting >= self.spool.headroom
        return messages

    async def round(self, has: dict[Sender, tuple[int, int]]) -> dict[Sender, int]:
        """From one commit to the next: each has so many messages of a size; how many got through."""
        self._waiting = 0
        self.spool.ease()
        sent = dict.fromkeys(has, 0)
        for _ in range(100):
            for sender, (size, messages) in has.items():
                sent[sender] += self.send(sender, size, messages - sent[sender])
            await turn()
        return sent


@on_a_loop
async def test_a_device_that_sends_little_does_not_wait_for_one_that_sends_much() -> None:
    traffic = Traffic(headroom=400_000)
    modest, flooding = [traffic.sender() for _ in range(10)], [traffic.sender() for _ in range(2)]
    for sender in flooding + modest:
        traffic.send(sender, 1000, 1)
    has = {**dict.fromkeys(flooding, (50_000, 100)), **dict.fromkeys(modest, (200, 5))}
    for _ in range(200):
        sent = await traffic.round(has)
        assert {sent[sender] for sender in modest} == {5}, "all that they had"
    much = [traffic.taken[sender] for sender in flooding]
    assert sum(much) > 200 * 350_000, "what the others leave is used"
    assert max(much) < 1.1 * min(much)


def jain(shares: list[int]) -> float:
    """Jain's index of fairness: 1 if all are equal, 1/n if one has everything."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))


@on_a_loop
async def test_devices_that_all_send_too_much_get_as_many_bytes_each_however_large_their_messages() -> None:
    traffic = Traffic(headroom=100_000)
    sizes = {traffic.sender(): size for size in (300, 1000, 5000, 20_000, 60_000)}
    for sender in sizes:
        traffic.send(sender, 1, 1)
    for _ in range(300):
        await traffic.round({sender: (size - MESSAGE_BYTES, 10_000) for sender, size in sizes.items()})
    weighed = [traffic.taken[sender] * size // (size - MESSAGE_BYTES) for sender, size in sizes.items()]
    assert jain(weighed) > 0.99
    assert sum(weighed) > 300 * 100_000


@on_a_loop
async def test_live_goes_before_backlog_which_goes_on() -> None:
    traffic = Traffic(headroom=100_000)
    late, live = traffic.sender(late=True), traffic.sender()
    for sender in (late, live):
        traffic.send(sender, 1, 1)
    for _ in range(400):
        await traffic.round(dict.fromkeys((late, live), (1000, 10_000)))
    assert traffic.taken[live] == pytest.approx(LIVE_WEIGHT * traffic.taken[late], rel=0.2)
    order = World(3)
    order.line.forget(order.senders[0])
    order.senders[0].paused, order.senders[0].reading, order.senders[0].late = False, True, True
    order.line.took(order.senders[0], 1)
    order.line.took(last := Sender(9, order.resumed), 1)
    assert last.paused
    order.spool.ease()
    assert order.resumed == [1, 2, 9, 0]


@on_a_loop
async def test_nothing_is_weighed_any_more_when_the_disk_keeps_up() -> None:
    traffic = Traffic(headroom=10**6)
    sender = traffic.sender()
    traffic.send(sender, 1000, 1)
    for _ in range(CALM):
        assert traffic.spool.scarce
        traffic.spool.ease()
        while not sender.paused:
            traffic.line.took(sender, 1000)
    traffic.spool.ease()
    assert not traffic.spool.scarce
    assert not sender.paused


@on_a_loop
async def test_a_device_far_above_its_share_is_resumed_at_once_if_no_other_waits() -> None:
    traffic = Traffic(headroom=1000)
    sender = traffic.sender()
    traffic.send(sender, 10**6, 1)
    assert sender.paused
    traffic.spool.ease()
    assert not sender.paused


@on_a_loop
async def test_rounds_end_when_no_device_is_paused() -> None:
    traffic = Traffic(headroom=100_000)
    sender = traffic.sender()
    traffic.send(sender, 1000, 1)
    traffic.spool.ease()
    assert traffic.spool.scarce
    traffic.spool.ease()
    assert not traffic.spool.scarce


@on_a_loop
async def test_a_device_in_debt_is_resumed_even_if_no_device_sends_and_nothing_is_written() -> None:
    """No commit follows from what is throttled, nor from a request for the time: nothing calls the line again."""
    traffic = Traffic(headroom=100_000)
    first, later = traffic.sender(), traffic.sender()
    traffic.line.took(first, 1000)
    traffic.spool.ease()
    assert not first.paused
    traffic.spool.queued_bytes = 0
    traffic.line.took(first, 100_000)
    traffic.line.took(later, 900_000)
    assert first.paused
    assert later.paused
    for _ in range(3 * TURNS):
        await turn()
    assert (first.paused, later.paused, len(traffic.line)) == (False, False, 0)


@on_a_loop
async def test_weighing_ends_when_nothing_was_queued_for_some_turns() -> None:
    traffic = Traffic(headroom=1000)
    sender = traffic.sender()
    traffic.line.took(sender, 1000)
    traffic.spool.ease()
    for _ in range(3 * TURNS):
        traffic.line.took(sender, 1000)
        await turn()
    assert traffic.spool.scarce
    traffic.spool.queued_bytes = 0
    for _ in range(TURNS):
        assert traffic.spool.scarce
        traffic.line.took(sender, 1000)
        await turn()
    assert not traffic.spool.scarce
    assert not sender.paused


def test_who_is_forgotten_by_the_spool_waits_no_longer_than_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backpressure, "PATIENCE", 0.01)

    async def main() -> None:
        world = World(3)
        await world.senders[-1].heard.wait()
        world.spool.congested = False
        for sender in world.senders:
            await sender.resumed.wait()
        assert world.resumed == [0, 1, 2]

    asyncio.run(asyncio.wait_for(main(), 20))


@on_a_loop
async def test_a_long_line_is_looked_through_once_a_round() -> None:
    looks = 0

    class Counting(Sender):
        def __hash__(self) -> int:
            nonlocal looks
            looks += 1
            return self.name

    world = World(0)
    for n in range(60 * SLICE):
        world.line.took(Counting(n, world.resumed), 1)
    looks = 0
    world.spool.ease()
    while len(world.line):
        await turn()
    assert len(world.resumed) == 60 * SLICE
    assert looks < 25 * len(world.resumed)


@on_a_loop
async def test_newcomers_have_what_the_line_leaves() -> None:
    traffic = Traffic(headroom=100_000)
    first, newcomer = traffic.sender(), traffic.sender()
    traffic.send(first, 1000, 1)
    traffic.spool.ease()
    assert 10 < traffic.send(newcomer, 1000, 100) < 30
    assert newcomer.paused
    traffic.spool.ease()
    assert not newcomer.paused


@on_a_loop
async def test_who_was_too_fast_rests_for_its_time_and_has_no_place_in_the_line() -> None:
    world = World(0)
    first, second = Sender(1, world.resumed), Sender(2, world.resumed)
    world.line.pause_for(second, 0.04)
    world.line.pause_for(first, 0.02)
    assert (first.reading, second.reading, len(world.line)) == (False, False, 0)
    world.spool.ease()
    await second.resumed.wait()
    assert world.resumed == [1, 2]
    assert not first.paused


@on_a_loop
async def test_who_rests_and_waits_for_the_disk_is_read_when_both_are_over() -> None:
    world = World(2)
    for sender in world.senders:
        world.line.pause_for(sender, 0.05)
    world.line.forget(world.senders[1])
    world.spool.ease()
    assert world.resumed == []
    world.spool.congested = True
    world.line.took(later := Sender(3, world.resumed), 1)
    world.line.pause_for(later, 0.01)
    world.line.pause_for(last := Sender(4, world.resumed), 0.06)
    await last.resumed.wait()
    assert world.resumed == [0, 4], "one still waits for the disk, one has left"
    world.spool.ease()
    assert world.resumed == [0, 4, 3]


@on_a_loop
async def test_at_a_stop_no_device_is_woken() -> None:
    world = World(1)
    world.line.pause_for(resting := Sender(5, world.resumed), 0.01)
    world.line.stop()
    world.line.pause_for(later := Sender(6, world.resumed), 0.01)
    over = asyncio.Event()
    asyncio.get_running_loop().call_later(0.02, over.set)  # later than any alarm that was left
    await over.wait()
    assert (resting.reading, later.reading, world.resumed) == (False, True, [])
