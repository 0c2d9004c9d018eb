"""Reports on a spool for commands, without changing it; safe beside a running gateway.

Rules that hold here:

* Nothing is locked, written or repaired.
* The newest segment may be in use: bytes at its end that do not parse are being written, or the next start leaves them
  out. They are reported as unfinished, not as damage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.spool import cursor
from gateway.spool.files import Files
from gateway.spool.log_reader import LogReader, Segment, discover
from gateway.spool.segment import Damage, is_tail

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gateway.spool.record import Record


@dataclass(frozen=True, slots=True)
class SegmentReport:
    """One segment, read to its end. ``size`` is the file's; ``unfinished`` bytes at its end are part of a write."""

    path: Path
    size: int
    records: int
    readings: int
    first_id: int
    last_id: int | None
    damage: tuple[Damage, ...]
    unfinished: int


def verify(directory: Path, files: Files | None = None) -> Iterator[SegmentReport]:
    """Read every byte of every segment, oldest first.

    Raises:
        SpoolError: a newer version of the gateway wrote it.
        OSError: something cannot be read at all.
    """
    files = files or Files()
    segments = discover(files, directory)
    reader = LogReader(files, 0)
    try:
        for segment in segments:
            report = _check(reader, segment, newest=segment is segments[-1])
            if report.damage and segment.path.name not in files.names(directory):
                continue  # delivered and removed since the directory was read
            yield report
    finally:
        reader.close()


def _check(reader: LogReader, segment: Segment, *, newest: bool) -> SegmentReport:
    records = readings = unfinished = 0
    last_id = None
    damage: list[Damage] = []
    for item in reader.items([segment]):
        if not isinstance(item, Damage):
            records, readings, last_id = records + 1, readings + item.readings, item.id
        elif newest and is_tail(item, segment.end):
            unfinished = item.length
        else:
            damage.append(item)
    return SegmentReport(
        segment.path, segment.size, records, readings, segment.first_id, last_id, tuple(damage), unfinished
    )


def records(directory: Path, after: int = 0, files: Files | None = None) -> Iterator[Record]:
    """The whole records after ``after``, delivered ones included as long as they are kept, in order.

    Raises:
        SpoolError, OSError: as `verify`.
    """
    files = files or Files()
    reader = LogReader(files, after)
    try:
        for item in reader.items(discover(files, directory)):
            if not isinstance(item, Damage):
                yield item
    finally:
        reader.close()


def cursor_position(directory: Path, files: Files | None = None) -> int:
    """Every record up to this id is delivered; 0 when the cursor cannot be read."""
    found = cursor.load(files or Files(), directory)
    return found[1] if found else 0
