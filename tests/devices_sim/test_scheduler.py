from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from devices_sim.scheduler import _MAX_CALLBACKS, Scheduler, clock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def run(scenario: Callable[[Scheduler], Awaitable[None]]) -> list[Exception]:
    errors: list[Exception] = []

    async def main() -> None:
        scheduler = Scheduler(asyncio.get_running_loop(), errors.append)
        async with asyncio.timeout(10):
            await scenario(scheduler)
        scheduler.close()

    asyncio.run(main())
    return errors


def test_callbacks_run_in_order_of_their_moments_and_not_early() -> None:
    called: list[tuple[str, float]] = []

    async def scenario(scheduler: Scheduler) -> None:
        start, done = clock(), asyncio.Event()
        for name, after in (("c", 0.09), ("a", 0.03), ("b", 0.06)):
            scheduler.at(start + after, lambda name=name: called.append((name, clock() - start)))
        scheduler.at(start + 0.12, done.set)
        await done.wait()

    run(scenario)
    assert [name for name, _ in called] == ["a", "b", "c"]
    for (_, at), due in zip(called, (0.03, 0.06, 0.09), strict=True):
        assert due <= at


def test_a_cancelled_moment_is_not_called() -> None:
    called: list[str] = []

    async def scenario(scheduler: Scheduler) -> None:
        done = asyncio.Event()
        scheduler.at(clock() + 0.01, lambda: called.append("cancelled")).cancel()
        scheduler.at(clock() + 0.03, done.set)
        await done.wait()

    run(scenario)
    assert called == []


def test_a_callback_may_set_the_next_moment() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        left, done = [5], asyncio.Event()

        def again() -> None:
            left[0] -= 1
            if left[0]:
                scheduler.at(clock() + 0.01, again)
            else:
                done.set()

        scheduler.at(clock(), again)
        await done.wait()

    run(scenario)


def test_work_that_is_late_lets_others_have_their_turn() -> None:
    called: list[int] = []
    seen: list[int] = []

    async def scenario(scheduler: Scheduler) -> None:
        done, loop = asyncio.Event(), asyncio.get_running_loop()
        scheduler.at(0.0, lambda: loop.call_soon(lambda: seen.append(len(called))))
        for n in range(2 * _MAX_CALLBACKS):
            scheduler.at(0.0, lambda n=n: called.append(n))
        scheduler.at(0.0, done.set)
        await done.wait()

    run(scenario)
    assert seen == [_MAX_CALLBACKS - 1]
    assert called == list(range(2 * _MAX_CALLBACKS))


def test_an_error_is_handed_over_and_the_rest_goes_on() -> None:
    called: list[str] = []

    async def scenario(scheduler: Scheduler) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
        done = asyncio.Event()
        scheduler.at(0.0, lambda: {}["nothing"])
        scheduler.at(0.1, lambda: called.append("next"))
        scheduler.at(clock() + 0.01, done.set)
        await done.wait()

    (error,) = run(scenario)
    assert isinstance(error, KeyError)
    assert called == ["next"]


def test_nothing_runs_after_close() -> None:
    called: list[str] = []

    async def main() -> None:
        scheduler = Scheduler(asyncio.get_running_loop(), pytest.fail)
        scheduler.at(clock() + 0.01, lambda: called.append("late"))
        scheduler.close()
        scheduler.at(clock(), lambda: called.append("later"))
        await asyncio.sleep(0.05)

    asyncio.run(main())
    assert called == []
