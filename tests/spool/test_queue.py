from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING, Any

import pytest

from gateway.errors import SpoolError, SpoolFull
from gateway.ledger import Entry
from gateway.spool import queue
from gateway.spool.files import Files
from gateway.spool.segment import path_of
from tests.support.faulty_files import FaultyFiles
from tests.support.spool_world import SPOOL, Process, World, check_recovery, flip, run, running, sent

if TYPE_CHECKING:
    from pathlib import Path


def test_an_appended_entry_is_committed_read_and_acknowledged() -> None:
    async def main() -> None:
        async with running() as process:
            await sent(process, 3)
            assert process.events == [("committed", 1), ("committed", 2), ("committed", 3)]
            status = process.queue.status()
            assert (status.cursor, status.next_id, status.readings_pending) == (0, 4, 3)
            assert status.bytes_pending > 3 * 60
            assert status.oldest_ns is not None
            records = await process.queue.read(0, 1 << 20)
            assert [record.id for record in records] == [1, 2, 3]
            await process.queue.acknowledge(2)
            status = process.queue.status()
            assert (status.cursor, status.readings_pending) == (2, 1)
            assert status.oldest_ns == records[2].committed_ns
            await process.queue.acknowledge(3)
            status = process.queue.status()
            assert (status.bytes_pending, status.readings_pending, status.oldest_ns) == (0, 0, None)
            assert (status.oldest_seconds, status.damaged) == (0.0, 0)

    run(main())


def test_reading_takes_about_what_it_is_asked_for_and_at_least_one() -> None:
    async def main() -> None:
        async with running(segment_bytes=1000) as process:
            await sent(process, 10)
            [one] = await process.queue.read(0, 1)
            two = await process.queue.read(1, 2 * one.size)
            assert [record.id for record in two] == [2, 3]
            assert [record.id for record in await process.queue.read(3, 1 << 20)] == [4, 5, 6, 7, 8, 9, 10]
            assert await process.queue.read(10, 1) == []
            assert [record.id for record in await process.queue.read(6, 1)] == [7]

    run(main())


def test_wait_returns_when_there_is_something_to_read() -> None:
    async def main() -> None:
        async with running() as process:
            await sent(process, 1)
            await process.queue.wait(0)
            waiting = [asyncio.ensure_future(process.queue.wait(after)) for after in (1, 1, 2)]
            await asyncio.sleep(0)
            await sent(process, 1)
            assert [task.done() for task in waiting] == [True, True, False]
            waiting[2].cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            await sent(process, 1)

    run(main())


def test_the_cursor_survives_and_delivered_segments_are_removed() -> None:
    world, disk = World(), FaultyFiles()

    async def main() -> None:
        async with running(world, disk, segment_bytes=500) as process:
            await sent(process, 10)
            before = process.queue.status().segments
            while await process.deliver():
                await process.settled()
            assert before > 3
            assert process.queue.status().segments == 1
        async with running(world, disk, segment_bytes=500) as process:
            assert process.queue.status().cursor == 10
            assert process.ledger.total.stored == 10
            assert await process.readable() == []

    run(main())


def test_delivered_segments_stay_for_their_time() -> None:
    async def main() -> None:
        async with running(segment_bytes=500, keep_delivered=3600.0) as process:
            await sent(process, 10)
            while await process.deliver():
                await process.settled()
            assert process.queue.status().segments > 3
            assert process.queue.status().bytes_pending == 0
            assert process.queue.room

    run(main())


async def filled_up(process: Process, size: int) -> int:
    """Append until it refuses; how often it did not."""
    taken = 0
    while True:
        try:
            process.queue.append(Entry("a", lines=1, payload=b"x" * size), None)
        except SpoolFull:
            return taken
        await process.queue.flush()
        taken += 1


def test_a_full_spool_refuses_and_takes_again_when_delivered() -> None:
    async def main() -> None:
        async with running(segment_bytes=500, max_bytes=4000) as process:
            assert await filled_up(process, 60) > 15
            assert not process.queue.room
            assert process.queue.healthy
            assert not process.failures
            assert 3500 < process.queue.status().bytes_total <= 4000
            await process.deliver()
            await process.settled()
            assert process.queue.room
            assert process.ledger.total.dropped == 0

    run(main())


def test_a_full_spool_counts_refusals_as_long_as_there_is_a_little_room() -> None:
    async def main() -> None:
        async with running(segment_bytes=20_000, max_bytes=200_000) as process:
            assert await filled_up(process, 500) > 200
            process.queue.append(Entry("a", rejected=1, verdicts=b"[]"), None)
            await process.queue.flush()
            assert process.ledger.total.rejected == 1
            with pytest.raises(SpoolFull):
                while True:
                    process.queue.append(Entry("a", rejected=1, verdicts=bytes(500)), None)
                    await process.queue.flush()
            assert process.queue.status().bytes_total <= 200_000
            assert not process.failures

    run(main())


def test_delivered_segments_do_not_count_as_full() -> None:
    async def main() -> None:
        async with running(segment_bytes=500, max_bytes=4000, keep_delivered=3600.0) as process:
            for _ in range(60):
                await sent(process, 1)
                await process.deliver()
                await process.settled()
                assert process.queue.room
                assert process.queue.status().bytes_total <= 4000
            assert not process.failures
            assert process.queue.status().segments > 4

    run(main())


def test_drop_oldest_removes_delivered_segments_first_and_then_the_oldest() -> None:
    async def main() -> None:
        async with running(segment_bytes=500, max_bytes=4000, when_full="drop_oldest") as process:
            await sent(process, 60)
            assert process.queue.status().bytes_total <= 4000
            assert not process.failures
            dropped = [number for what, number in process.events if what == "dropped"]
            assert dropped == list(range(1, len(dropped) + 1))
            assert process.ledger.total.dropped == len(dropped) > 20
            assert process.queue.status().cursor == len(dropped)
            assert process.queue.status().readings_pending == 60 - len(dropped)
            assert [record.id for record in await process.readable()] == list(range(len(dropped) + 1, 61))

    run(main())


def test_a_record_read_before_it_was_dropped_counts_once() -> None:
    async def main() -> None:
        async with running(segment_bytes=500, max_bytes=4000, when_full="drop_oldest") as process:
            await sent(process, 5)
            in_flight = await process.queue.read(0, 1 << 20)
            await sent(process, 50)
            cursor = process.queue.status().cursor
            assert cursor > in_flight[-1].id
            await process.queue.acknowledge(in_flight[-1].id)
            assert process.queue.status().cursor == cursor
            assert process.queue.status().readings_pending == 55 - cursor
            assert [record.id for record in await process.queue.read(in_flight[-1].id, 1)] == [cursor + 1]
            assert process.queue.status().damaged == 0

    run(main())


def test_a_commit_larger_than_a_segment_makes_its_room() -> None:
    async def main() -> None:
        for when_full in "reject", "drop_oldest":
            settings = {"segment_bytes": 300, "max_bytes": 16_000, "when_full": when_full, "keep_delivered": 3600.0}
            async with running(**settings) as process:
                for _ in range(40):
                    process.queue.append(Entry("a", lines=1, payload=b"x" * 1900), None)
                    await process.queue.flush()
                    assert process.queue.status().bytes_total <= 16_000
                    if when_full == "reject":
                        await process.queue.read(process.queue.status().cursor, 1 << 20)
                        await process.queue.acknowledge(process.queue.status().next_id - 1)
                assert not process.failures

    run(main())


def test_bytes_that_wait_for_the_disk_have_a_bound() -> None:
    async def main() -> None:
        async with running(commit_interval=60.0, max_bytes=80_000) as process:
            with pytest.raises(SpoolFull):
                for _ in range(100):
                    process.queue.append(Entry("a", lines=1, payload=b"x" * 1000), None)
            assert not process.queue.room
            await process.queue.flush()
            assert process.queue.room

    run(main())


def test_messages_that_wait_for_the_disk_have_a_bound_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "MAX_QUEUED_ENTRIES", 8)

    async def main() -> None:
        async with running(commit_interval=60.0) as process:
            for n in range(8):
                assert process.queue.congested == (n >= 4)
                process.queue.append(Entry("a", lines=1, payload=b"x"), process)
            assert not process.queue.room
            with pytest.raises(SpoolFull):
                process.queue.append(Entry("a", lines=1, payload=b"x"), process)
            await process.queue.flush()
            assert process.queue.room

    run(main())


@pytest.mark.parametrize("fails", [False, True])
def test_congestion_begins_at_half_the_bound_and_ends_when_little_is_left(
    fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "MAX_QUEUED_ENTRIES", 12)
    disk = FaultyFiles()

    async def main() -> None:
        eased = 0

        def ease() -> None:
            nonlocal eased
            assert process.events or process.failures, "the devices hear of their readings first"
            assert not process.queue.congested
            eased += 1

        async with running(disk=disk, commit_interval=60.0, max_bytes=80_000) as process:
            process.queue.eased = ease
            size = 0
            while size < 80_000 // 8 // 2:
                assert not process.queue.congested
                process.queue.append(Entry("a", lines=1, payload=b"x" * 900), process)
                size = process.queue.queued_bytes
            assert process.queue.congested
            assert process.queue.room, "what comes until the devices are paused is still taken"
            if fails:
                disk.failing = {len(disk.operations) + 1: errno.EIO}
            await process.queue.flush()
            assert (eased, process.queue.congested, process.queue.queued_bytes) == (1, False, 0)
            process.queue.append(Entry("a", lines=1, payload=b"x"), process)
            await process.queue.flush()
            assert eased == 2, "somebody may still wait for a turn"
            process.queue.scarce = False
            process.queue.append(Entry("a", lines=1, payload=b"x"), process)
            await process.queue.flush()
            assert eased == 2
            process.ledger.total.received = 0

    run(main())


def test_after_a_failed_commit_the_devices_are_told_and_the_next_one_works() -> None:
    world, disk = World(), FaultyFiles()

    async def main() -> None:
        async with running(world, disk) as process:
            await sent(process, 2)
            disk.failing = {len(disk.operations) + 1: errno.EIO}
            world.measure("a")
            process.send()
            await process.queue.flush()
            assert [type(error).__name__ for error in process.failures] == ["AppendFailed"]
            assert not process.queue.healthy
            assert "readings cannot be kept" in str(process.queue.last_error)
            assert [record.id for record in await process.readable()] == [1, 2]
            assert process.send() == 1
            await process.queue.flush()
            assert process.queue.healthy
            assert process.queue.last_error is None
        await check_recovery(world, disk.after_power_cut("all", "all", 0))

    run(main())


def test_a_disk_that_works_again_is_noticed_without_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is told that it does not work, such as a load balancer, may keep all messages away."""
    monkeypatch.setattr("gateway.spool.committer.PROBE_SECONDS", 0.0)
    world, disk = World(), FaultyFiles()

    async def main() -> None:
        async with running(world, disk) as process:
            await sent(process, 2)
            world.measure("a")
            for step in range(3):  # a commit, then two probes
                disk.failing = {len(disk.operations) + 1: errno.EIO}
                process.send()
                await process.queue.look_at_disk()
                await process.queue.flush()
                assert not process.queue.healthy
                assert len(process.failures) == 1, step
                process._unsent["a"] = 3  # the device sends nothing any more
            await process.queue.look_at_disk()
            await process.queue.flush()
            assert process.queue.healthy
            await process.queue.look_at_disk()
            await process.queue.flush()
            assert process.queue.status().next_id == 4, "there was nothing more to find out"
            for _, after in disk.possible_disks(0):
                await check_recovery(world.copy(), after)
            assert [record.count for record in await process.readable()] == [1, 1, 0]
            while await process.deliver():
                process.pending_in_both()
            assert process.queue.status().bytes_pending == 0
        await process.queue.look_at_disk()

    run(main())


def test_a_disk_that_fails_at_the_start_is_tried_again_without_a_message() -> None:
    sound, disk = FaultyFiles(), FaultyFiles()

    async def main() -> None:
        async with running(disk=sound):
            disk.failing = {sound.operations.index(f"rename {path_of(SPOOL, 1).name}"): errno.EIO}
        process = Process(World(), disk)
        process.open()
        assert not process.queue.healthy
        await process.queue.look_at_disk()  # which can do nothing yet
        process.queue.start()
        await process.queue.look_at_disk()
        await process.queue.flush()
        assert process.queue.healthy
        await process.queue.close()

    run(main())


def test_a_second_gateway_cannot_open_the_spool() -> None:
    async def main() -> None:
        disk = FaultyFiles()
        async with running(disk=disk):
            with pytest.raises(SpoolError, match="in use by another gateway"):
                Process(World(), disk).open()
        async with running(disk=disk):
            pass

    run(main())


def test_a_refused_start_releases_the_directory() -> None:
    disk = FaultyFiles()
    process = Process(World(), disk)
    disk.names = lambda _: (_ for _ in ()).throw(PermissionError("no"))  # type: ignore[method-assign]
    with pytest.raises(PermissionError):
        process.open()
    del disk.names  # type: ignore[method-assign]
    process = Process(World(), disk)
    process.open()
    asyncio.run(process.queue.close())


def test_a_record_that_was_never_durable_cannot_be_acknowledged() -> None:
    async def main() -> None:
        async with running() as process:
            await sent(process, 1)
            with pytest.raises(ValueError, match="record 2 was never durable; the last one is 1"):
                await process.queue.acknowledge(2)

    run(main())


def test_a_closed_queue_takes_nothing_and_closing_twice_is_one_close() -> None:
    async def main() -> None:
        async with running() as process:
            process.world.measure("a")
            process.send()
        assert process.events == [("committed", 1)]
        assert not process.queue.room
        with pytest.raises(SpoolFull):
            process.queue.append(Entry("a"), None)
        await process.queue.close()

    run(main())


def test_damage_is_counted_copied_and_passed(caplog: pytest.LogCaptureFixture) -> None:
    world, disk = World(), FaultyFiles()

    async def main() -> None:
        async with running(world, disk) as process:
            await sent(process, 3)
            data = disk.names_now[path_of(SPOOL, 1)].data
            data[len(data) // 2] ^= 1
            assert [record.id for record in await process.readable()] == [1, 3]
            assert process.queue.status().damaged == 1
            await process.queue.read(0, 1 << 20)
            assert process.queue.status().damaged == 1
            await process.queue.acknowledge(3)
            assert process.queue.status().bytes_pending == 0
        assert "going on with the next whole record" in caplog.text
        assert [name for name in disk.names(SPOOL / "quarantine") if name.endswith(".damaged")]

    run(main())


def test_damaged_readings_are_dropped_when_all_older_records_are_delivered() -> None:
    """The spool need not run empty for it: under load it never does."""
    disk = FaultyFiles()

    async def main() -> None:
        async with running(disk=disk, segment_bytes=100_000) as process:
            for _ in range(3):
                await sent(process, 1, "a")
                await sent(process, 1, "b")
            flip(disk, 2)
            flip(disk, 5)
            while process.queue.status().cursor < 6:
                await process.deliver(1)
                await sent(process, 1, "c")
            newest = process.queue.status().next_id - 2
            while process.queue.status().cursor < newest:
                assert process.lost == 0
                await sent(process, 1, "a")
                await process.deliver(1)
                process.pending_in_both()
            assert process.lost == 2
            assert process.pending_in_both() == process.queue.status().next_id - 1 - newest > 0
            assert [process.ledger.account(device).dropped for device in "abc"] == [1, 1, 0]
            while await process.deliver():
                process.pending_in_both()
            assert process.lost == 2

    run(main())


def test_damage_in_a_dropped_segment_is_reported_and_dropped_too() -> None:
    disk = FaultyFiles()

    async def main() -> None:
        async with running(disk=disk, segment_bytes=1000, max_bytes=5000, when_full="drop_oldest") as process:
            await sent(process, 6)
            flip(disk, 3)
            while process.queue.status().segments and not process.ledger.total.dropped:
                await sent(process, 1)
            assert process.queue.status().damaged == 1
            while await process.deliver():
                process.pending_in_both()
            assert process.lost == 1
            total = process.ledger.total
            assert total.received == total.stored + total.dropped

    run(main())


def test_a_dropped_segment_leaves_nothing_pending_even_where_it_was_damaged() -> None:
    world, disk = World(), FaultyFiles()

    async def main() -> None:
        async with running(world, disk, segment_bytes=500, max_bytes=4000, when_full="drop_oldest") as process:
            await sent(process, 3)
            [first, *_] = process.queue._log.segments()
            data = disk.names_now[first.path].data
            data[44:] = bytes(len(data) - 44)
            while path_of(SPOOL, 1) in disk.names_now:
                await sent(process, 1)
            assert process.queue.status().cursor >= first.last_id
            assert not process.failures

    run(main())


def test_waiting_behind_damage_waits_for_something_new() -> None:
    world, disk = World(), FaultyFiles()

    async def main() -> None:
        async with running(world, disk) as process:
            await sent(process, 2)
            data = disk.names_now[path_of(SPOOL, 1)].data
            data[-1] ^= 1
            assert [record.id for record in await process.queue.read(0, 1 << 20)] == [1]
            assert await process.queue.read(1, 1 << 20) == []
            waiting = asyncio.ensure_future(process.queue.wait(1))
            await asyncio.sleep(0.01)
            assert not waiting.done()
            await sent(process, 1)
            await waiting
            assert [record.id for record in await process.queue.read(1, 1 << 20)] == [3]

    run(main())


def test_on_a_real_disk(tmp_path: Path) -> None:
    world = World()

    async def main() -> None:
        (tmp_path / "state").mkdir()
        settings: dict[str, Any] = {"directory": tmp_path / "spool", "commit_interval": 0.002}

        async def go(messages: int) -> None:
            process = Process(world, Rooted(tmp_path), **settings)
            process.open()
            process.queue.start()
            process.connect()
            await sent(process, messages)
            assert await process.deliver(1 << 20)
            assert process.queue.status().readings_pending == 0
            await process.queue.close()

        await go(20)
        await go(5)
        assert len(world.database) == 25

    run(main())


class Rooted(Files):
    """The real disk, with the ledger's checkpoint below a directory of the test."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def _below(self, path: Path) -> Path:
        return path if path.is_relative_to(self.root) else self.root / "state" / path.name

    def open(self, path: Path) -> Any:
        return super().open(self._below(path))

    def replace(self, path: Path, data: bytes) -> None:
        super().replace(self._below(path), data)
