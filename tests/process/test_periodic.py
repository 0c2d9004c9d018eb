from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.process.periodic import PeriodicTasks

if TYPE_CHECKING:
    import pytest

PATIENCE = 10.0


def test_a_step_that_hangs_or_fails_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        done = asyncio.Event()
        times = {"hanging": 0, "failing": 0, "going": 0}

        async def hanging() -> None:
            times["hanging"] += 1
            await asyncio.Event().wait()

        async def failing() -> None:
            times["failing"] += 1
            raise OSError(5, "broken")

        async def going() -> None:
            times["going"] += 1
            if min(times["failing"], times["going"]) > 2:
                done.set()

        upkeep = PeriodicTasks({"it hung": hanging, "it failed": failing, "it stopped": going}, 0.001)
        async with asyncio.timeout(PATIENCE):
            await done.wait()
        upkeep.stop()
        assert times["hanging"] == 1

    asyncio.run(main())
    assert {record.message for record in caplog.records} == {"it failed"}


def test_when_stopped_it_begins_no_step() -> None:
    async def main() -> int:
        times = 0

        async def step() -> None:
            nonlocal times
            times += 1

        upkeep = PeriodicTasks({"it failed": step}, 0.0)
        upkeep.stop()
        for _ in range(10):
            await asyncio.sleep(0)
        return times

    assert asyncio.run(main()) == 0
