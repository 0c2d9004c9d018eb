from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING

from gateway.devices.timed_pauses import SLICE, TimedPauses

if TYPE_CHECKING:
    from collections.abc import Coroutine


class Sender:
    """Something that may rest."""


class Woken(list[object]):
    """Those that were woken; ``all`` is set when there are ``expected`` of them."""

    def __init__(self, expected: int) -> None:
        super().__init__()
        self.all = asyncio.Event()
        self._expected = expected

    def wake(self, sender: object) -> None:
        self.append(sender)
        if len(self) == self._expected:
            self.all.set()


def run(test: Coroutine[None, None, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 20))


def test_each_is_woken_in_its_time_and_the_last_word_counts() -> None:
    async def main() -> None:
        woken = Woken(3)
        some: TimedPauses[str] = TimedPauses(woken.wake)
        some.add("slow", 0.03)
        some.add("quick", 0.01)
        some.add("again", 0.001)
        some.add("again", 0.02)
        assert (len(some), "again" in some) == (3, True)
        await woken.all.wait()
        assert woken == ["quick", "again", "slow"]
        assert len(some) == 0

    run(main())


def test_one_that_closes_is_let_go_at_once() -> None:
    async def main() -> None:
        some: TimedPauses[Sender] = TimedPauses(lambda _: None)
        sender = Sender()
        gone = weakref.ref(sender)
        some.add(sender, 60)
        some.forget(sender)
        some.forget(sender)
        del sender
        gc.collect()
        assert gone() is None
        some.stop()

    run(main())


def test_what_is_left_of_those_that_closed_has_a_bound() -> None:
    async def main() -> None:
        some: TimedPauses[int] = TimedPauses(lambda _: None)
        for n in range(20 * SLICE):
            some.add(n, 60)
            some.forget(n)
            assert len(some._due) <= SLICE + 2
        some.stop()

    run(main())


def test_many_at_once_are_woken_in_slices() -> None:
    async def main() -> None:
        woken = Woken(2 * SLICE + 1)
        some: TimedPauses[int] = TimedPauses(woken.wake)
        for n in range(2 * SLICE + 1):
            some.add(n, 0)
        await woken.all.wait()
        assert woken == list(range(2 * SLICE + 1))

    run(main())
