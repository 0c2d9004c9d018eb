from __future__ import annotations

import errno
from pathlib import Path

from gateway.spool.files import Files
from gateway.spool.free_space import FreeSpace

MIB = 1024**2


class Disk(Files):
    def __init__(self) -> None:
        self.left: int | None = 100 * MIB

    def free(self, directory: Path) -> int:
        if self.left is None:
            raise OSError(errno.EIO, "no answer")
        return self.left


def test_below_the_minimum_there_is_a_reason_and_it_ends_a_little_above() -> None:
    disk = Disk()
    space = FreeSpace(disk, Path("/spool"), 64 * MIB)
    assert not space.look()
    disk.left = 63 * MIB
    assert bool(space.look())
    assert space.reason == "the disk of /spool has 63 MiB left, below spool.min_free (64 MiB)"
    disk.left = 70 * MIB
    assert space.look()
    disk.left = 72 * MIB
    assert not space.look()
    assert not space.reason
    assert space.free == 72 * MIB


def test_a_disk_that_does_not_answer_counts_as_not_full() -> None:
    disk = Disk()
    space = FreeSpace(disk, Path("/spool"), 64 * MIB)
    disk.left = 0
    assert space.look()
    disk.left = None
    assert not space.look()


def test_a_minimum_of_zero_is_no_limit() -> None:
    disk = Disk()
    disk.left = 0
    assert not FreeSpace(disk, Path("/spool"), 0).look()
