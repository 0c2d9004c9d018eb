"""Search for single messages in a spool of gigabytes, without decoding the rest; safe beside a running gateway.

Rules that hold here:

* Nothing is locked, written or repaired. Raw bytes are searched (`bytes.find`, at the speed of memory). A hit counts
  only inside a whole record whose checksums fit and whose segment says that it counts.
* Files are read in pieces, never mapped: a mapped file that gets shorter would end the process. Other threads of the
  gateway run during each read.
* Memory is a few pieces, whatever the spool's size.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from gateway.ledger import NO_SEQ, Kind
from gateway.spool.files import Files
from gateway.spool.log_reader import discover
from gateway.spool.record import HEADER_BYTES, MAGIC, MAX_BODY_BYTES, decode_run, needle, unpack
from gateway.spool.segment import START

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gateway.ledger import Entry
    from gateway.spool.files import File
    from gateway.spool.log_reader import Segment
    from gateway.spool.record import Record

_PIECE = 1024**2
"""Bytes of one read."""
_NEAR = 64 * 1024
"""How many bytes before a hit the beginning of its record is looked for at first."""
_CLOSE_ENOUGH = 256 * 1024
"""A range this small is searched in order instead of being halved again."""
_MAX_COMMIT_NS = 10_000_000_000
"""Assumed: the longest time from the arrival of a message to the beginning of its commit."""


class Found(NamedTuple):
    """A message in the spool: its record, its entry, and the index of its first point in that record."""

    record: Record
    entry: Entry
    line: int


class _Place(NamedTuple):
    """A record, and where it begins and ends if all segments are one run of bytes."""

    record: Record
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Part:
    """A segment, and where it begins if all segments are one run of bytes."""

    segment: Segment
    first: int

    @property
    def end(self) -> int:
        return self.first + self.segment.end


class MessageSearch:
    """Searches the spool in ``directory`` as it was when this object was made; later records are not found.

    Methods raise OSError when the disk cannot be read.
    """

    def __init__(self, directory: Path, files: Files | None = None) -> None:
        """Raises: SpoolError when a newer version of the gateway wrote the spool."""
        self._files = files or Files()
        self._parts: list[_Part] = []
        """The segments, oldest first."""
        self.bytes = 0
        """Length of all segments together."""
        for segment in discover(self._files, directory):
            self._parts.append(_Part(segment, self.bytes))
            self.bytes += segment.end

    def begins(self) -> Record | None:
        """The oldest record that is kept."""
        place = next(self._records(MAGIC, 0, self.bytes), None)
        return place.record if place else None

    def numbered(self, device: str, seq: int) -> Iterator[Found]:
        """The messages of ``device`` with this number, in order: the first copy and resent ones."""
        return self._messages(needle(device, seq), lambda entry: entry.device == device and entry.seq == seq)

    def stamped(self, device: str, time_ns: int) -> Iterator[Found]:
        """The messages of ``device`` that have a point of this very time (ns since 1970)."""
        stamp = b" %d\n" % time_ns
        return self._messages(stamp, lambda entry: entry.device == device and stamp in entry.payload)

    def arrived(self, device: str, start_ns: int, end_ns: int) -> Iterator[Found]:
        """The messages of ``device`` that arrived from ``start_ns`` to ``end_ns`` (since 1970), in order."""
        start = self._last_before(MAGIC, lambda record: record.committed_ns >= start_ns)
        for place in self._records(device.encode(), start, self.bytes):
            if place.record.committed_ns > end_ns + _MAX_COMMIT_NS:
                return
            yield from _of(place.record, lambda e: e.device == device and start_ns <= e.arrived_ns <= end_ns)

    def has(self, device: str) -> bool:
        """Whether anything of ``device`` is kept."""
        return next(self._messages(device.encode(), lambda entry: entry.device == device), None) is not None

    def newest(self, device: str) -> Found | None:
        """The last message of ``device`` that has a number."""
        end = self.bytes
        while end > 0:
            start = max(0, end - _PIECE)
            places = self._records(device.encode(), start, end)
            found = [each for place in places for each in _of(place.record, lambda e: e.device == device)]
            numbered = [each for each in found if each.entry.seq != NO_SEQ]
            if numbered:
                return numbered[-1]
            end = start
        return None

    def neighbours(self, device: str, boot: str, seq: int) -> tuple[Found | None, Found | None]:
        """The last message of this boot below ``seq`` and the first above it, among those that were no duplicates."""
        names = f"{device}{boot}".encode("utf-8", "surrogatepass")  # as they stand side by side in a record

        def new(entry: Entry) -> bool:
            return entry.device == device and entry.boot == boot and entry.seq != NO_SEQ and not entry.duplicate

        def beyond(record: Record) -> bool | None:
            first = next(_of(record, new), None)
            return None if first is None else first.entry.seq > seq

        before: Found | None = None
        for place in self._records(names, self._last_before(names, beyond), self.bytes):
            for found in _of(place.record, new):
                if found.entry.seq > seq:
                    return before, found
                before = found
        return before, None

    def _last_before(self, what: bytes, beyond: Callable[[Record], bool | None]) -> int:
        """Offset of the last record that is not ``beyond``, or a little before it.

        A binary search over the records with ``what``, of which those that are beyond come last. ``beyond`` returns
        None for a record that tells nothing and is passed over.
        """
        found, low, high = 0, 0, self.bytes
        while high - low > _CLOSE_ENOUGH:
            middle = (low + high) // 2
            places = self._records(what, middle, high)
            hit = next(
                ((place, is_beyond) for place in places if (is_beyond := beyond(place.record)) is not None), None
            )
            if hit is None or hit[1]:
                high = middle
            else:
                found, low = hit[0].start, hit[0].end
        return found

    def _messages(self, what: bytes, wanted: Callable[[Entry], bool]) -> Iterator[Found]:
        for place in self._records(what, 0, self.bytes):
            yield from _of(place.record, wanted)

    def _records(self, what: bytes, start: int, end: int) -> Iterator[_Place]:
        """The whole records with ``what`` in them, from ``start`` to ``end``."""
        for part in self._parts:
            if part.end <= start or part.first >= end:
                continue
            try:
                file = self._files.open(part.segment.path)
            except FileNotFoundError:  # removed meanwhile
                continue
            with closing(file):
                low = max(START, start - part.first)
                for at, record in _in_segment(file, part.segment, what, low, min(part.segment.end, end - part.first)):
                    yield _Place(record, part.first + at, part.first + at + record.size)


def _of(record: Record, wanted: Callable[[Entry], bool]) -> Iterator[Found]:
    line = 0
    for entry in record.entries:
        if entry.kind is Kind.READINGS and wanted(entry):
            yield Found(record, entry, line)
        line += entry.lines


def _in_segment(file: File, segment: Segment, what: bytes, at: int, end: int) -> Iterator[tuple[int, Record]]:
    data, base = b"", at
    while at < end:
        found = data.find(what, at - base)
        if found < 0:
            # The rest may hold the beginning of ``what``.
            at = max(at, base + len(data) - len(what) + 1)
            data, base = file.read(at, min(_PIECE, end - at)), at
            if len(data) < len(what):
                return
            continue
        place = _record_around(file, base + found, segment.end)
        if place is None:
            at = base + found + 1
            continue
        at = place[0] + place[1].size
        if place[1].id <= segment.last_id:  # a higher one was copied into the next segment, and counts there
            yield place


def _record_around(file: File, position: int, end: int) -> tuple[int, Record] | None:
    """The whole record that holds the byte at ``position``, and its offset; None if there is none."""
    for reach in (_NEAR, HEADER_BYTES + MAX_BODY_BYTES):
        low = max(START, position - reach)
        data = file.read(low, position - low + len(MAGIC))
        start = data.rfind(MAGIC)
        while start >= 0:
            record = _record_at(file, low + start, end)
            if record is not None:
                return (low + start, record) if low + start + record.size > position else None
            start = data.rfind(MAGIC, 0, start)
        if low == START:
            break
    return None


def _record_at(file: File, offset: int, end: int) -> Record | None:
    header = file.read(offset, HEADER_BYTES)
    if len(header) < HEADER_BYTES:
        return None
    size = HEADER_BYTES + unpack(header)[4]
    if size > HEADER_BYTES + MAX_BODY_BYTES or offset + size > end:
        return None
    records, _ = decode_run(file.read(offset, size), 0, 0)
    return records[0] if records else None
