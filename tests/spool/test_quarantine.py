from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.spool.quarantine import NAME, Quarantine
from gateway.spool.segment import Damage
from tests.support.faulty_files import FaultyFiles

if TYPE_CHECKING:
    import pytest

HERE = Path("/spool")
SEGMENT = HERE / "00000000000000000001.seg"


def disk_with(data: bytes, path: Path = SEGMENT) -> FaultyFiles:
    disk = FaultyFiles()
    disk.edit(path).write(0, data)
    return disk


def test_a_copy_is_named_after_its_place() -> None:
    disk = disk_with(b"0123456789")
    Quarantine(disk, HERE).keep(Damage(SEGMENT, 3, 4, "why"), "damaged")
    assert disk.names(HERE / NAME) == ["00000000000000000001.seg@3.damaged"]
    assert disk.names_now[HERE / NAME / "00000000000000000001.seg@3.damaged"].data == b"3456"
    assert disk.names_now[SEGMENT].data == b"0123456789"


def test_a_place_is_copied_once_and_a_missing_one_never() -> None:
    disk = disk_with(b"0123456789")
    quarantine = Quarantine(disk, HERE)
    quarantine.keep(Damage(SEGMENT, 3, 4, "why"), "torn")
    operations = list(disk.operations)
    quarantine.keep(Damage(SEGMENT, 3, 4, "why"), "torn")
    quarantine.keep(Damage(SEGMENT, 3, 0, "missing"), "damaged")
    assert disk.operations == operations


def test_the_copies_have_a_bound_and_the_oldest_go() -> None:
    disk = disk_with(bytes(100))
    quarantine = Quarantine(disk, HERE, 50)
    for offset in 10, 20, 30:
        quarantine.keep(Damage(SEGMENT, offset, 20, "why"), "damaged")
    assert [name[24:] for name in disk.names(HERE / NAME)] == ["@20.damaged", "@30.damaged"]
    quarantine.keep(Damage(SEGMENT, 0, 100, "why"), "damaged")
    assert [
        (path.name[24:], len(inode.data)) for path, inode in disk.names_now.items() if path.parent.name == NAME
    ] == [("@0.damaged", 50)]


def test_the_readable_part_of_a_bad_place_is_copied() -> None:
    disk = disk_with(b"x" * 20_000)
    disk.unreadable = {(SEGMENT.name, 9000)}
    Quarantine(disk, HERE).keep(Damage(SEGMENT, 100, 15_000, "why"), "damaged")
    copy = disk.names_now[HERE / NAME / f"{SEGMENT.name}@100.damaged"].data
    assert copy == (b"x" * 8192 + bytes(4096) + b"x" * 20_000)[100:15_100]


def test_a_disk_that_does_not_take_a_copy_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    disk = disk_with(b"0123456789")
    disk.failing = dict.fromkeys(range(len(disk.operations), 20), errno.ENOSPC)
    Quarantine(disk, HERE).keep(Damage(SEGMENT, 3, 4, "why"), "damaged")
    assert disk.names(HERE / NAME) == []
    assert "could not be copied" in caplog.text
