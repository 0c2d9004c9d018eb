"""Power cuts, kills and failing operations at every single operation of a workload, and what must hold after each."""

from __future__ import annotations

import asyncio
import errno
import logging
import sys
from typing import Any

import pytest

from tests.support.faulty_files import FaultyFiles
from tests.support.spool_world import Process, World, check_recovery

DEVICES = ("a", "b", "c")
SMALL: dict[str, Any] = {"segment_bytes": 500}
DROPPING: dict[str, Any] = {"segment_bytes": 500, "max_bytes": 1600, "when_full": "drop_oldest"}
KEEPING: dict[str, Any] = {"segment_bytes": 400, "max_bytes": 2400, "keep_delivered": 3600.0}
EVERY = pytest.mark.parametrize("settings", [SMALL, DROPPING, KEEPING], ids=["small", "dropping", "keeping"])


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of faults would be thousands of lines."""
    caplog.set_level(logging.CRITICAL)
    monkeypatch.setattr("gateway.spool.committer.PROBE_SECONDS", 0.0)


async def run(world: World, disk: FaultyFiles, settings: dict[str, Any]) -> Process:
    """Devices send, batches are delivered now and then; the disk may fail at any point of it."""
    process = started(world, disk, settings)
    process.queue.start()
    process.connect()
    try:
        for number in range(10):
            for device in DEVICES[: 1 + number % 3]:
                world.measure(device)
            process.send()
            await process.queue.flush()
            if not process.queue.healthy:
                await process.queue.look_at_disk()
                await process.queue.flush()
            await process.settled()
            if number in {4, 8, 9}:
                await process.deliver()
                await process.settled()
    finally:
        await process.queue.close()
    return process


def started(world: World, disk: FaultyFiles, settings: dict[str, Any]) -> Process:
    """A process with its spool open; one failed start is followed by another, as systemd would."""
    process = Process(world, disk, **settings)
    try:
        process.open()
    except OSError:
        if disk.is_off:
            raise
        process = Process(world, disk, **settings)
        process.open()
    return process


def attempt(world: World, disk: FaultyFiles, settings: dict[str, Any]) -> Process | None:
    """Run until the power goes; what the process believes after that matters to nobody."""

    async def main() -> Process | None:
        try:
            return await run(world, disk, settings)
        except OSError:
            if not disk.is_off:
                raise
            return None

    return asyncio.run(main())


def operations_of(settings: dict[str, Any]) -> list[str]:
    disk = FaultyFiles()
    asyncio.run(run(World(), disk, settings))
    return disk.operations


def recover(world: World, disk: FaultyFiles, settings: dict[str, Any], what: str) -> None:
    try:
        asyncio.run(check_recovery(world, disk, **settings))
    except Exception as error:
        raise AssertionError(what) from error


def test_the_workloads_do_what_they_are_for() -> None:
    dropping = asyncio.run(run(World(), FaultyFiles(), DROPPING))
    assert dropping.ledger.total.dropped > 0
    assert dropping.ledger.total.stored > 0
    for settings in SMALL, DROPPING, KEEPING:
        kinds = {operation.split()[0] for operation in operations_of(settings)}
        assert kinds >= {"create", "write", "sync", "rename", "sync_dir", "unlink", "allocate"}


@EVERY
def test_a_power_cut_before_any_operation_loses_nothing_acknowledged(
    settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    operations = operations_of(settings)
    recoveries = 0
    for number in range(len(operations) + 1):
        world, disk = World(), FaultyFiles()
        disk.crash_at = number
        attempt(world, disk, settings)
        for left, after in disk.possible_disks(number):
            recover(world.copy(), after, settings, f"power cut before {operations[number : number + 1]}, {left}")
            recoveries += 1
    with capsys.disabled():
        sys.stdout.write(f" power cuts: {len(operations)} operations, {recoveries} recoveries ")


@EVERY
def test_a_kill_before_any_operation_and_a_power_cut_after_the_restart(settings: dict[str, Any]) -> None:
    """What a restarted gateway tells devices to be safe has to survive, also if it was only in the page cache."""
    operations = operations_of(settings)
    for number in range(len(operations)):
        world, disk = World(), FaultyFiles()
        disk.crash_at = number
        attempt(world, disk, settings)
        what = f"kill before {operations[number]}"
        restarted = disk.after_kill()
        process = Process(world, restarted, **settings)
        process.open()
        process.connect()
        asyncio.run(process.queue.close())
        for left, after in restarted.possible_disks(number):
            recover(world.copy(), after, settings, f"{what}, restart, power cut, {left}")
        recover(world.copy(), restarted.after_kill(), settings, f"{what}, restart")


@EVERY
@pytest.mark.parametrize(
    ("error", "half_done"),
    [(errno.EIO, False), (errno.EIO, True), (errno.ENOSPC, False)],
    ids=["EIO", "done, then EIO", "ENOSPC"],
)
def test_any_operation_may_fail_and_the_gateway_goes_on(settings: dict[str, Any], half_done: bool, error: int) -> None:
    operations = operations_of(settings)
    for number in range(len(operations)):
        world, disk = World(), FaultyFiles()
        disk.failing = {number: error}
        disk.half_done = half_done
        what = f"{operations[number]} fails"
        assert attempt(world, disk, settings) is not None
        disk.failing = {}
        recover(world.copy(), disk.after_power_cut("none", "none", number), settings, f"{what}, power cut at the end")
        recover(world.copy(), disk.after_kill(), settings, f"{what}, restart")
