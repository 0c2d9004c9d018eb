"""The records of all segments as one sequence: recovery, appending with rotation, reading, removal of whole segments.

Rules that hold here:

* Ids grow, and no id that was durable is used for another record. Within a segment they have no gaps.
* Only the newest segment is written, and only by the process that made it: every start begins a new one.
* Recovery changes no old file. What it leaves out is reported; removal is the only thing that deletes.

One thread appends; any thread may read or remove.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gateway.errors import AppendFailed
from gateway.spool.files import NEW
from gateway.spool.log_reader import LogReader, Segment, discover
from gateway.spool.record import encode, readings_in
from gateway.spool.segment import Damage, SegmentHeader, SegmentWriter, is_tail, path_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from gateway.ledger import Entry
    from gateway.spool.files import Files
    from gateway.spool.read_retries import ReadRetries
    from gateway.spool.record import Record


@dataclass(frozen=True, slots=True)
class Commit:
    """A durable record with ``readings`` readings of devices; it takes ``size`` bytes on disk."""

    record_id: int
    committed_ns: int
    size: int
    readings: int


class Log:
    """The spool's records on disk. First iterate `recover` to its end, then call `start`."""

    def __init__(self, files: Files, directory: Path, segment_bytes: int) -> None:
        self._files = files
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._lock = threading.Lock()
        """Held while ``_sealed``, ``_active``, ``last_id`` and ``total_bytes`` change. Never held during I/O."""
        self._sealed: list[Segment] = []
        """Segments that are not written any more, oldest first. Always replaced, never changed, so `sealed` may return
        it without the lock, and a new list means that a segment was sealed or removed."""
        self._active: SegmentWriter | None = None
        """The segment being written; None before `start`, after a failed write and between two segments. Only the
        thread that appends writes to it."""
        self._carried: tuple[int, int, int] | None = None
        """Id, offset and size of the last record of the previous process, which `start` copies into the new segment."""
        self._rooted = False
        """Whether the name of the spool's directory is known to be durable in the directory above."""
        self.last_id = 0
        """Id of the newest durable record."""
        self.total_bytes = 0
        """Bytes that all segments take on disk."""
        self.torn: Damage | None = None
        """Bytes behind the last whole record that a crash left, found by `recover`; None without any."""

    def recover(self, after: int, known: int, delivered: int = 0) -> Iterator[Record | Damage]:
        """Read the records after ``after`` and find the end of the log. The caller must iterate it to its end.

        ``known`` is the highest id that is known to have been durable: the next id is above it, and a log that ends
        below it has lost records, which a torn tail cannot explain. Records up to ``delivered`` may be gone.

        Raises:
            SpoolError: a newer version of the gateway wrote it; nothing was changed.
            OSError: a directory or file cannot be read.
        """
        found = discover(self._files, self._directory)
        self._forget_unfinished()
        reader = self.reader(after)
        item: Record | Damage | None = None
        try:
            for item in reader.items(found):
                if isinstance(item, Damage) and reader.last_id >= known and _ends_log(item, found[-1]):
                    self.torn = item
                else:
                    yield item
        finally:
            reader.close()
        last_id = max(reader.last_id, delivered)
        if last_id < known and not isinstance(item, Damage):
            path = path_of(self._directory, last_id + 1)
            yield Damage(path, 0, 0, f"records {last_id + 1} to {known} are missing")
        # A segment's name proves that the ids below it were used, even where it is all that is left to say so.
        self.last_id = max(last_id, known, found[-1].first_id - 1 if found else 0)
        if found:
            self._settle(found, reader, known)
        self.total_bytes = sum(segment.size for segment in self._sealed)

    def _settle(self, found: list[Segment], reader: LogReader, known: int) -> None:
        last = found[-1]
        end = self.torn.offset if self.torn else last.end
        if last.first_id > self.last_id:
            found.pop()  # it holds no record, and the next segment takes its name
        else:
            found[-1] = replace(last, last_id=self.last_id, end=end)
        if reader.last_id > known and reader.last_id >= last.first_id:
            self._carried = reader.last_id, reader.offset, end - reader.offset
        self._sealed = found

    def _forget_unfinished(self) -> None:
        for name in self._files.names(self._directory):
            if name.endswith(NEW):
                with contextlib.suppress(OSError):  # harmless: the next file of that name empties it
                    self._files.unlink(self._directory / name)

    def start(self) -> None:
        """Begin the segment of this process, with the last record of the one before in it.

        That record could be read, but this does not prove that it is durable: after a failed sync it stays readable in
        the page cache without ever reaching the disk. All earlier records were synced before the next was written.

        Raises:
            OSError: the disk does not take the segment. The next append tries again without that record. It stays where
                it is, and was synced there if the disk took at least that.
        """
        carried, self._carried = self._carried, None
        try:
            if carried is None:
                self._begin(self._sealed, self.last_id + 1)
            else:
                self._carry(*carried)
        except OSError:
            if carried is not None:
                self._sync(self._sealed[-1].path)
            raise

    def _carry(self, record_id: int, offset: int, size: int) -> None:
        last = self._sealed[-1]
        reader = self._files.open(last.path)
        try:
            data = reader.read(offset, size)
        finally:
            reader.close()
        before = self._sealed[:-1]
        if last.first_id < record_id:
            before.append(replace(last, last_id=record_id - 1, end=offset))
        self._begin(before, record_id, data)

    def _begin(self, before: list[Segment], first_id: int, carried: bytes = b"") -> SegmentWriter:
        if not self._rooted:
            # The spool's directory may be new: without this sync a crash could take it away with all its segments.
            self._files.sync_dir(self._directory.parent)
            self._rooted = True
        previous = (before[-1].first_id, before[-1].end) if before else (0, 0)
        active = SegmentWriter(self._files, self._directory, SegmentHeader(first_id, *previous), carried)
        with self._lock:
            there = {segment.first_id for segment in self._sealed}  # some may have been removed meanwhile
            self._sealed, self._active = [segment for segment in before if segment.first_id in there], active
            self.total_bytes = sum(segment.size for segment in self._sealed) + active.end
        return active

    def _sync(self, path: Path) -> None:
        # The last record was only read so far, and reading proves no durability: sync its bytes, then its file's name.
        file = self._files.edit(path)
        try:
            file.sync()
        finally:
            file.close()
        self._files.sync_dir(self._directory)

    def append(self, entries: Sequence[Entry], now_ns: int) -> Commit:
        """Make the entries durable as one record.

        Raises:
            AppendFailed: they are not durable, and no part of them will ever count, unless the process ends right now.
            SpoolError: the entries cannot be encoded as a record.
        """
        record_id = self.last_id + 1
        data = encode(record_id, now_ns, entries)
        try:
            active = self._room_for(len(data))
            active.append(data)
        except OSError as error:
            if self._active is not None:
                self._seal(self._active, cut=True)
            raise AppendFailed(f"the spool could not be written: {error}") from error
        with self._lock:
            self.last_id = record_id
            self.total_bytes += len(data)
        return Commit(record_id, now_ns, len(data), readings_in(data))

    def _room_for(self, size: int) -> SegmentWriter:
        active = self._active
        if active is not None and not active.empty and active.end + size > self._segment_bytes:
            self._seal(active, cut=False)
        return self._active or self._begin(self._sealed, self.last_id + 1)

    def _seal(self, active: SegmentWriter, *, cut: bool) -> None:
        with contextlib.suppress(OSError):  # the next segment's header makes the bytes behind its end void
            active.seal(cut=cut)
        with self._lock:
            self._active = None
            if not active.empty:
                end = active.end
                segment = Segment(active.first_id, self.last_id, active.path, end, end)
                self._sealed = [*self._sealed, segment]

    def reader(self, after: int, retries: ReadRetries | None = None) -> LogReader:
        """A position behind record ``after``, which moves along `segments`."""
        return LogReader(self._files, after, retries)

    def segments(self) -> list[Segment]:
        """The segments that hold records, oldest first, as far as they are durable now."""
        with self._lock:
            active = self._active
            if active is None or active.empty:
                return self._sealed
            newest = Segment(active.first_id, self.last_id, active.path, active.end, active.end)
            return [*self._sealed, newest]

    def sealed(self) -> list[Segment]:
        """The segments that are not written any more, oldest first."""
        return self._sealed

    def readings(self, after: int) -> Counter[str]:
        """Readings of each device in the records after ``after``, at the cost of reading all of them.

        Raises:
            OSError: the disk does not answer.
        """
        found: Counter[str] = Counter()
        with contextlib.closing(self.reader(after)) as reader:
            for item in reader.items(self.segments()):
                if not isinstance(item, Damage):
                    for entry in item.entries:
                        found[entry.device] += entry.accepted
        return found

    def remove(self, segments: Sequence[Segment]) -> None:
        """Delete these sealed segments. The caller has made the checkpoint and the cursor durable before.

        Raises:
            OSError: a segment could not be removed; those that are left stay in the list.
        """
        try:
            for segment in segments:
                with contextlib.suppress(FileNotFoundError):
                    self._files.unlink(segment.path)
                with self._lock:
                    self._sealed = [other for other in self._sealed if other.first_id != segment.first_id]
                    self.total_bytes -= segment.size
        finally:
            # Makes the removal durable: a removed segment must not come back after a crash.
            self._files.sync_dir(self._directory)

    def close(self) -> None:
        """Close the file."""
        if self._active is not None:
            self._seal(self._active, cut=False)


def _ends_log(damage: Damage, newest: Segment) -> bool:
    return damage.path == newest.path and is_tail(damage, newest.end)
