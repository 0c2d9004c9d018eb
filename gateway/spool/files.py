"""Every effect of the spool on the disk, one method each, so that tests can make any single one of them fail.

Rules that hold here:

* No module above this one calls `os`. So a test's double of these two classes sees every effect.
* A method has its whole effect or raises OSError. After an error its effect may be there, partly there, or missing.
* Bytes are durable after `File.sync`, names after `Files.sync_dir`. Nothing else makes anything durable.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_PRIVATE = 0o600


class File:
    """An open file, read and written at offsets; usable from one thread at a time."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self.path = path

    def read(self, offset: int, size: int) -> bytes:
        """Up to ``size`` bytes; fewer only at the end of the file."""
        data = self._read_some(offset, size)
        # A short count may also mean a bad sector behind these bytes: Linux raises when the next read begins with it.
        while len(data) < size and (more := self._read_some(offset + len(data), size - len(data))):
            data += more
        return data

    def _read_some(self, offset: int, size: int) -> bytes:
        return os.pread(self._descriptor, size, offset)

    def write(self, offset: int, data: bytes) -> None:
        """Write all of ``data``."""
        written = os.pwrite(self._descriptor, data, offset)
        while written < len(data):
            done = os.pwrite(self._descriptor, memoryview(data)[written:], offset + written)
            if not done:
                raise OSError(errno.EIO, "the file takes no more bytes", str(self.path))
            written += done

    def sync(self) -> None:
        """Make the bytes written so far, and the length of the file, durable."""
        if sys.platform == "darwin":  # fsync there leaves the bytes in the drive's cache
            fcntl.fcntl(self._descriptor, fcntl.F_FULLFSYNC)
        else:
            os.fdatasync(self._descriptor)

    def truncate(self, size: int) -> None:
        """Cut the file to ``size`` bytes."""
        os.ftruncate(self._descriptor, size)

    def allocate(self, size: int) -> None:
        """Take ``size`` bytes of the disk for this file; does nothing where the platform cannot."""
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._descriptor, 0, size)

    def try_lock(self) -> bool:
        """Take the file's exclusive lock, which ends with the process or `close`; False when another has it."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Close it; makes nothing durable."""
        os.close(self._descriptor)


class Files:
    """The file system."""

    def create(self, path: Path) -> File:
        """A new empty file, or an old one emptied; for writing and reading."""
        return File(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _PRIVATE), path)

    def edit(self, path: Path) -> File:
        """The file as it is, made if missing; for writing and reading."""
        return File(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE), path)

    def open(self, path: Path) -> File:
        """An existing file, for reading."""
        return File(os.open(path, os.O_RDONLY | os.O_CLOEXEC), path)

    def size(self, path: Path) -> int:
        """Length of a file in bytes."""
        return path.stat().st_size

    def free(self, directory: Path) -> int:
        """Free bytes of the disk, as far as an ordinary user may take them."""
        found = os.statvfs(directory)
        return found.f_bavail * found.f_frsize

    def names(self, directory: Path) -> list[str]:
        """What the directory holds, in order of name; nothing when there is no such directory."""
        try:
            return sorted(os.listdir(directory))  # noqa: PTH208 - names are wanted, not paths
        except FileNotFoundError:
            return []

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name; a file that had it is gone in the same instant."""
        old.rename(new)

    def unlink(self, path: Path) -> None:
        """Take a file's name away; readers that have it open keep it."""
        path.unlink()

    def make_dir(self, path: Path) -> None:
        """Make a directory, and those above it, where missing."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def sync_dir(self, directory: Path) -> None:
        """Make durable which names the directory holds and what they stand for."""
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def replace(self, path: Path, data: bytes) -> None:
        """Put ``data`` in the place of the file, durably: after a crash it is the old content or the new, whole."""
        new = path.with_name(path.name + NEW)
        try:
            file = self.create(new)
            try:
                file.write(0, data)
                file.sync()  # before the rename: the name must never stand for bytes that are not durable yet
            finally:
                file.close()
            self.rename(new, path)
        except OSError:
            with contextlib.suppress(OSError):  # a full disk needs the room; if it stays, the next try empties it
                self.unlink(new)
            raise
        self.sync_dir(path.parent)  # makes the rename durable


NEW = ".new"
"""Ending of a file that is being prepared to replace another; worthless after a crash."""
