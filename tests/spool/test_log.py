from __future__ import annotations

import errno
from pathlib import Path

import pytest

from gateway.errors import AppendFailed, SpoolError
from gateway.ledger import Entry, Kind
from gateway.spool import segment
from gateway.spool.log import Commit, Log
from gateway.spool.record import Record, encode
from gateway.spool.segment import START, Damage, path_of, read_header
from tests.support.faulty_files import FaultyFiles

HERE = Path("/spool")
ENTRIES = [Entry("d", payload=b"x" * 20)]
SIZE = len(encode(1, 0, ENTRIES))
SEGMENT_BYTES = START + 4 * SIZE


def opened(disk: FaultyFiles, after: int = 0, known: int = 0, *, start: bool = True) -> tuple[Log, list[int | Damage]]:
    log = Log(disk, HERE, SEGMENT_BYTES)
    found = [item.id if isinstance(item, Record) else item for item in log.recover(after, known)]
    if start:
        log.start()
    return log, found


def filled(disk: FaultyFiles, records: int) -> Log:
    log, _ = opened(disk)
    for _ in range(records):
        log.append(ENTRIES, 0)
    return log


def readable(log: Log) -> list[int | Damage]:
    return [item.id if isinstance(item, Record) else item for item in log.reader(0).items(log.segments())]


def segments_on(disk: FaultyFiles) -> list[str]:
    return [name[15:20] for name in disk.names(HERE) if name.endswith(".seg")]


def data_of(disk: FaultyFiles, first_id: int) -> bytearray:
    return disk.names_now[path_of(HERE, first_id)].data


def test_records_are_numbered_from_1_and_spread_over_segments() -> None:
    disk = FaultyFiles()
    log = filled(disk, 9)
    assert readable(log) == list(range(1, 10))
    assert (log.last_id, segments_on(disk)) == (9, ["00001", "00005", "00009"])
    assert [(one.first_id, one.last_id) for one in log.segments()] == [(1, 4), (5, 8), (9, 9)]
    assert log.total_bytes == sum(disk.size(HERE / f"000000000000000{name}.seg") for name in segments_on(disk))
    assert all(disk.size(one.path) <= SEGMENT_BYTES for one in log.segments())


def test_a_commit_says_how_many_readings_of_devices_are_in_it() -> None:
    log, _ = opened(FaultyFiles())
    entries = [Entry("a", lines=3), Entry("b", lines=5, kind=Kind.PRESENCE), Entry("b", lines=4, rejected=2)]
    commit = log.append(entries, 9)
    assert commit == Commit(record_id=1, committed_ns=9, size=len(encode(1, 9, entries)), readings=7)


def test_a_record_larger_than_a_segment_gets_one_of_its_own() -> None:
    disk = FaultyFiles()
    log = filled(disk, 1)
    log.append([Entry("d", payload=bytes(3 * SEGMENT_BYTES))], 0)
    log.append(ENTRIES, 0)
    assert segments_on(disk) == ["00001", "00002", "00003"]
    assert readable(log) == [1, 2, 3]


def test_numbering_goes_on_after_a_restart_in_a_new_segment() -> None:
    disk = FaultyFiles()
    filled(disk, 2).close()
    log, found = opened(disk, known=2)
    assert found == [1, 2]
    assert log.append(ENTRIES, 0).record_id == 3
    assert segments_on(disk) == ["00001", "00003"]


def test_restarts_without_new_records_add_no_files() -> None:
    disk = FaultyFiles()
    filled(disk, 2).close()
    for _ in range(3):
        opened(disk, known=2)[0].close()
    assert segments_on(disk) == ["00001", "00003"]
    for _ in range(3):
        log, found = opened(disk)
        assert found == [1, 2]
        log.close()
    assert segments_on(disk) == ["00001", "00003"]


def test_the_last_record_is_written_again_unless_it_is_known_to_be_durable() -> None:
    disk = FaultyFiles()
    filled(disk, 2).close()
    log, _ = opened(disk)
    assert segments_on(disk) == ["00001", "00002"]
    assert [(one.first_id, one.last_id) for one in log.segments()] == [(1, 1), (2, 2)]
    assert readable(log) == [1, 2]
    log.append(ENTRIES, 0)
    _, found = opened(disk.after_power_cut("none", "none", 0))
    assert found == [1, 2, 3]


def test_a_torn_tail_is_left_out_and_never_reported_as_damage() -> None:
    disk = FaultyFiles()
    filled(disk, 2).close()
    data_of(disk, 1).extend(b"\xffTGR and so on")
    log, found = opened(disk, known=2)
    assert found == [1, 2]
    assert log.torn == Damage(path_of(HERE, 1), START + 2 * SIZE, 14, "cut short")
    log.append(ENTRIES, 0)
    log.close()
    log, found = opened(disk)
    assert (found, log.torn) == ([1, 2, 3], None)
    assert len(data_of(disk, 1)) == START + 2 * SIZE + 14, "recovery changed an old file"


def test_a_log_that_ends_below_the_known_id_is_damaged_not_torn() -> None:
    disk = FaultyFiles()
    filled(disk, 3).close()
    del data_of(disk, 1)[START + 2 * SIZE + 50 :]
    log, found = opened(disk, known=3)
    assert found == [1, 2, Damage(path_of(HERE, 1), START + 2 * SIZE, 50, "record 3 is cut short")]
    assert log.torn is None
    assert log.append(ENTRIES, 0).record_id == 4, "an id that was used must not be used again"


def test_ids_go_on_above_the_known_id_when_all_segments_are_gone() -> None:
    disk = FaultyFiles()
    log, found = opened(disk, after=40, known=41)
    assert found == [Damage(path_of(HERE, 41), 0, 0, "records 41 to 41 are missing")]
    assert log.append(ENTRIES, 0).record_id == 42
    assert readable(log) == [42]


def test_an_empty_or_ruined_newest_segment_costs_only_what_it_held() -> None:
    disk = FaultyFiles()
    filled(disk, 5).close()
    for ruin in b"", b"\0" * 30, b"\0" * 300:
        data_of(disk, 5)[:] = ruin
        log, found = opened(disk, known=4)
        assert [item for item in found if isinstance(item, int)] == [1, 2, 3, 4]
        assert log.append(ENTRIES, 0).record_id == 5
        assert [item for item in readable(log) if isinstance(item, int)] == [1, 2, 3, 4, 5]
        log.close()


def test_an_empty_newest_segment_keeps_the_ids_below_it_from_being_used_again() -> None:
    disk = FaultyFiles()
    filled(disk, 4).close()
    opened(disk, known=4)  # killed when it had begun its segment
    assert segments_on(disk) == ["00001", "00005"]
    data_of(disk, 1)[START + 3 * SIZE + SIZE // 2] ^= 1
    disk = disk.after_kill()
    log, found = opened(disk, known=2)
    assert [item for item in found if isinstance(item, int)] == [1, 2, 3]
    assert [log.append(ENTRIES, 0).record_id for _ in range(3)] == [5, 6, 7]
    log, found = opened(disk.after_kill(), known=2)
    assert [item for item in found if isinstance(item, int)] == [1, 2, 3, 5, 6, 7]
    assert log.append(ENTRIES, 0).record_id == 8


def test_a_ruined_newest_segment_is_not_overwritten_when_its_ids_were_in_use() -> None:
    disk = FaultyFiles()
    filled(disk, 5).close()
    ruin = b"\0" * 300
    data_of(disk, 5)[:] = ruin
    log, _ = opened(disk, known=5)
    assert log.append(ENTRIES, 0).record_id == 6
    assert data_of(disk, 5) == ruin


@pytest.mark.parametrize("operation", [0, 1], ids=["write", "sync"])
@pytest.mark.parametrize("records", [0, 2], ids=["in an empty segment", "behind others"])
def test_after_a_failed_append_that_file_is_never_written_again(operation: int, records: int) -> None:
    disk = FaultyFiles()
    log = filled(disk, records)
    suspect = disk.names_now[path_of(HERE, 1)]
    disk.failing = {len(disk.operations) + operation: errno.EIO}
    with pytest.raises(AppendFailed, match="could not be written"):
        log.append(ENTRIES, 0)
    written = len(suspect.unsynced), bytes(suspect.durable)
    assert readable(log) == list(range(1, records + 1))
    assert log.append([Entry("other")], 0).record_id == records + 1
    assert (len(suspect.unsynced), bytes(suspect.durable)) == written
    assert disk.names_now[path_of(HERE, records + 1)] is not suspect
    _, found = opened(disk.after_power_cut("all", "all", 0))
    assert found == list(range(1, records + 2)), "what failed came back"


def test_repeated_failures_do_not_pile_up_files() -> None:
    disk = FaultyFiles()
    log = filled(disk, 2)
    disk.capacity = disk.used()
    for _ in range(5):
        with pytest.raises(AppendFailed):
            log.append(ENTRIES, 0)
    assert disk.names(HERE) == [path_of(HERE, 1).name]
    assert log.total_bytes == disk.used()
    disk.capacity = None
    assert log.append(ENTRIES, 0).record_id == 3


def test_entries_that_cannot_be_written_leave_the_file_as_it_is() -> None:
    disk = FaultyFiles()
    log = filled(disk, 1)
    before = list(disk.operations)
    with pytest.raises(SpoolError, match="device 'd'"):
        log.append([Entry("d", lines=-1)], 0)
    assert disk.operations == before
    assert log.append(ENTRIES, 0).record_id == 2


def test_a_disk_that_fails_writes_at_the_start_can_be_read_and_is_tried_again() -> None:
    disk = FaultyFiles()
    filled(disk, 3).close()
    log, found = opened(disk, start=False)
    disk.capacity = disk.used()
    with pytest.raises(OSError, match="injected"):
        log.start()
    assert disk.operations[-2:] == [f"sync {path_of(HERE, 1).name}", "sync_dir spool"], (
        "the last record was not secured"
    )
    assert found == readable(log) == [1, 2, 3]
    with pytest.raises(AppendFailed):
        log.append(ENTRIES, 0)
    disk.capacity = None
    assert log.append(ENTRIES, 0).record_id == 4
    assert readable(log) == [1, 2, 3, 4]
    _, found = opened(disk.after_power_cut("none", "none", 0))
    assert found == [1, 2, 3, 4]


def test_the_directory_itself_is_durable_before_the_first_record() -> None:
    disk = FaultyFiles()
    filled(disk, 1)
    operations = disk.operations
    assert operations.index("sync_dir ") < operations.index("sync_dir spool")


def test_each_segment_tells_where_the_one_before_ends() -> None:
    disk = FaultyFiles()
    log = filled(disk, 9)
    one, two, three = log.segments()
    header = read_header(disk, three.path)
    assert header is not None
    assert (header.previous_id, header.previous_end) == (two.first_id, two.end)
    header = read_header(disk, two.path)
    assert header is not None
    assert (header.previous_id, header.previous_end) == (one.first_id, one.end)


def test_removal_is_by_segment_and_durable() -> None:
    disk = FaultyFiles()
    log = filled(disk, 9)
    log.remove(log.sealed()[:1])
    assert disk.operations[-2:] == [f"unlink {path_of(HERE, 1).name}", "sync_dir spool"]
    assert readable(log) == [5, 6, 7, 8, 9]
    assert log.total_bytes == sum(one.size for one in log.segments())


def test_a_segment_removed_while_another_begins_stays_removed() -> None:
    class Removing(FaultyFiles):
        def rename(self, old: Path, new: Path) -> None:
            super().rename(old, new)
            if new == path_of(HERE, 9):
                log.remove(log.sealed()[:1])

    disk = Removing()
    log = filled(disk, 8)
    log.append(ENTRIES, 0)
    assert [one.first_id for one in log.segments()] == [5, 9]
    assert readable(log) == [5, 6, 7, 8, 9]
    assert log.total_bytes == sum(one.size for one in log.segments())


def test_a_segment_that_cannot_be_removed_stays() -> None:
    disk = FaultyFiles()
    log = filled(disk, 9)
    disk.failing = {len(disk.operations) + 1: errno.EROFS}
    with pytest.raises(OSError, match="injected"):
        log.remove(log.sealed())
    assert readable(log) == [5, 6, 7, 8, 9]
    log.remove(log.sealed())
    assert readable(log) == [9]
    assert [one.first_id for one in log.sealed()] == []


def test_a_file_still_being_prepared_at_a_power_cut_is_removed() -> None:
    disk = FaultyFiles()
    filled(disk, 1).close()
    disk.edit(path_of(HERE, 2).with_name(path_of(HERE, 2).name + ".new"))
    disk.edit(HERE / "cursor.new")
    opened(disk, known=1, start=False)
    assert disk.names(HERE) == [path_of(HERE, 1).name]


def test_a_newer_version_stops_the_start_and_changes_nothing() -> None:
    disk = FaultyFiles()
    filled(disk, 5).close()
    data = data_of(disk, 5)
    opening = segment._OPENING.pack(segment._MAGIC, 2)
    data[:16] = opening + segment._CRC.pack(segment.crc32c(opening))
    before = disk.content(), list(disk.operations)
    with pytest.raises(SpoolError, match="version 2"):
        opened(disk)
    assert (disk.content(), disk.operations) == before
