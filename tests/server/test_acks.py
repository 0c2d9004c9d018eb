from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from gateway.server.acks import SLICE, Acks

if TYPE_CHECKING:
    from collections.abc import Coroutine


class Device:
    def __init__(self) -> None:
        self.acks = 0
        self.broken = False
        self.acked = asyncio.Event()

    def acknowledge(self) -> None:
        self.acks += 1
        self.acked.set()
        if self.broken:
            raise RuntimeError("broken")


def run(work: Coroutine[None, None, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 20))


async def acknowledged(device: Device, times: int = 1) -> None:
    while device.acks < times:
        device.acked.clear()
        await device.acked.wait()


def test_the_first_ack_goes_at_once_and_the_next_ones_together_after_the_delay() -> None:
    async def main() -> None:
        acks = Acks(0.03, lambda _: None)
        one, other = Device(), Device()
        acks.owe(one)
        assert one.acks == 1
        started = time.monotonic()
        for _ in range(3):
            acks.owe(one)
        acks.owe(other)
        assert (one.acks, other.acks) == (1, 1)
        await acknowledged(one, 2)
        assert time.monotonic() - started >= 0.02
        acks.owe(one)
        assert one.acks == 2, "it has just had one"
        acks.owe(other)
        assert other.acks == 2, "its last one was a delay ago"
        await acknowledged(one, 3)
        assert other.acks == 2, "nothing is owed"

    run(main())


def test_the_timer_ends_when_nobody_has_had_an_ack() -> None:
    async def main() -> None:
        acks = Acks(0.001, lambda _: None)
        acks.owe(device := Device())
        async with asyncio.timeout(10):
            while acks._timer is not None:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.001)
        assert (device.acks, acks._recent) == (1, {})

    run(main())


def test_many_acks_are_written_in_slices() -> None:
    async def main() -> None:
        waited: list[float] = []
        acks = Acks(0.0, waited.append)
        devices = [Device() for _ in range(3 * SLICE + 1)]
        for device in devices:
            acks.owe(device)
        written = [sum(device.acks for device in devices)]
        acks.committed(time.time_ns())
        assert waited == []
        while not devices[-1].acks:
            await asyncio.sleep(0)
            written.append(sum(device.acks for device in devices))
        assert list(dict.fromkeys(written)) == [SLICE, 2 * SLICE, 3 * SLICE, 3 * SLICE + 1]
        assert {device.acks for device in devices} == {1}
        assert len(waited) == 1

    run(main())


def test_one_that_fails_does_not_keep_the_others_from_theirs(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        acks = Acks(0.001, lambda _: None)
        for device in (broken := Device(), other := Device()):
            acks.owe(device)
            acks.owe(device)
        broken.broken = True
        await acknowledged(other, 2)

    run(main())
    assert "RuntimeError: broken" in caplog.text


def test_the_wait_is_measured_from_the_oldest_arrival_to_the_write() -> None:
    async def main() -> None:
        waited: list[float] = []
        acks = Acks(0.02, waited.append)
        now = time.time_ns()
        acks.owe(device := Device())
        acks.committed(now - 10**9)
        assert waited == [pytest.approx(1.0, abs=0.5)], "all acks of the commit went out"
        acks.owe(device)
        acks.committed(now - 4 * 10**9)
        acks.committed(now - 2 * 10**9)
        assert len(waited) == 1
        await acknowledged(device, 2)
        await asyncio.sleep(0)
        assert waited[1:] == [pytest.approx(4.0, abs=1.0)]
        acks.committed(time.time_ns() + 10**9)
        assert waited[2] == 0, "the clock was set back"

    run(main())
