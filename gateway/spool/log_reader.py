"""All segments of a directory as one sequence of records, read without changing anything.

Rules that hold here:

* A segment's records count up to its ``end`` and its ``last_id``, and both are fixed by the segment that follows it.
  Bytes that a failed or torn write left behind that end never count again.
* Damage is returned in its place, so that the caller can report it and go on.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gateway.spool.segment import START, Damage, SegmentReader, first_id_of, read_header

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from gateway.spool.files import Files
    from gateway.spool.read_retries import ReadRetries
    from gateway.spool.record import Record

NO_LIMIT = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment as readers may see it: records up to ``last_id`` in its first ``end`` bytes; ``size`` bytes on disk."""

    first_id: int
    last_id: int
    path: Path
    end: int
    size: int
    sound: bool = True
    """Whether its header could be read."""


def discover(files: Files, directory: Path) -> list[Segment]:
    """The segments in a directory, oldest first. The last one is taken to end with its file: its real end is unknown.

    Raises:
        SpoolError: a newer version of the gateway wrote one of them.
    """
    found: list[Segment] = []
    for name in files.names(directory):
        first_id = first_id_of(name)
        if first_id is None:
            continue
        path = directory / name
        try:
            header, size = read_header(files, path), files.size(path)
        except FileNotFoundError:  # a running gateway removed it since the directory was read
            continue
        if found:
            before = found[-1]
            known = header is not None and header.previous_id == before.first_id
            end = header.previous_end if header is not None and known else before.end
            found[-1] = replace(before, last_id=first_id - 1, end=end)
        found.append(Segment(first_id, NO_LIMIT, path, size, size, sound=header is not None))
    return found


class LogReader:
    """A position in the sequence of records, behind record ``last_id``. Holds one descriptor; used by one thread.

    ``retries`` as for `SegmentReader`.
    """

    def __init__(self, files: Files, after: int, retries: ReadRetries | None = None) -> None:
        self.last_id = after
        self.offset = 0
        """Where in its segment the last record begins."""
        self._files = files
        self._retries = retries
        self._due = after + 1 if after else 0
        """The id that comes next if none is missing; 0 where a gap needs no report: at the start and behind damage."""
        self._reader: SegmentReader | None = None
        """The segment being read; None before the first and after `close`."""
        self._run: deque[Record] = deque()
        """Records that were read from it and not yet returned."""
        self._next_offset = 0
        """Where in the segment the first of them begins."""

    def items(self, segments: Sequence[Segment]) -> Iterator[Record | Damage]:
        """The records that follow in ``segments``, with damage in its place. A later call with a newer list goes on."""
        for segment in self._ahead(segments):
            if self._reader is None or self._reader.first_id != segment.first_id:
                self.close()
                try:
                    self._reader = SegmentReader(self._files, segment.path, segment.first_id, self._retries)
                except FileNotFoundError:
                    yield self._damage(Damage(segment.path, 0, 0, "the file is gone"))
                    continue
                if not segment.sound:
                    yield self._damage(Damage(segment.path, 0, min(START, segment.end), "not the header of a segment"))
            yield from self._items(self._reader, segment)

    def _items(self, reader: SegmentReader, segment: Segment) -> Iterator[Record | Damage]:
        while True:
            while self._run:
                record = self._run[0]
                if record.id > segment.last_id:  # it was copied into the next segment, and counts there
                    return
                if record.id > self._due > 0:
                    missing = f"records {self._due} to {record.id - 1} are missing"
                    yield self._damage(Damage(segment.path, self._next_offset, 0, missing))
                self._run.popleft()
                offset, self._next_offset = self._next_offset, self._next_offset + record.size
                if record.id > self.last_id:
                    self.last_id, self.offset, self._due = record.id, offset, record.id + 1
                    yield record
            self._next_offset = reader.offset
            found = reader.read(segment.end)
            if found is None:
                return
            if isinstance(found, Damage):
                yield self._damage(found)
            else:
                self._run.extend(found)

    def _damage(self, damage: Damage) -> Damage:
        self._due = 0  # the damage explains the ids missing behind it
        return damage

    def _ahead(self, segments: Sequence[Segment]) -> Sequence[Segment]:
        if self._reader is not None:
            return [segment for segment in segments if segment.first_id >= self._reader.first_id]
        return [segment for segment in segments if segment.last_id > self.last_id]

    def close(self) -> None:
        """Close the file; a later `items` goes on behind ``last_id``."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
            self._run.clear()
