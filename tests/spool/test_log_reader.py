from __future__ import annotations

from pathlib import Path

from gateway.ledger import Entry
from gateway.spool.log import Log
from gateway.spool.log_reader import LogReader, Segment, discover
from gateway.spool.record import Record, encode
from gateway.spool.segment import START, Damage, SegmentHeader, SegmentWriter, path_of
from tests.support.faulty_files import FaultyFiles

HERE = Path("/spool")


def record(number: int) -> bytes:
    return encode(number, 0, [Entry("d", payload=b"x" * 20)])


SIZE = len(record(1))


def segment(disk: FaultyFiles, header: SegmentHeader, *ids: int) -> None:
    writer = SegmentWriter(disk, HERE, header)
    for number in ids:
        writer.append(record(number))


def three_segments() -> FaultyFiles:
    """Records 1 to 3, 4 to 6 and 7 to 9."""
    disk = FaultyFiles()
    segment(disk, SegmentHeader(1), 1, 2, 3)
    segment(disk, SegmentHeader(4, 1, START + 3 * SIZE), 4, 5, 6)
    segment(disk, SegmentHeader(7, 4, START + 3 * SIZE), 7, 8, 9)
    return disk


def data_of(disk: FaultyFiles, first_id: int) -> bytearray:
    return disk.names_now[path_of(HERE, first_id)].data


def items(disk: FaultyFiles, after: int = 0) -> list[int | Damage]:
    reader = LogReader(disk, after)
    found = [item.id if isinstance(item, Record) else item for item in reader.items(discover(disk, HERE))]
    reader.close()
    return found


def test_segments_are_found_in_order_and_each_ends_where_the_next_begins() -> None:
    disk = three_segments()
    disk.edit(HERE / "cursor")
    found = discover(disk, HERE)
    assert [(one.first_id, one.last_id) for one in found] == [(1, 3), (4, 6), (7, 2**64 - 1)]
    assert {(one.end, one.size, one.sound) for one in found} == {(START + 3 * SIZE, START + 3 * SIZE, True)}
    assert discover(disk, Path("/nowhere")) == []


def test_reading_begins_behind_any_record() -> None:
    disk = three_segments()
    for after in range(10):
        assert items(disk, after) == list(range(after + 1, 10))


def test_bytes_behind_the_end_of_a_segment_never_count() -> None:
    disk = three_segments()
    data_of(disk, 1).extend(record(4) + b"torn")
    assert items(disk) == list(range(1, 10))


def test_a_record_that_was_written_again_counts_where_it_is_last() -> None:
    """Without the next segment's header the ids decide; the rest behind them is reported, not believed."""
    disk = three_segments()
    data_of(disk, 1).extend(record(4) + record(5))
    data_of(disk, 4)[20] ^= 1
    [one, two, three, header, *rest] = items(disk)
    assert (one, two, three, rest) == (1, 2, 3, [4, 5, 6, 7, 8, 9])
    assert header == Damage(path_of(HERE, 4), 0, START, "not the header of a segment")


def test_a_damaged_header_costs_no_record() -> None:
    for first_id in 1, 4, 7:
        disk = three_segments()
        data_of(disk, first_id)[:START] = bytes(START)
        assert [item for item in items(disk) if isinstance(item, int)] == list(range(1, 10))


def test_missing_records_are_reported_once_unless_damage_explains_them() -> None:
    disk = three_segments()
    disk.unlink(path_of(HERE, 4))
    assert items(disk) == [1, 2, 3, Damage(path_of(HERE, 7), START, 0, "records 4 to 6 are missing"), 7, 8, 9]
    assert items(disk, 3) == [Damage(path_of(HERE, 7), START, 0, "records 4 to 6 are missing"), 7, 8, 9]
    disk = three_segments()
    del data_of(disk, 4)[START + SIZE :]
    place = Damage(path_of(HERE, 4), START + SIZE, 2 * SIZE, "cut short")
    assert items(disk) == [1, 2, 3, 4, place, 7, 8, 9]


def test_a_file_that_is_gone_is_reported_and_passed() -> None:
    disk = three_segments()
    segments = discover(disk, HERE)
    disk.unlink(path_of(HERE, 4))
    reader = LogReader(disk, 0)
    found = [item.id if isinstance(item, Record) else item.reason for item in reader.items(segments)]
    assert found == [1, 2, 3, "the file is gone", 7, 8, 9]


def test_stopping_after_any_item_loses_none() -> None:
    disk = three_segments()
    disk.unlink(path_of(HERE, 4))
    data_of(disk, 7)[START + SIZE] ^= 1
    expected = items(disk)
    reader = LogReader(disk, 0)
    found: list[int | Damage] = []
    while len(found) < len(expected):
        item = next(iter(reader.items(discover(disk, HERE))))
        found.append(item.id if isinstance(item, Record) else item)
    assert found == expected
    assert list(reader.items(discover(disk, HERE))) == []


def test_reading_follows_the_log_as_it_grows() -> None:
    disk = FaultyFiles()
    log = Log(disk, HERE, 4 * SIZE)
    assert list(log.recover(0, 0)) == []
    log.start()
    reader = log.reader(0)
    found: list[int] = []
    for number in range(20):
        log.append([Entry("d", payload=b"x" * (number % 40))], 0)
        if number % 3 == 0:
            found += [item.id for item in reader.items(log.segments()) if isinstance(item, Record)]
    found += [item.id for item in reader.items(log.segments()) if isinstance(item, Record)]
    assert found == list(range(1, 21))
    assert len(log.segments()) > 3


def test_a_reader_whose_segment_was_removed_goes_on_with_the_next() -> None:
    disk = three_segments()
    segments = discover(disk, HERE)
    reader = LogReader(disk, 0)
    assert next(iter(reader.items(segments)))
    remaining: list[Segment] = segments[1:]
    found = [item.id if isinstance(item, Record) else item.reason for item in reader.items(remaining)]
    assert found == ["records 2 to 3 are missing", 4, 5, 6, 7, 8, 9]


def test_offset_is_where_the_last_record_begins() -> None:
    disk = three_segments()
    reader = LogReader(disk, 0)
    offsets = [reader.offset for _ in reader.items(discover(disk, HERE))]
    assert offsets == [START, START + SIZE, START + 2 * SIZE] * 3
