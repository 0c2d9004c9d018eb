"""One file of the spool: its header, appending to it, reading it through whatever damage it has.

Rules that hold here:

* A segment gets its name only when its header and the record copied into it are durable: a short or wrong header is
  damage.
* After a failed write or sync nothing more is written. The bytes behind the last durable one never count.
* Reading stops at the end it is given. It returns whole records and says where damage lies; no bytes make it raise.

docs/reference/files.md draws the layout and gives the argument.
"""

from __future__ import annotations

import contextlib
import errno
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from google_crc32c import value as crc32c

from gateway.errors import SpoolError
from gateway.spool.files import NEW
from gateway.spool.record import MAGIC, decode_run, find_fault

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.spool.files import File, Files
    from gateway.spool.read_retries import ReadRetries
    from gateway.spool.record import Record

VERSION = 1
_MAGIC = b"\xffTGSPOOL"
_OPENING = struct.Struct("<8sI")
_FIELDS = struct.Struct("<QQQ")
_CRC = struct.Struct("<I")
START = _OPENING.size + _FIELDS.size + 2 * _CRC.size
"""Offset of a segment's first record."""

_NAME = re.compile(r"([0-9]{20})\.seg")
_CHUNK = 256 * 1024
_PAGE = 4096


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of ``path`` that are not what was written there; a ``length`` of 0 where something is missing."""

    path: Path
    offset: int
    length: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path.name} at byte {self.offset}, {self.length} bytes: {self.reason}"


def is_tail(damage: Damage, end: int) -> bool:
    """Whether the damage lies behind the header and reaches to ``end`` of its segment, as a torn write does."""
    return damage.offset >= START and damage.length > 0 and damage.offset + damage.length >= end


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """``first_id`` is the lowest id of its records; of segment ``previous_id`` the first ``previous_end`` bytes count.

    ``previous_id`` is 0 where no segment went before.
    """

    first_id: int
    previous_id: int = 0
    previous_end: int = 0

    def encode(self) -> bytes:
        """The header as bytes."""
        opening = _OPENING.pack(_MAGIC, VERSION)
        fields = _FIELDS.pack(self.first_id, self.previous_id, self.previous_end)
        return opening + _CRC.pack(crc32c(opening)) + fields + _CRC.pack(crc32c(fields))


def path_of(directory: Path, first_id: int) -> Path:
    """The file of the segment that begins with ``first_id``; names sort as ids do."""
    return directory / f"{first_id:020d}.seg"


def first_id_of(name: str) -> int | None:
    """The id in a segment's file name; None if the file is not a segment."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def read_header(files: Files, path: Path) -> SegmentHeader | None:
    """The header of a segment; None when it is damaged.

    Raises:
        SpoolError: a newer version of the gateway wrote it.
        OSError: the file cannot be opened.
    """
    file = files.open(path)
    try:
        data = read_pages(file, 0, START)
    finally:
        file.close()
    opening, fields = data[: _OPENING.size], data[_OPENING.size + _CRC.size : START - _CRC.size]
    if len(data) < START or _CRC.unpack_from(data, _OPENING.size)[0] != crc32c(opening):
        return None
    magic, version = _OPENING.unpack(opening)
    if magic != _MAGIC:
        return None
    if version > VERSION:
        raise SpoolError(
            f"{path} has format version {version}, this gateway reads up to {VERSION}: "
            "run the version that wrote it until the spool is empty; nothing was changed"
        )
    if _CRC.unpack_from(data, START - _CRC.size)[0] != crc32c(fields):
        return None
    return SegmentHeader(*_FIELDS.unpack(fields))


class SegmentWriter:
    """The segment that records are appended to. ``end`` is its durable length in bytes. One thread uses it."""

    def __init__(self, files: Files, directory: Path, header: SegmentHeader, carried: bytes = b"") -> None:
        """Create the file, replacing one of the same name; ``carried`` is a record that is copied into it.

        Raises:
            OSError: it could not be created. A file of its name may exist then, with no record in it that counts.
        """
        self.first_id = header.first_id
        self.path = path_of(directory, header.first_id)
        start = header.encode() + carried
        # Sync the file, give it its name, sync the directory: after a crash the name stands for all of these bytes, or
        # it does not exist. The descriptor outlives the rename, so the file need not be opened again.
        new = self.path.with_name(self.path.name + NEW)
        self._file = files.create(new)
        try:
            self._file.write(0, start)
            self._file.sync()
            files.rename(new, self.path)
            files.sync_dir(directory)
        except OSError:
            self._file.close()
            with contextlib.suppress(OSError):  # already renamed, perhaps; a full disk needs the room back
                files.unlink(new)
            raise
        self.end = len(start)

    @property
    def empty(self) -> bool:
        """Whether it holds no durable record."""
        return self.end == START

    def append(self, data: bytes) -> None:
        """Write a record and make it durable.

        Raises:
            OSError: the record is not durable, and this segment must not be written any more: `seal` it.
        """
        self._file.write(self.end, data)
        # Sync before the next record: at most one record, the last of the last segment, is ever unsynced. So recovery
        # can lose that one only.
        self._file.sync()
        self.end += len(data)

    def seal(self, *, cut: bool = False) -> None:
        """Close it. ``cut`` also removes what a failed append left behind, so that its room is free again."""
        try:
            if cut:
                self._file.truncate(self.end)
        finally:
            self._file.close()


class SegmentReader:
    """Reads a segment run by run, with its own descriptor and a constant amount of memory.

    A sector that the disk cannot read is damage too, but only when its ``retries`` are used up (at once without
    ``retries``): a disk that fails for a moment must not cost the records on it.
    """

    def __init__(self, files: Files, path: Path, first_id: int, retries: ReadRetries | None = None) -> None:
        """Raises: OSError when it cannot be opened."""
        self.path = path
        self.first_id = first_id
        self.offset = START
        """Where the next read begins."""
        self._file = files.open(path)
        self._due = first_id
        """The lowest id that the next record may have."""
        self._retries = retries

    def read(self, end: int) -> list[Record] | Damage | None:
        """The next records in the first ``end`` bytes, or the damage before them; None behind the last.

        Damage that reaches to ``end`` has no record behind it: in a file that was being written it is a torn tail.

        Raises:
            OSError: the disk does not answer; the next call tries again.
        """
        start = self.offset
        if start >= end:
            return None
        records, fault = self._run_at(start, end)
        behind = start + sum(record.size for record in records) if records else self._next_record(start, end)
        if self._retries is not None:
            self._retries.forget(self.path, start)
        self.offset = behind
        if not records:
            return Damage(self.path, start, self.offset - start, fault)
        self._due = records[-1].id + 1
        return records

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _run_at(self, at: int, end: int) -> tuple[list[Record], str]:
        """The records that begin at ``at``; if there are none, why."""
        # No byte beyond ``end``: another thread may be writing a record there.
        data = self._bytes(at, min(_CHUNK, end - at))
        records, _ = decode_run(data, 0, self._due)
        if records:
            return records, ""
        fault, size = find_fault(data, 0, self._due)
        if len(data) < size <= end - at:
            data = self._bytes(at, size)
            records, _ = decode_run(data, 0, self._due)
            fault, _ = find_fault(data, 0, self._due)
        return records, fault

    def _next_record(self, at: int, end: int) -> int:
        """Offset of the next whole record behind ``at``, ``end`` if there is none."""
        at += 1
        while at < end:
            data = self._bytes(at, min(_CHUNK, end - at))
            found = data.find(MAGIC)
            if found >= 0:
                at += found
                if self._run_at(at, end)[0]:
                    return at
                at += 1
            elif len(data) < len(MAGIC):
                break
            else:
                at += len(data) - len(MAGIC) + 1
        return end

    def _bytes(self, at: int, size: int) -> bytes:
        try:
            return self._file.read(at, size)
        except OSError as error:
            retries = self._retries
            if error.errno != errno.EIO or (retries and not retries.is_exhausted(self.path, self.offset, at + size)):
                raise
            return read_pages(self._file, at, size)


def read_pages(file: File, offset: int, size: int) -> bytes:
    """Bytes of a file, zeros where the disk cannot read them: a bad sector must not block the bytes around it."""
    pages: list[bytes] = []
    at, end = offset, offset + size
    while at < end:
        length = min(_PAGE - at % _PAGE, end - at)
        try:
            pages.append(file.read(at, length))
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            pages.append(bytes(length))
        at += length
    return b"".join(pages)
