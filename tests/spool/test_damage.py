"""Flipped bits, cut files and missing files, everywhere: the gateway starts, loses what was hit and nothing else."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from gateway.spool.record import Record
from tests.support.faulty_files import FaultyFiles
from tests.support.spool_world import SPOOL, Process, World, check_recovery, line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gateway.spool.listener import Recovery

MESSAGES = 9
DELIVERED = 2
SEGMENT_BYTES = 600


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


async def used(*, clean: bool) -> tuple[World, FaultyFiles]:
    """Three messages a segment, the first two delivered; stopped or killed."""
    world, disk = World(), FaultyFiles()
    process = Process(world, disk, segment_bytes=SEGMENT_BYTES)
    process.open()
    process.queue.start()
    process.connect()
    for number in range(MESSAGES):
        world.measure("a")
        process.send()
        await process.queue.flush()
        await process.settled()
        if number == DELIVERED - 1:
            await process.deliver()
    killed = disk.after_kill()
    await process.queue.close()
    return world, disk if clean else killed


STOPPED = asyncio.run(used(clean=True))
KILLED = asyncio.run(used(clean=False))


def started(world: World, disk: FaultyFiles) -> tuple[Recovery, list[int]]:
    """What a start finds, and the numbers of the messages that can be delivered."""
    process = Process(world.copy(), disk, segment_bytes=SEGMENT_BYTES)
    recovery = process.open()
    records = process.queue._log.reader(recovery.cursor).items(process.queue._log.segments())
    lines = [record.payload for record in records if isinstance(record, Record)]
    asyncio.run(process.queue.close())
    made = {line("a", seq): seq for seq in range(MESSAGES)}
    return recovery, [made[point] for point in lines]


def files_of(disk: FaultyFiles) -> Iterator[tuple[Path, int]]:
    for path, inode in disk.names_now.items():
        if path.parent == SPOOL and inode.data:
            yield path, len(inode.data)


@pytest.mark.parametrize(("world", "disk"), [STOPPED, KILLED], ids=["stopped", "killed"])
def test_a_flipped_bit_costs_one_record_at_most(world: World, disk: FaultyFiles) -> None:
    pending = list(range(DELIVERED, MESSAGES))
    for path, size in files_of(disk):
        for offset in range(0, size, 1 if path.suffix == ".seg" else 97):
            hit = disk.after_kill()
            hit.names_now[path].data[offset] ^= 1 << offset % 8
            recovery, found = started(world, hit)
            lost = [seq for seq in pending if seq not in found]
            where = f"{path.name} at byte {offset}"
            assert len(lost) <= 1, f"{where}: lost {lost}"
            assert [seq for seq in found if seq >= DELIVERED] == [seq for seq in pending if seq not in lost], where
            if lost and disk is STOPPED[1]:
                assert recovery.damage, f"{where}: lost {lost} without a word"
            if lost:
                assert recovery.damage or recovery.torn_bytes, where


@pytest.mark.parametrize(("world", "disk"), [STOPPED, KILLED], ids=["stopped", "killed"])
def test_a_cut_file_costs_the_records_behind_the_cut(world: World, disk: FaultyFiles) -> None:
    for path, size in files_of(disk):
        per_record = (size - 44) // 3
        for length in range(0, size, 7):
            cut = disk.after_kill()
            del cut.names_now[path].data[length:]
            recovery, found = started(world, cut)
            lost = [seq for seq in range(DELIVERED, MESSAGES) if seq not in found]
            where = f"{path.name} cut to {length}"
            whole = max(0, length - 44) // per_record if path.suffix == ".seg" else 3
            assert len(lost) <= 3 - whole, f"{where}: lost {lost}"
            if lost and disk is STOPPED[1]:
                assert recovery.damage, f"{where}: lost {lost} without a word"


def test_a_missing_file_costs_its_records() -> None:
    world, disk = STOPPED
    for path, _ in files_of(disk):
        without = disk.after_kill()
        without.unlink(path)
        recovery, found = started(world, without)
        lost = [seq for seq in range(DELIVERED, MESSAGES) if seq not in found]
        assert len(lost) <= 3
        assert not lost or recovery.damage


def test_without_damage_everything_is_delivered() -> None:
    for world, disk in STOPPED, KILLED:
        recovery, found = started(world, disk.after_kill())
        assert (recovery.damage, recovery.torn_bytes) == ((), 0)
        assert found == list(range(DELIVERED, MESSAGES))
        asyncio.run(check_recovery(world.copy(), disk.after_kill(), segment_bytes=SEGMENT_BYTES))


def test_after_damage_everything_new_is_safe_again() -> None:
    world, disk = KILLED
    for path, size in files_of(disk):
        for offset in range(0, size, 41):
            hit = disk.after_kill()
            hit.names_now[path].data[offset] ^= 255
            started(world, hit)
            later = World()
            process = Process(later, hit, segment_bytes=SEGMENT_BYTES)
            process.open()
            asyncio.run(new_messages_survive(process, hit))


async def new_messages_survive(process: Process, disk: FaultyFiles) -> None:
    process.queue.start()
    for _ in range(4):
        process.world.measure("new")
    assert process.send() == 4
    await process.queue.flush()
    await process.settled()
    after = disk.after_power_cut("none", "none", 0)
    await process.queue.close()
    again = Process(World(), after, segment_bytes=SEGMENT_BYTES)
    again.open()
    again.queue.start()
    points = b"".join(record.payload for record in await again.readable())
    assert all(line("new", seq) in points for seq in range(4))
    await again.queue.close()
