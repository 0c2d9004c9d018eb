"""A disk in memory that can fail at any single operation, and lose unsynced changes in every way a disk may.

Its model of a disk:

* Written bytes can be read at once and are durable after a sync. Names are durable after a sync of their directory.
* After a power cut there may be none of the unsynced bytes, all, a beginning, or some sectors and not others; and any
  subset of the unsynced changes of names.
* After a failed sync the unsynced bytes stay readable and no later sync makes them durable (Linux marks their pages
  clean): whether they survive is never known.
* A page with an unreadable sector cannot be read. A read that reaches it ends before it, with fewer bytes; one that
  begins in it fails (Linux, through the page cache).
* Killing a process changes nothing: bytes stay readable, and unsynced or doubtful ones stay so.
"""

from __future__ import annotations

import copy
import errno
import random
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.spool.files import File, Files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECTOR = 512
PAGE = 4096
PLENTY = 1 << 40

BYTES_LEFT = ("none", "all", "prefix", "torn", "garbage", "doubtful")
NAMES_LEFT = ("none", "all", "some", "others")

Write = tuple[int, bytes]


@dataclass(eq=False)
class Inode:
    """A file's bytes as read, the durable ones, and the changes between them.

    A change with offset ``~size`` cuts the file to ``size``. ``doubtful`` are changes whose sync failed.
    """

    data: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    unsynced: list[Write] = field(default_factory=list)
    doubtful: list[Write] = field(default_factory=list)
    allocated: int = 0
    locked: bool = False

    def change(self, offset: int, data: bytes) -> None:
        apply(self.data, offset, data)
        self.unsynced.append((offset, data))

    def sync(self) -> None:
        for offset, data in self.unsynced:
            apply(self.durable, offset, data)
        self.unsynced.clear()

    def sync_failed(self) -> None:
        self.doubtful += self.unsynced
        self.unsynced.clear()

    def after_power_cut(self, left: str, rng: random.Random) -> Inode:
        data = bytearray(self.durable)
        changes = self.doubtful if left == "doubtful" else self.doubtful + self.unsynced
        if left == "prefix":
            changes = halved(changes)
        if left != "none":
            for offset, chunk in changes:
                if left in {"torn", "garbage"} and offset >= 0:
                    tear(data, offset, chunk, left, rng)
                else:
                    apply(data, offset, chunk)
        return Inode(data=data, durable=bytearray(data))


def apply(data: bytearray, offset: int, chunk: bytes) -> None:
    if offset < 0:
        del data[~offset:]
        return
    data.extend(bytes(max(0, offset - len(data))))
    data[offset : offset + len(chunk)] = chunk


def halved(changes: list[Write]) -> list[Write]:
    kept: list[Write] = []
    left = sum(len(chunk) for _, chunk in changes) // 2
    for offset, chunk in changes:
        kept.append((offset, chunk[:left]))
        left -= len(chunk)
        if left <= 0:
            break
    return kept


def tear(data: bytearray, offset: int, chunk: bytes, left: str, rng: random.Random) -> None:
    """Write a random half of the sectors; the length grows in any case."""
    end = offset + len(chunk)
    data.extend(bytes(max(0, end - len(data))))
    at = offset
    while at < end:
        stop = min(end, (at // SECTOR + 1) * SECTOR)
        if rng.random() < 0.5:
            data[at:stop] = chunk[at - offset : stop - offset]
        elif left == "garbage":
            data[at:stop] = rng.randbytes(stop - at)
        at = stop


class FaultyFiles(Files):
    """The disk. ``operations`` names every operation that changes something, in order.

    The power fails before operation number ``crash_at``: it and all later ones, reading included, raise EIO and change
    nothing. ``failing`` maps numbers of operations to the errno each fails with; ``half_done``
    lets them do their work before they fail. ``capacity`` bounds the bytes of all files together.
    """

    def __init__(self) -> None:
        self.names_now: dict[Path, Inode] = {}
        self.names_durable: dict[Path, Inode] = {}
        self.unsynced_names: list[tuple[Path, Path | None, Path | None, Inode]] = []
        self.operations: list[str] = []
        self.crash_at: int | None = None
        self.failing: dict[int, int] = {}
        self.half_done = False
        self.capacity: int | None = None
        self.unreadable: set[tuple[str, int]] = set()
        self._lock = threading.RLock()

    @property
    def is_off(self) -> bool:
        return self.crash_at is not None and len(self.operations) >= self.crash_at

    def step(self, what: str, path: Path) -> int:
        """Count an operation. Returns the errno it has to fail with, 0 for none."""
        self.check_power()
        number = len(self.operations)
        if number == self.crash_at:
            raise OSError(errno.EIO, "the power is off")
        self.operations.append(f"{what} {path.name}")
        return self.failing.get(number, 0)

    def check_power(self) -> None:
        if self.is_off:
            raise OSError(errno.EIO, "the power is off")

    def after_power_cut(self, bytes_left: str, names_left: str, seed: int) -> FaultyFiles:
        """The disk after the power is back."""
        rng = random.Random(f"{bytes_left} {names_left} {seed}")
        disk = FaultyFiles()
        names = dict(self.names_durable)
        for number, (_, old, new, inode) in enumerate(self.unsynced_names):
            if names_left == "none" or (names_left != "all" and number % 2 == (names_left == "some")):
                continue
            if old is not None and names.get(old) is inode:
                del names[old]
            if new is not None:
                names[new] = inode
        survivors = {id(inode): inode.after_power_cut(bytes_left, rng) for inode in names.values()}
        disk.names_now = {path: survivors[id(inode)] for path, inode in names.items()}
        disk.names_durable = dict(disk.names_now)
        return disk

    def content(self) -> dict[Path, bytes]:
        """Every file that can be seen now."""
        return {path: bytes(inode.data) for path, inode in self.names_now.items()}

    def possible_disks(self, seed: int) -> Iterator[tuple[str, FaultyFiles]]:
        """Every different disk that a power cut may leave, once, with a text that says what was lost."""
        seen: list[dict[Path, bytes]] = []
        for bytes_left in BYTES_LEFT:
            for names_left in NAMES_LEFT:
                disk = self.after_power_cut(bytes_left, names_left, seed)
                content = disk.content()
                if content not in seen:
                    seen.append(content)
                    yield f"of unsynced bytes {bytes_left} left, of names {names_left}", disk

    def after_kill(self) -> FaultyFiles:
        """The disk as a new process finds it: all written bytes are readable, no more are durable than before."""
        again = FaultyFiles()
        with self._lock:
            vars(again).update(copy.deepcopy({key: value for key, value in vars(self).items() if key != "_lock"}))
        again.crash_at, again.failing, again.operations = None, {}, []
        for inode in again.names_now.values():
            inode.locked = False
        return again

    def used(self) -> int:
        return sum(
            max(len(inode.data), inode.allocated) for inode in {id(i): i for i in self.names_now.values()}.values()
        )

    def take(self, inode: Inode, size: int) -> int:
        """How many more bytes ``inode`` may have, of ``size``."""
        if self.capacity is None:
            return size
        return max(0, min(size, self.capacity - self.used()))

    def change_names(self, directory: Path, old: Path | None, new: Path | None, inode: Inode) -> None:
        if old is not None:
            self.names_now.pop(old, None)
        if new is not None:
            self.names_now[new] = inode
        self.unsynced_names.append((directory, old, new, inode))

    # What the spool calls.

    def create(self, path: Path) -> File:
        with self._lock:
            inode = self.names_now.get(path)
            if inode is None:
                return self.edit(path)
            if error := self.step("empty", path):
                raise OSError(error, "injected")
            inode.change(~0, b"")
            return FaultyFile(self, inode, path)

    def edit(self, path: Path) -> File:
        with self._lock:
            inode = self.names_now.get(path)
            if inode is None:
                if error := self.step("create", path):
                    if self.half_done:
                        self.change_names(path.parent, None, path, Inode())
                    raise OSError(error, "injected")
                inode = Inode()
                self.change_names(path.parent, None, path, inode)
            return FaultyFile(self, inode, path)

    def open(self, path: Path) -> File:
        with self._lock:
            self.check_power()
            if path not in self.names_now:
                raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
            return FaultyFile(self, self.names_now[path], path)

    def size(self, path: Path) -> int:
        with self._lock:
            self.check_power()
            if path not in self.names_now:
                raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
            return len(self.names_now[path].data)

    def free(self, directory: Path) -> int:
        with self._lock:
            self.check_power()
            return PLENTY if self.capacity is None else max(0, self.capacity - self.used())

    def names(self, directory: Path) -> list[str]:
        with self._lock:
            self.check_power()
            return sorted(path.name for path in self.names_now if path.parent == directory)

    def rename(self, old: Path, new: Path) -> None:
        with self._lock:
            error = self.step("rename", new)
            if not error or self.half_done:
                inode = self.names_now[old]
                self.change_names(new.parent, old, new, inode)
            if error:
                raise OSError(error, "injected")

    def unlink(self, path: Path) -> None:
        with self._lock:
            if path not in self.names_now:
                self.check_power()
                raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
            error = self.step("unlink", path)
            if not error or self.half_done:
                self.change_names(path.parent, path, None, self.names_now[path])
            if error:
                raise OSError(error, "injected")

    def make_dir(self, path: Path) -> None:
        with self._lock:
            self.check_power()

    def sync_dir(self, directory: Path) -> None:
        with self._lock:
            error = self.step("sync_dir", directory)
            if not error or self.half_done:
                for where, old, new, inode in self.unsynced_names:
                    if where == directory:
                        if old is not None and self.names_durable.get(old) is inode:
                            del self.names_durable[old]
                        if new is not None:
                            self.names_durable[new] = inode
                self.unsynced_names = [change for change in self.unsynced_names if change[0] != directory]
            if error:
                raise OSError(error, "injected")


class FaultyFile(File):
    """An open file of that disk."""

    def __init__(self, disk: FaultyFiles, inode: Inode, path: Path) -> None:
        self.path = path
        self._disk = disk
        self._inode = inode
        self._holds_lock = False

    def _read_some(self, offset: int, size: int) -> bytes:
        with self._disk._lock:
            self._disk.check_power()
            end = offset + size
            for name, bad in self._disk.unreadable:
                page = bad // PAGE * PAGE
                if name == self.path.name and offset < page + PAGE:
                    end = min(end, page)
            if end <= offset < offset + size:
                raise OSError(errno.EIO, "bad sector", str(self.path))
            return bytes(self._inode.data[offset:end])

    def write(self, offset: int, data: bytes) -> None:
        with self._disk._lock:
            error = self._disk.step("write", self.path)
            growth = max(0, offset + len(data) - len(self._inode.data))
            lacking = growth - self._disk.take(self._inode, growth)
            if lacking:
                error = error or errno.ENOSPC
            if error:
                done = (
                    data[: len(data) - lacking] if lacking else data if self._disk.half_done else data[: len(data) // 2]
                )
                if done:
                    self._inode.change(offset, done)
                raise OSError(error, "injected")
            self._inode.change(offset, data)

    def sync(self) -> None:
        with self._disk._lock:
            error = self._disk.step("sync", self.path)
            if error:
                self._inode.sync_failed()
                raise OSError(error, "injected")
            self._inode.sync()

    def truncate(self, size: int) -> None:
        with self._disk._lock:
            error = self._disk.step("truncate", self.path)
            if not error or self._disk.half_done:
                self._inode.change(~size, b"")
            if error:
                raise OSError(error, "injected")

    def allocate(self, size: int) -> None:
        with self._disk._lock:
            error = self._disk.step("allocate", self.path)
            growth = size - max(len(self._inode.data), self._inode.allocated)
            if error:
                raise OSError(error, "injected")
            taken = self._disk.take(self._inode, growth)
            self._inode.allocated = size - growth + taken  # as ext4 leaves it
            if taken < growth:
                raise OSError(errno.ENOSPC, "no space left")

    def try_lock(self) -> bool:
        with self._disk._lock:
            self._disk.check_power()
            if self._inode.locked:
                return False
            self._inode.locked = self._holds_lock = True
            return True

    def close(self) -> None:
        with self._disk._lock:
            if self._holds_lock:
                self._inode.locked = self._holds_lock = False
