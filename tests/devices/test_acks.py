from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from gateway.devices.acks import SLICE, Acks

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


def test_all_that_is_owed_goes_out_once_after_one_delay() -> None:
    async def main() -> None:
        acks = Acks(0.03, lambda _: None)
        devices = [Device(), Device()]
        started = time.monotonic()
        for device in [*devices, *devices]:
            acks.owe(device)
        assert [device.acks for device in devices] == [0, 0]
        await acknowledged(devices[1])
        assert time.monotonic() - started >= 0.02
        assert [device.acks for device in devices] == [1, 1]
        acks.owe(devices[0])
        await acknowledged(devices[0], 2)
        assert devices[1].acks == 1

    run(main())


def test_many_acks_are_written_in_slices() -> None:
    async def main() -> None:
        waited: list[float] = []
        acks = Acks(0.0, waited.append)
        devices = [Device() for _ in range(3 * SLICE + 1)]
        for device in devices:
            acks.owe(device)
        written = []
        acks.committed(time.time_ns())
        assert waited == []
        while not devices[-1].acks:
            await asyncio.sleep(0)
            written.append(sum(device.acks for device in devices))
        assert [n for n in dict.fromkeys(written) if n] == [SLICE, 2 * SLICE, 3 * SLICE, 3 * SLICE + 1]
        assert {device.acks for device in devices} == {1}
        assert len(waited) == 1

    run(main())


def test_one_that_fails_does_not_keep_the_others_from_theirs(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        acks = Acks(0.001, lambda _: None)
        for device in (broken := Device(), other := Device()):
            acks.owe(device)
        broken.broken = True
        await acknowledged(other)

    run(main())
    assert "RuntimeError: broken" in caplog.text


def test_the_wait_is_measured_from_the_oldest_arrival_to_the_write() -> None:
    async def main() -> None:
        waited: list[float] = []
        acks = Acks(0.02, waited.append)
        now = time.time_ns()
        acks.committed(now - 10**9)
        assert waited == [pytest.approx(1.0, abs=0.5)], "all acks of the commit went out"
        acks.owe(device := Device())
        acks.committed(now - 4 * 10**9)
        acks.committed(now - 2 * 10**9)
        assert len(waited) == 1
        await acknowledged(device)
        await asyncio.sleep(0)
        assert waited[1:] == [pytest.approx(4.0, abs=1.0)]
        acks.committed(time.time_ns() + 10**9)
        assert waited[2] == 0, "the clock was set back"

    run(main())
