"""What a spool tells and adds up at its start, after kills, lost files and damage."""

from __future__ import annotations

from tests.support.faulty_files import FaultyFiles
from tests.support.spool_world import SPOOL, Process, World, flip, run, running, sent


def test_a_lost_cursor_and_checkpoint_mean_delivery_from_the_oldest() -> None:
    world, disk = World(), FaultyFiles()

    async def main() -> None:
        async with running(world, disk, keep_delivered=3600.0) as process:
            await sent(process, 6)
            await process.deliver(1 << 20)
            await sent(process, 1)
        for path in [path for path in disk.names_now if path.name in {"cursor", "ledger.json"}]:
            disk.unlink(path)
        async with running(world, disk) as process:
            assert process.queue.status().cursor == 0
            assert [record.id for record in await process.readable()] == list(range(1, 8))
            assert process.ledger.total.received == process.ledger.total.pending == 7

    run(main())


def test_the_checkpoint_stands_in_for_a_cursor_that_is_behind_it() -> None:
    world, disk = World(), FaultyFiles()

    async def main() -> None:
        async with running(world, disk, keep_delivered=3600.0) as process:
            await sent(process, 6)
            await process.deliver(1 << 20)
        disk.unlink(SPOOL / "cursor")
        async with running(world, disk) as process:
            assert process.queue.status().cursor == 6
            assert process.ledger.total.stored == 6

    run(main())


def test_records_after_the_checkpoint_restore_the_ledger() -> None:
    world, disk = World(), FaultyFiles()

    async def main() -> None:
        process = Process(world, disk, segment_bytes=1000)
        process.open()
        process.queue.start()
        process.connect()
        await sent(process, 12)
        await process.deliver()
        await process.settled()
        await sent(process, 1)
        killed = disk.after_kill()
        await process.queue.close()
        again = Process(world, killed, segment_bytes=1000)
        checkpointed = again.ledger.committed_to
        recovery = again.open()
        assert 0 < checkpointed < 13
        assert again.ledger.total == process.ledger.total
        assert again.ledger.accounts == process.ledger.accounts
        assert recovery.pending == 13 - recovery.cursor
        assert recovery.pending_readings == again.queue.status().readings_pending == recovery.pending
        assert f"{recovery.pending} records with {recovery.pending} readings wait" in str(recovery)
        await again.queue.close()

    run(main())


def test_bytes_pending_are_the_same_after_a_restart() -> None:
    world, disk = World(), FaultyFiles()

    async def main() -> None:
        async with running(world, disk) as process:
            await sent(process, 6)
            await process.deliver()
            await process.readable()
            before = process.queue.status()
        async with running(world, disk) as process:
            after = process.queue.status()
        assert (before.bytes_pending, before.readings_pending) == (after.bytes_pending, after.readings_pending)
        assert before.oldest_ns == after.oldest_ns

    run(main())


def test_damaged_readings_are_dropped_at_the_start_unless_they_can_be_read_again() -> None:
    world, disk = World(), FaultyFiles()

    async def main() -> None:
        async with running(world, disk, segment_bytes=100_000) as process:
            await sent(process, 6, "a")
            await sent(process, 1, "b")
            await process.deliver(1)
        for damaged in (2, 5):
            flip(disk, damaged)
        async with running(world, disk) as process:
            assert process.queue.status().damaged == 2
            assert process.lost == 2
            assert process.pending_in_both() == 4
            assert process.ledger.account("a").sums()["dropped"] == 2
        async with running(world, disk) as process:
            assert process.lost == 0
        flip(disk, 5)
        async with running(world, disk) as process:
            assert process.lost == -1
            while await process.deliver():
                process.pending_in_both()
            assert process.ledger.total.sums() == {
                "received": 7, "stored": 6, "duplicate": 0, "rejected": 0, "dropped": 1, "pending": 0, "gaps": 0,
            }  # fmt: skip

    run(main())


def test_a_record_that_only_the_start_could_not_read_counts_as_delivered() -> None:
    world, disk = World(), FaultyFiles()

    async def main() -> None:
        async with running(world, disk, segment_bytes=100_000) as process:
            await sent(process, 6)
        for damaged in ([2], [6], [1, 2, 3], [3, 5, 6]):
            killed = disk.after_kill()
            for record_id in damaged:
                flip(killed, record_id)
            async with running(world.copy(), killed) as process:
                assert process.lost == len(damaged)
                assert process.pending_in_both() == 6 - len(damaged)
                for record_id in damaged:
                    flip(killed, record_id)
                while await process.deliver(1):
                    pass
                assert process.pending_in_both() == process.lost == 0
                assert process.ledger.total.stored == 6

    run(main())
