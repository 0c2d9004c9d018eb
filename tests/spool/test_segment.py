from __future__ import annotations

import errno
from pathlib import Path

import pytest

from gateway.errors import SpoolError
from gateway.ledger import Entry
from gateway.spool import segment
from gateway.spool.read_retries import ReadRetries
from gateway.spool.record import Record, encode
from gateway.spool.segment import (
    START,
    Damage,
    SegmentHeader,
    SegmentReader,
    SegmentWriter,
    first_id_of,
    is_tail,
    path_of,
    read_header,
)
from tests.support.faulty_files import FaultyFiles

HERE = Path("/spool")


def record(number: int, size: int = 20) -> bytes:
    return encode(number, 0, [Entry("d", payload=b"x" * size)])


def written(disk: FaultyFiles, *records: bytes, first_id: int = 1) -> SegmentWriter:
    writer = SegmentWriter(disk, HERE, SegmentHeader(first_id))
    for data in records:
        writer.append(data)
    return writer


def damaged(disk: FaultyFiles, path: Path, offset: int, data: bytes = b"?") -> None:
    disk.names_now[path].data[offset : offset + len(data)] = data


def contents(disk: FaultyFiles, path: Path, end: int, first_id: int = 1) -> list[int | Damage]:
    """Ids of the records found, and the damage between them."""
    reader = SegmentReader(disk, path, first_id)
    found: list[int | Damage] = []
    while (item := reader.read(end)) is not None:
        found += [item] if isinstance(item, Damage) else [one.id for one in item]
    reader.close()
    return found


def test_a_name_carries_the_first_id_and_sorts_like_it() -> None:
    ids = [1, 9, 10, 2**64 - 1]
    names = [path_of(HERE, number).name for number in ids]
    assert names == sorted(names)
    assert [first_id_of(name) for name in names] == ids
    for other in "cursor", "1.seg", names[0] + ".new", names[0] + "@44.torn", "copy of " + names[0]:
        assert first_id_of(other) is None


def test_a_header_is_read_back() -> None:
    disk = FaultyFiles()
    header = SegmentHeader(7, 3, 1000)
    writer = SegmentWriter(disk, HERE, header)
    assert (writer.end, writer.empty) == (START, True)
    assert read_header(disk, writer.path) == header


def test_a_segment_gets_its_name_when_its_bytes_are_durable() -> None:
    disk = FaultyFiles()
    writer = SegmentWriter(disk, HERE, SegmentHeader(1), record(1))
    name = "00000000000000000001.seg"
    assert disk.operations == [
        f"create {name}.new",
        f"write {name}.new",
        f"sync {name}.new",
        f"rename {name}",
        "sync_dir spool",
    ]
    assert contents(disk.after_power_cut("none", "none", 0), writer.path, writer.end) == [1]


@pytest.mark.parametrize("failing", range(5))
def test_a_segment_that_cannot_be_made_leaves_no_room_taken(failing: int) -> None:
    disk = FaultyFiles()
    disk.failing = {failing: errno.ENOSPC}
    with pytest.raises(OSError, match="injected"):
        SegmentWriter(disk, HERE, SegmentHeader(1))
    assert [path.name for path in disk.names_now] == (["00000000000000000001.seg"] if failing == 4 else [])


def test_a_newer_version_is_refused_and_a_flipped_bit_is_not_taken_for_one() -> None:
    disk = FaultyFiles()
    writer = written(disk)
    data = disk.names_now[writer.path].data
    whole = bytes(data)
    for bit in range(8 * START):
        data[bit // 8] ^= 1 << bit % 8
        assert read_header(disk, writer.path) is None, f"bit {bit}"
        data[:] = whole
    for length in range(START):
        data[:] = whole[:length]
        assert read_header(disk, writer.path) is None, f"{length} bytes"
    opening = segment._OPENING.pack(segment._MAGIC, 2)
    data[:] = opening + segment._CRC.pack(segment.crc32c(opening)) + b"laid out otherwise".ljust(40)
    with pytest.raises(SpoolError, match=r"version 2.*reads up to 1.*nothing was changed"):
        read_header(disk, writer.path)


def test_an_append_is_one_write_and_one_sync() -> None:
    disk = FaultyFiles()
    writer = written(disk)
    before = len(disk.operations)
    writer.append(record(1))
    name = writer.path.name + ".new"  # the descriptor was opened under that name
    assert disk.operations[before:] == [f"write {name}", f"sync {name}"]
    assert writer.end == START + len(record(1))


@pytest.mark.parametrize("operation", ["write", "sync"])
def test_a_failed_append_does_not_count_and_its_bytes_are_cut_off(operation: str) -> None:
    disk = FaultyFiles()
    writer = written(disk, record(1))
    disk.failing = {len(disk.operations) + (operation == "sync"): errno.EIO}
    end = writer.end
    with pytest.raises(OSError, match="injected"):
        writer.append(record(2))
    assert writer.end == end
    writer.seal(cut=True)
    assert disk.size(writer.path) == end


def test_records_are_read_in_runs_whatever_their_size() -> None:
    disk = FaultyFiles()
    sizes = [10] * 2000 + [300_000, 5, 262_144, 262_000] + [10] * 10
    writer = written(disk, *(record(number, size) for number, size in enumerate(sizes, 1)))
    assert contents(disk, writer.path, writer.end) == list(range(1, len(sizes) + 1))


def test_reading_goes_on_where_it_ended_and_never_passes_the_end_it_is_given() -> None:
    disk = FaultyFiles()
    writer = written(disk, record(1))
    reader = SegmentReader(disk, writer.path, 1)
    end = writer.end
    disk.names_now[writer.path].data += record(2)[:30]  # being written
    assert [one.id for one in reader.read(end) or () if isinstance(one, Record)] == [1]
    assert reader.read(end) is None
    del disk.names_now[writer.path].data[end:]
    writer.append(record(2))
    assert [one.id for one in reader.read(writer.end) or () if isinstance(one, Record)] == [2]


def test_damage_is_skipped_to_the_next_whole_record() -> None:
    disk = FaultyFiles()
    writer = written(disk, *(record(number) for number in (1, 2, 3)))
    size = len(record(1))
    damaged(disk, writer.path, START + size + 60)
    place = Damage(writer.path, START + size, size, "the checksum of record 2 does not fit")
    assert contents(disk, writer.path, writer.end) == [1, place, 3]
    damaged(disk, writer.path, START + size)
    place = Damage(writer.path, START + size, size, "not the header of a record")
    assert contents(disk, writer.path, writer.end) == [1, place, 3]
    assert not is_tail(place, writer.end)


def test_a_record_start_in_damaged_bytes_is_no_record() -> None:
    disk = FaultyFiles()
    old = record(1)
    writer = written(disk, record(5), record(6, 200), record(7), first_id=5)
    at = START + len(record(5))
    damaged(disk, writer.path, at, b"?" * 60 + b"\xffTGR" * 5 + old)  # an old block of the disk, whole record and all
    place = Damage(writer.path, at, len(record(6, 200)), "not the header of a record")
    assert contents(disk, writer.path, writer.end, 5) == [5, place, 7]


def test_damage_up_to_the_end_is_a_tail() -> None:
    disk = FaultyFiles()
    writer = written(disk, record(1), record(2))
    end = writer.end - 1
    found = contents(disk, writer.path, end)
    assert found == [1, Damage(writer.path, START + len(record(1)), len(record(2)) - 1, "record 2 is cut short")]
    assert isinstance(found[1], Damage)
    assert is_tail(found[1], end)


def test_a_file_shorter_than_it_was_is_damage_to_its_end() -> None:
    disk = FaultyFiles()
    writer = written(disk, record(1), record(2))
    del disk.names_now[writer.path].data[START + len(record(1)) + 50 :]
    [one, place] = contents(disk, writer.path, writer.end + 1000)
    assert one == 1
    assert isinstance(place, Damage)
    assert place.offset + place.length == writer.end + 1000


def test_a_sector_that_cannot_be_read_costs_its_records_only() -> None:
    disk = FaultyFiles()
    writer = written(disk, *(record(number, 1000) for number in range(1, 41)))
    size = len(record(1, 1000))
    disk.unreadable = {(writer.path.name, START + 10 * size + 500)}
    found = contents(disk, writer.path, writer.end)
    places = [item for item in found if isinstance(item, Damage)]
    assert len(places) == 1
    assert len(found) >= 40 - 4096 // size - 2
    assert found[-1] == 40


def test_a_bad_sector_behind_the_first_page_of_a_read_is_retried_and_costs_its_records_only() -> None:
    disk = FaultyFiles()
    writer = written(disk, *(record(number, 9000) for number in range(1, 91)))
    size = len(record(1, 9000))
    disk.unreadable = {(writer.path.name, START + 40 * size + 4500)}
    reader = SegmentReader(disk, writer.path, 1, retries := ReadRetries(1))
    found: list[int | Damage] = []
    errors = 0
    while True:
        try:
            item = reader.read(writer.end)
        except OSError:
            errors += 1
            retries.count_failure()
            continue
        if item is None:
            break
        found += [item] if isinstance(item, Damage) else [one.id for one in item]
    [place] = [item for item in found if isinstance(item, Damage)]
    assert place.offset <= START + 40 * size + 4500 < place.offset + place.length
    assert place.length <= 2 * size
    assert errors == 1, "what stands before it in the same run is no other place"
    assert found[-1] == 90


def test_the_tries_run_out_where_only_the_end_of_a_large_record_cannot_be_read() -> None:
    disk = FaultyFiles()
    writer = written(disk, record(1, 600_000), record(2))
    disk.unreadable = {(writer.path.name, START + 500_000)}
    reader = SegmentReader(disk, writer.path, 1, retries := ReadRetries(3))
    for _ in range(3):
        with pytest.raises(OSError, match="bad sector"):
            reader.read(writer.end)
        retries.count_failure()
    assert isinstance(reader.read(writer.end), Damage)
    assert [one.id for one in reader.read(writer.end) or () if isinstance(one, Record)] == [2]


def test_a_disk_that_is_away_for_a_moment_costs_nothing() -> None:
    disk = FaultyFiles()
    writer = written(disk, record(1))
    reader = SegmentReader(disk, writer.path, 1, retries := ReadRetries(2))
    disk.unreadable = {(writer.path.name, START + 5)}
    for _ in range(2):
        with pytest.raises(OSError, match="bad sector"):
            reader.read(writer.end)
        retries.count_failure()
    disk.unreadable = set()
    assert [one.id for one in reader.read(writer.end) or () if isinstance(one, Record)] == [1]
    writer.append(record(2))
    disk.unreadable = {(writer.path.name, writer.end - 5)}
    for _ in range(2):
        with pytest.raises(OSError, match="bad sector"):
            reader.read(writer.end)
        retries.count_failure()
    assert isinstance(reader.read(writer.end), Damage)


def test_damage_says_where_it_is() -> None:
    assert str(Damage(HERE / "a.seg", 44, 9, "cut short")) == "a.seg at byte 44, 9 bytes: cut short"
