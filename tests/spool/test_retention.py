from __future__ import annotations

import errno
from pathlib import Path

import pytest

from gateway.spool.log_reader import Segment
from gateway.spool.retention import RESERVE, Reserve, Retention
from tests.support.faulty_files import FaultyFiles

HERE = Path("/spool")
SEGMENTS = [Segment(first, first + 9, HERE / f"{first}.seg", 100, 100) for first in (1, 11, 21, 31)]
TOTAL = 400


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def retention(clock: Clock, *, max_bytes: int = 1000, drop: bool = False) -> Retention:
    return Retention(max_bytes=max_bytes, segment_bytes=100, keep_delivered=60, drop=drop, clock=clock)


def first_ids(segments: list[Segment]) -> list[int]:
    return [segment.first_id for segment in segments]


def test_a_delivered_segment_stays_for_its_time_from_delivery() -> None:
    clock = Clock()
    keeper = retention(clock)
    assert keeper.note_delivered(SEGMENTS, 9) == 0
    assert keeper.note_delivered(SEGMENTS, 10) == 100
    clock.now += 50
    assert keeper.note_delivered(SEGMENTS, 25) == 200
    assert keeper.removable(SEGMENTS, 25, TOTAL, 0) == []
    clock.now += 10
    assert first_ids(keeper.removable(SEGMENTS, 25, TOTAL, 0)) == [1]
    clock.now += 50
    assert first_ids(keeper.removable(SEGMENTS, 25, TOTAL, 0)) == [1, 11]
    assert first_ids(keeper.removable(SEGMENTS[2:], 25, TOTAL, 0)) == []


def test_delivered_segments_go_oldest_first_when_their_room_is_needed() -> None:
    keeper = retention(Clock(), max_bytes=450)
    keeper.note_delivered(SEGMENTS, 30)
    assert first_ids(keeper.removable(SEGMENTS, 30, TOTAL, 0)) == [1]
    assert first_ids(keeper.removable(SEGMENTS, 30, TOTAL, 200)) == [1, 11]
    assert first_ids(keeper.removable(SEGMENTS, 30, TOTAL, 5000)) == [1, 11, 21]
    assert first_ids(keeper.removable(SEGMENTS, 30, TOTAL, 0, everything=True)) == [1, 11, 21]


def test_undelivered_segments_are_dropped_only_when_told_so_and_delivered_ones_do_not_suffice() -> None:
    for drop in False, True:
        keeper = retention(Clock(), max_bytes=350, drop=drop)
        assert first_ids(keeper.to_drop(SEGMENTS, 0, TOTAL, 0)) == ([1, 11] if drop else [])
        assert first_ids(keeper.to_drop(SEGMENTS, 5, TOTAL, 0)) == ([1, 11] if drop else [])
        assert first_ids(keeper.to_drop(SEGMENTS, 10, TOTAL, 0)) == ([11] if drop else [])
        assert keeper.to_drop(SEGMENTS, 20, TOTAL, 0) == []
        assert first_ids(keeper.to_drop(SEGMENTS, 20, TOTAL, 200)) == ([21] if drop else [])
    assert retention(Clock(), drop=True).to_drop(SEGMENTS, 0, TOTAL, 0) == []


def test_the_reserve_is_taken_given_back_and_taken_again() -> None:
    disk = FaultyFiles()
    disk.capacity = 1000
    reserve = Reserve(disk, HERE, 600)
    full = OSError(errno.ENOSPC, "full")
    assert not reserve.release(full)
    reserve.hold()
    reserve.hold()
    assert disk.used() == 600
    assert not reserve.release(OSError(errno.EIO, "broken"))
    assert reserve.release(full)
    assert disk.used() == 0
    assert not reserve.release(full)
    disk.capacity = 100
    reserve.hold()
    assert not reserve.release(full)
    disk.capacity = 1000
    reserve.hold()
    assert disk.used() == 600


def test_a_reserve_that_got_only_part_of_its_room_gives_it_back_at_once() -> None:
    disk = FaultyFiles()
    disk.capacity = 500
    Reserve(disk, HERE, 600).hold()
    assert disk.used() == 0


def test_a_reserve_that_is_not_known_to_be_held_is_given_back_all_the_same() -> None:
    disk = FaultyFiles()
    Reserve(disk, HERE, 600).hold()
    assert Reserve(disk, HERE, 600).release(OSError(errno.ENOSPC, "full"))
    assert disk.used() == 0


def test_a_reserve_of_an_earlier_run_is_held_on_a_full_disk() -> None:
    disk = FaultyFiles()
    Reserve(disk, HERE, 600).hold()
    disk.capacity = 600
    reserve = Reserve(disk, HERE, 600)
    reserve.hold()
    assert reserve.release(OSError(errno.EDQUOT, "full"))
    assert HERE / RESERVE not in disk.names_now


@pytest.mark.parametrize("size", [0, 600])
def test_a_disk_without_room_for_the_reserve_is_no_error(size: int) -> None:
    disk = FaultyFiles()
    disk.failing = {0: errno.ENOSPC}
    reserve = Reserve(disk, HERE, size)
    reserve.hold()
    assert not reserve.release(OSError(errno.ENOSPC, "full"))
