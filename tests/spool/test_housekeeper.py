from __future__ import annotations

import asyncio
import errno
import threading
from typing import TYPE_CHECKING, Any

from gateway.spool import housekeeper
from tests.support.faulty_files import FaultyFiles
from tests.support.spool_world import CHECKPOINT, SPOOL, Process, World, check_recovery

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from pathlib import Path

    import pytest

    from gateway.ledger import Entry
    from gateway.spool.files import Files
    from gateway.spool.log_reader import LogReader, Segment

SETTINGS: dict[str, Any] = {"segment_bytes": 500, "max_bytes": 64_000}


def run(work: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(20):
            await work

    asyncio.run(limited())


def started(world: World, disk: Files, **settings: Any) -> Process:
    process = Process(world, disk, **{**SETTINGS, **settings})
    process.open()
    process.queue.start()
    process.connect()
    return process


async def sent(process: Process, messages: int) -> None:
    for _ in range(messages):
        process.world.measure("a")
        process.send()
        await process.queue.flush()
        await process.settled()


def position(operations: list[str], wanted: str) -> int:
    return next(number for number, operation in enumerate(operations) if operation == wanted)


def test_checkpoint_and_cursor_are_durable_before_a_delivered_segment_is_removed() -> None:
    async def main() -> None:
        disk = FaultyFiles()
        process = started(World(), disk)
        await sent(process, 4)
        before = len(disk.operations)
        await process.deliver(1 << 20)
        await process.settled()
        operations = disk.operations[before:]
        order = [
            position(operations, "sync cursor"),
            position(operations, "sync ledger.json.new"),
            position(operations, "rename ledger.json"),
            position(operations, "sync_dir state"),
            position(operations, "unlink 00000000000000000001.seg"),
        ]
        assert order == sorted(order)
        assert operations[-1] == "sync_dir spool"
        await process.queue.close()

    run(main())


def test_dropped_readings_are_in_a_checkpoint_before_their_segment_is_removed() -> None:
    async def main() -> None:
        disk = FaultyFiles()
        process = started(World(), disk, max_bytes=2000, when_full="drop_oldest")
        while not process.ledger.total.dropped:
            before = len(disk.operations)
            await sent(process, 1)
        operations = disk.operations[before:]
        order = [
            position(operations, "sync_dir state"),
            position(operations, "sync cursor"),
            position(operations, "unlink 00000000000000000001.seg"),
        ]
        assert order == sorted(order)
        await process.queue.close()

    run(main())


def test_a_record_acknowledged_while_its_segment_is_given_up_is_not_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        process = started(World(), FaultyFiles(), max_bytes=2000, when_full="drop_oldest")
        loop, read = asyncio.get_running_loop(), housekeeper._some

        def overtaken(reader: LogReader, segment: Segment) -> object:
            found, done = read(reader, segment), threading.Event()
            loop.call_soon_threadsafe(lambda: (process.queue._backlog.acknowledge(2), done.set()))
            assert done.wait(10)
            return found

        await sent(process, 3)
        await process.queue.read(0, 1 << 20)
        monkeypatch.setattr(housekeeper, "_some", overtaken)
        while ("dropped", 3) not in process.events:
            await sent(process, 1)
        assert ("dropped", 1) not in process.events
        assert ("dropped", 2) not in process.events
        await process.queue.close()

    run(main())


def test_a_segment_without_its_file_is_given_up_too() -> None:
    async def main() -> None:
        disk = FaultyFiles()
        process = started(World(), disk, max_bytes=2000, when_full="drop_oldest")
        await sent(process, 3)
        first = process.queue._log.sealed()[0]
        disk.unlink(first.path)
        while process.queue.status().cursor < first.last_id:
            await sent(process, 1)
        await sent(process, 3)
        assert process.queue.healthy
        assert process.queue.status().damaged == 1
        assert first.path not in {segment.path for segment in process.queue._log.segments()}
        await process.queue.close()

    run(main())


def test_a_failed_checkpoint_keeps_the_segments_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.spool.housekeeper.RETRY_SECONDS", 0.01)

    class NoCheckpoint(FaultyFiles):
        broken = True

        def replace(self, path: Path, data: bytes) -> None:
            if path == CHECKPOINT and self.broken:
                raise OSError(errno.EROFS, "read-only file system")
            super().replace(path, data)

    async def main() -> None:
        disk = NoCheckpoint()
        process = started(World(), disk)
        await sent(process, 4)
        await process.deliver(1 << 20)
        await process.settled()
        assert process.queue.status().segments > 1
        assert process.queue.healthy
        assert "read-only" in str(process.queue.last_error)
        disk.broken = False  # and nothing comes any more that would have it look again
        async with asyncio.timeout(10):
            while process.queue.last_error is not None:  # noqa: ASYNC110 - a property, nothing tells of its end
                await asyncio.sleep(0.005)
        assert process.queue.status().segments == 1
        await process.queue.close()

    run(main())


def test_a_cursor_that_cannot_be_stored_does_not_stop_delivery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.spool.housekeeper.RETRY_SECONDS", 0.01)

    async def main() -> None:
        world, disk = World(), FaultyFiles()
        process = started(world, disk, segment_bytes=100_000)
        await sent(process, 2)
        disk.failing = {len(disk.operations): errno.EIO}
        await process.deliver(1 << 20)
        assert "delivered again after a restart" in str(process.queue.last_error)
        assert process.queue.status().cursor == 2
        assert process.queue.status().bytes_pending == 0
        await sent(process, 1)
        await process.deliver(1 << 20)
        assert process.queue.last_error is None
        await process.queue.close()
        await check_recovery(world, disk.after_power_cut("none", "none", 0), **SETTINGS)

    run(main())


def test_delivery_frees_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The spool fills the disk it shares with the checkpoint; then the database comes back."""
    monkeypatch.setattr("gateway.spool.housekeeper.RETRY_SECONDS", 0.01)

    async def main() -> None:
        world, disk = World(), FaultyFiles()
        process = started(world, disk, keep_delivered=3600.0)
        disk.capacity = disk.used() + 6000
        while not process.failures:
            await sent(process, 1)
        assert not process.queue.healthy
        assert len(world.acked) > 20
        for _ in range(100):
            await process.deliver(1 << 20)
            await process.settled()
            await asyncio.sleep(0.01)
            process.send()
            await process.queue.flush()
            if not any(world.outbox.values()):
                break
        assert process.queue.healthy, process.queue.last_error
        assert world.acked == world.all_sent
        for _ in range(40):  # more than there is room for, if what is delivered were kept for its time
            await sent(process, 1)
            await process.deliver(1 << 20)
            await process.settled()
        for _ in range(20):
            await asyncio.sleep(0.01)
            process.send()
            await process.queue.flush()
            await process.settled()
            await process.deliver(1 << 20)
            await process.settled()
        assert world.acked == world.all_sent
        await process.queue.close()
        await check_recovery(world, disk.after_power_cut("none", "none", 0), **SETTINGS)

    run(main())


def test_a_full_disk_does_not_stop_a_start() -> None:
    async def main() -> None:
        world, disk = World(), FaultyFiles()
        process = started(world, disk)
        await sent(process, 10)
        await process.queue.close()
        disk = disk.after_kill()
        disk.capacity = disk.used()
        process = started(world, disk)
        assert not process.queue.healthy
        assert len(await process.readable()) == 10
        while await process.deliver(1 << 20):
            await process.settled()
        await sent(process, 3)
        assert process.queue.healthy, process.queue.last_error
        assert process.ledger.total.stored == 10
        await process.queue.close()

    run(main())


def test_one_checkpoint_per_segment_not_per_commit() -> None:
    async def main() -> None:
        disk = FaultyFiles()
        process = started(World(), disk, segment_bytes=100_000)
        await process.settled()
        before = len(disk.operations)
        await sent(process, 50)
        assert not [operation for operation in disk.operations[before:] if "ledger" in operation]
        await process.queue.close()

    run(main())


def test_after_a_clean_stop_the_start_reports_no_record_again() -> None:
    async def main() -> None:
        world, disk = World(), FaultyFiles()
        process = started(world, disk, segment_bytes=100_000)
        await sent(process, 5)
        await process.deliver(1)
        await process.queue.close()
        again = Process(world, disk, **SETTINGS)
        assert again.ledger.accounts == process.ledger.accounts
        assert (again.ledger.committed_to, again.ledger.delivered_to) == (5, 1)
        assert [path.name for path in disk.names_now if path.parent == SPOOL and path.name.endswith(".seg")] == [
            "00000000000000000001.seg"
        ]

    run(main())


def test_a_dropped_record_that_no_checkpoint_has_is_never_counted_as_delivered() -> None:
    """While the checkpoint cannot be written, what was given up stays where it is, undelivered for the next start."""

    class NoCheckpoint(FaultyFiles):
        broken = False

        def replace(self, path: Path, data: bytes) -> None:
            if path == CHECKPOINT and self.broken:
                raise OSError(errno.ENOSPC, "no space left on device")
            super().replace(path, data)

    class BreaksAtLoss(Process):
        def dropped(self, record_id: int, entries: Sequence[Entry]) -> None:
            super().dropped(record_id, entries)
            disk.broken = True

    disk = NoCheckpoint()

    async def main() -> None:
        settings: dict[str, Any] = {**SETTINGS, "max_bytes": 4000, "when_full": "drop_oldest"}
        process = BreaksAtLoss(World(), disk, **settings)
        process.open()
        process.queue.start()
        await sent(process, 4)
        await process.deliver(1)
        while not process.ledger.total.dropped:
            await sent(process, 1)
        await process.deliver(1)
        assert process.ledger.total.stored == 2
        killed, survivors = disk.after_kill(), process.world.copy()
        await process.queue.close()
        again = Process(survivors, killed, **settings)
        again.open()
        assert again.ledger.total.stored == 1
        assert again.ledger.total.pending == again.ledger.total.received - 1
        await again.queue.close()
        await check_recovery(survivors, killed, **SETTINGS)

    run(main())
