from __future__ import annotations

import errno
from pathlib import Path

import pytest

from gateway.spool.cursor import NAME, Cursor, load
from tests.support.faulty_files import FaultyFiles

HERE = Path("/spool")


def stored(disk: FaultyFiles) -> int | None:
    found = load(disk, HERE)
    return found[1] if found else None


def data_of(disk: FaultyFiles) -> bytearray:
    return disk.names_now[HERE / NAME].data


def test_there_is_no_cursor_at_first() -> None:
    disk = FaultyFiles()
    assert stored(disk) is None
    assert Cursor(disk, HERE).stored == 0
    assert disk.operations == []


@pytest.mark.parametrize("failing", range(5))
def test_a_disk_that_does_not_take_the_first_one_is_tried_again(failing: int) -> None:
    disk = FaultyFiles()
    disk.failing = {failing: errno.ENOSPC}
    cursor = Cursor(disk, HERE)
    cursor.make()
    cursor.store(3)
    assert stored(disk.after_power_cut("none", "none", 0)) == 3


def test_a_stored_cursor_survives_a_power_cut() -> None:
    disk = FaultyFiles()
    cursor = Cursor(disk, HERE)
    for number in 5, 6, 90, 2**64 - 1:
        cursor.store(number)
        assert stored(disk.after_power_cut("none", "none", 0)) == number
        assert Cursor(disk, HERE).stored == number


def test_it_never_goes_back() -> None:
    disk = FaultyFiles()
    cursor = Cursor(disk, HERE)
    cursor.store(7)
    operations = list(disk.operations)
    cursor.store(7)
    cursor.store(3)
    assert (cursor.stored, disk.operations) == (7, operations)


def test_a_store_is_one_write_and_one_sync_once_the_file_is_there() -> None:
    disk = FaultyFiles()
    Cursor(disk, HERE).store(1)
    cursor = Cursor(disk, HERE)
    before = len(disk.operations)
    cursor.store(2)
    assert disk.operations[before:] == ["write cursor", "sync cursor"]


def test_a_full_disk_does_not_stop_it() -> None:
    disk = FaultyFiles()
    Cursor(disk, HERE).make()
    disk.capacity = disk.used()
    cursor = Cursor(disk, HERE)
    cursor.store(1)
    for number in range(2, 6):
        cursor.store(number)
    assert stored(disk) == 5


def test_a_torn_write_leaves_the_id_before() -> None:
    for left in "none", "prefix", "torn", "garbage", "all":
        for seed in range(20):
            disk = FaultyFiles()
            cursor = Cursor(disk, HERE)
            cursor.store(1)
            cursor.store(2)
            disk.failing = {len(disk.operations) + 1: errno.EIO}
            with pytest.raises(OSError, match="injected"):
                cursor.store(3)
            assert stored(disk.after_power_cut(left, "none", seed)) in {2, 3}


def test_after_a_failed_store_the_next_one_goes_to_a_new_file() -> None:
    disk = FaultyFiles()
    cursor = Cursor(disk, HERE)
    cursor.store(1)
    suspect = disk.names_now[HERE / NAME]
    disk.failing = {len(disk.operations) + 1: errno.EIO}
    with pytest.raises(OSError, match="injected"):
        cursor.store(2)
    assert cursor.stored == 1
    cursor.store(2)
    assert disk.names_now[HERE / NAME] is not suspect
    assert stored(disk.after_power_cut("none", "none", 0)) == 2


@pytest.mark.parametrize("slot", [0, 4096])
def test_a_flipped_bit_costs_one_slot(slot: int) -> None:
    disk = FaultyFiles()
    cursor = Cursor(disk, HERE)
    for number in 1, 2, 3:
        cursor.store(number)
    data = data_of(disk)
    whole = bytes(data)
    for bit in range(8 * 28):
        data[slot + bit // 8] ^= 1 << bit % 8
        assert stored(disk) in {2, 3}
        data[:] = whole


def test_a_file_cut_anywhere_does_not_stop_a_start() -> None:
    disk = FaultyFiles()
    cursor = Cursor(disk, HERE)
    for number in 1, 2:
        cursor.store(number)
    whole = bytes(data_of(disk))
    for length in [*range(40), *range(4090, 4130)]:
        data_of(disk)[:] = whole[:length]
        assert stored(disk) in {None, 1, 2}
        again = Cursor(disk, HERE)
        again.store(9)
        assert Cursor(disk, HERE).stored == 9


def test_a_file_that_cannot_be_read_counts_as_missing() -> None:
    disk = FaultyFiles()
    cursor = Cursor(disk, HERE)
    cursor.store(1)
    cursor.store(2)
    disk.unreadable = {(NAME, 0)}
    assert stored(disk) == 1
    disk.unreadable = {(NAME, 0), (NAME, 4096)}
    assert stored(disk) is None
    assert Cursor(disk, HERE).stored == 0
