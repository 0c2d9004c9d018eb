from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.ledger import Entry
from gateway.spool.log import Log
from gateway.spool.quarantine import Quarantine
from gateway.spool.reader import DAMAGE_LISTED, MAX_READ_RETRIES, SpoolReader
from gateway.spool.segment import START, Damage, path_of
from tests.support.faulty_files import FaultyFiles

if TYPE_CHECKING:
    from collections.abc import Coroutine

HERE = Path("/spool")
ALL = 1 << 20


def run(work: Coroutine[None, None, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(20):
            await work

    asyncio.run(limited())


def spool_reader(disk: FaultyFiles, records: int = 9) -> tuple[SpoolReader, Log]:
    """Records of about 130 bytes, four in a segment."""
    log = Log(disk, HERE, 600)
    assert list(log.recover(0, 0)) == []
    log.start()
    for _ in range(records):
        log.append([Entry("d", payload=b"x" * 30)], 0)
    return SpoolReader(log, Quarantine(disk, HERE)), log


async def ids(reading: SpoolReader, after: int) -> list[int]:
    return [record.id for record in await reading.read(after, ALL)]


def test_reading_can_go_on_or_begin_anywhere() -> None:
    async def main() -> None:
        reading, log = spool_reader(FaultyFiles())
        assert await ids(reading, 0) == list(range(1, 10))
        log.append([Entry("d")], 0)
        assert await ids(reading, 9) == [10]
        assert await ids(reading, 4) == list(range(5, 11))
        reading.close()

    run(main())


def test_a_segment_given_up_while_it_is_read_is_no_damage() -> None:
    async def main() -> None:
        disk = FaultyFiles()
        reading, log = spool_reader(disk)
        segments = log.segments()
        log.remove(log.sealed()[:1])
        log.segments = lambda: segments  # type: ignore[method-assign] # the list was made before
        found, _ = reading._read(0, ALL, segments)
        del log.segments  # type: ignore[method-assign]
        assert [item for item in found if isinstance(item, Damage)] != []
        assert await ids(reading, 0) == [5, 6, 7, 8, 9]
        assert reading.damage == ()
        reading.close()

    run(main())


def test_a_file_that_was_taken_away_is_reported() -> None:
    async def main() -> None:
        disk = FaultyFiles()
        reading, _ = spool_reader(disk)
        disk.unlink(path_of(HERE, 5))
        assert await ids(reading, 0) == [1, 2, 3, 4, 9]
        assert [damage.reason for damage in reading.damage] == ["the file is gone"]
        reading.close()

    run(main())


def test_a_disk_that_does_not_answer_raises_before_anything_is_passed_over() -> None:
    async def main() -> None:
        disk = FaultyFiles()
        reading, log = spool_reader(disk, 1)
        disk.unreadable = {(path_of(HERE, 1).name, 100)}
        for _ in range(MAX_READ_RETRIES):
            with pytest.raises(OSError, match="bad sector"):
                await reading.read(0, ALL)
        assert await ids(reading, 0) == []
        assert len(reading.damage) == 1
        disk.unreadable.clear()
        log.append([Entry("d")], 0)
        await reading.wait(0)
        assert await ids(reading, 0) == [2]
        reading.close()

    run(main())


async def read_as_delivery_does(reading: SpoolReader) -> tuple[list[int], int]:
    """From the first record again after each error, because none was delivered yet; and the number of errors."""
    found: list[int] = []
    errors = 0
    while True:
        try:
            new = [record.id for record in await reading.read(found[-1] if found else 0, 100_000)]
        except OSError:
            errors += 1
            assert errors < 10 * MAX_READ_RETRIES, "for ever"
            found.clear()
            continue
        if not new:
            return found, errors
        found += new


def with_bad_sectors() -> tuple[FaultyFiles, Log]:
    """Records of 20 KB, fifty in a segment; records 31, 45 and 72 cannot be read."""
    disk = FaultyFiles()
    log = Log(disk, HERE, 1_010_000)
    assert list(log.recover(0, 0)) == []
    log.start()
    size = log.append([Entry("d", payload=b"x" * 20_000)], 0).size
    for _ in range(99):
        log.append([Entry("d", payload=b"x" * 20_000)], 0)
    first, second = log.segments()[:2]
    assert second.first_id == 51
    disk.unreadable = {(first.path.name, START + number * size + 9000) for number in (30, 44)}
    disk.unreadable |= {(second.path.name, START + 21 * size + 9000)}
    return disk, log


def test_records_before_an_unreadable_place_are_returned_first() -> None:
    async def main() -> None:
        disk, log = with_bad_sectors()
        reading = SpoolReader(log, Quarantine(disk, HERE))
        before = [record.id for record in await reading.read(0, 1 << 30)]
        assert before == list(range(1, len(before) + 1))
        assert 10 < len(before) < 31
        with pytest.raises(OSError, match="bad sector"):
            await reading.read(before[-1], 1 << 30)
        reading.close()

    run(main())


def test_places_that_cannot_be_read_are_passed_though_nothing_before_them_is_delivered_yet() -> None:
    async def main() -> None:
        disk, log = with_bad_sectors()
        reading = SpoolReader(log, Quarantine(disk, HERE))
        found, errors = await read_as_delivery_does(reading)
        assert found == [number for number in range(1, 101) if number not in {31, 45, 72}]
        assert errors == 3 * MAX_READ_RETRIES
        assert len(reading.damage) == 3
        reading.close()

    run(main())


def test_an_error_behind_a_damaged_place_is_no_end_of_the_records() -> None:
    async def main() -> None:
        disk, log = with_bad_sectors()
        first, second = log.segments()[:2]
        disk.unlink(first.path)
        disk.unreadable = {(second.path.name, START + 5)}
        reading = SpoolReader(log, Quarantine(disk, HERE))
        with pytest.raises(OSError, match="bad sector"):
            await reading.read(0, 1 << 30)
        assert [damage.reason for damage in reading.damage] == ["the file is gone"]
        reading.close()

    run(main())


def test_places_are_remembered_up_to_a_bound(caplog: pytest.LogCaptureFixture) -> None:
    reading, _ = spool_reader(FaultyFiles(), 0)
    for offset in range(DAMAGE_LISTED + 5):
        for _ in range(2):
            reading.found(Damage(path_of(HERE, 1), offset, 0, "missing"))
    assert len(reading.damage) == DAMAGE_LISTED == len(caplog.records)
    reading.close()


def test_a_torn_tail_is_kept_and_not_counted() -> None:
    disk = FaultyFiles()
    reading, log = spool_reader(disk, 1)
    reading.found_torn(Damage(log.segments()[0].path, 50, 10, "cut short"))
    assert reading.damage == ()
    assert disk.names(HERE / "quarantine") == [f"{path_of(HERE, 1).name}@50.torn"]
    reading.close()
