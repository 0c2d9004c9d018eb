from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from gateway.errors import SpoolError
from gateway.spool import inspection, segment
from gateway.spool.segment import path_of
from tests.support.faulty_files import FaultyFiles
from tests.support.spool_world import SPOOL, Process, World

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.spool.files import Files


async def used(disk: Files, *, messages: int = 10, deliveries: int = 1) -> Process:
    """A running gateway with three messages a segment."""
    process = Process(World(), disk, segment_bytes=600, keep_delivered=3600.0)
    process.open()
    process.queue.start()
    process.connect()
    for _ in range(messages):
        process.world.measure("a")
        process.send()
        await process.queue.flush()
    for _ in range(deliveries):
        await process.deliver()
    await process.settled()
    return process


def test_a_spool_in_use_can_be_inspected_and_is_not_changed() -> None:
    async def main() -> None:
        disk = FaultyFiles()
        process = await used(disk)
        operations, content = list(disk.operations), disk.content()
        reports = list(inspection.verify(SPOOL, disk))
        assert [(report.first_id, report.last_id, report.records, report.readings) for report in reports] == [
            (1, 3, 3, 3),
            (4, 6, 3, 3),
            (7, 9, 3, 3),
            (10, 10, 1, 1),
        ]
        assert all(not report.damage and not report.unfinished for report in reports)
        assert sum(report.size for report in reports) == process.queue.status().bytes_total
        assert [record.id for record in inspection.records(SPOOL, 4, disk)] == [5, 6, 7, 8, 9, 10]
        status = process.queue.status()
        assert inspection.cursor_position(SPOOL, disk) == status.cursor == 3
        assert (disk.operations, disk.content()) == (operations, content)
        await process.queue.close()

    asyncio.run(main())


def test_a_record_being_written_is_not_damage() -> None:
    async def main() -> None:
        disk = FaultyFiles()
        process = await used(disk)
        disk.names_now[path_of(SPOOL, 10)].data += b"\xffTGR..."
        *_, newest = inspection.verify(SPOOL, disk)
        assert (newest.records, newest.unfinished, newest.damage) == (1, 7, ())
        assert [record.id for record in inspection.records(SPOOL, 9, disk)] == [10]
        await process.queue.close()

    asyncio.run(main())


def test_damage_is_reported_with_its_place() -> None:
    async def main() -> None:
        disk = FaultyFiles()
        process = await used(disk)
        path = path_of(SPOOL, 4)
        disk.names_now[path].data[-1] ^= 1
        reports = list(inspection.verify(SPOOL, disk))
        assert [len(report.damage) for report in reports] == [0, 1, 0, 0]
        [damage] = reports[1].damage
        assert (damage.path, damage.reason) == (path, "the checksum of record 6 does not fit")
        assert reports[1].records == 2
        assert [record.id for record in inspection.records(SPOOL, 0, disk)] == [1, 2, 3, 4, 5, 7, 8, 9, 10]
        await process.queue.close()

    asyncio.run(main())


def test_segments_removed_during_an_inspection_are_skipped() -> None:
    async def main() -> None:
        disk = FaultyFiles()
        process = await used(disk)
        reports = inspection.verify(SPOOL, disk)
        records = inspection.records(SPOOL, 0, disk)
        assert next(reports).first_id == 1
        assert next(records).id == 1
        process.queue._log.remove(process.queue._log.sealed()[:2])
        assert [report.first_id for report in reports] == [7, 10]
        assert [record.id for record in records] == [2, 3, 7, 8, 9, 10]
        await process.queue.close()

    asyncio.run(main())


def test_a_missing_spool_has_nothing_to_report() -> None:
    disk = FaultyFiles()
    assert list(inspection.verify(SPOOL, disk)) == []
    assert list(inspection.records(SPOOL, 0, disk)) == []
    assert inspection.cursor_position(SPOOL, disk) == 0


def test_a_newer_version_is_reported(tmp_path: Path) -> None:
    opening = segment._OPENING.pack(segment._MAGIC, 7)
    path_of(tmp_path, 1).write_bytes(opening + segment._CRC.pack(segment.crc32c(opening)) + bytes(100))
    with pytest.raises(SpoolError, match="format version 7"):
        list(inspection.verify(tmp_path))
