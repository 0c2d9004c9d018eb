"""Which records are delivered, which in part, and how far the spool's cursor may go.

Rules that hold here:

* The cursor passes a record only when every point of it, and of all records before it, is stored or a dead letter.
* Records are in the order of reading. Ids may have gaps, where the spool dropped records or found them damaged.
* Every record that is kept here counts towards the bounds of memory, also a record without points.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

from gateway.ledger import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gateway.delivery.batch import Span
    from gateway.delivery.interfaces import SpooledRecord
    from gateway.ledger import Entry


@dataclass(frozen=True, slots=True)
class PointOrigin:
    """Where a point came from: its record, its index there, when the record became durable (ns since 1970), its device.

    ``counted``: it is a reading that the ledger counts for the device, not a point that the gateway wrote about it.
    """

    record_id: int
    line: int
    committed_ns: int
    device: str
    counted: bool


@dataclass(slots=True)
class RecordInProgress:
    """A record that was read and is not delivered yet."""

    record_id: int
    committed_ns: int
    entries: Sequence[Entry]
    payload_bytes: int
    left: int
    """Points that are neither stored nor a dead letter yet."""
    refused: dict[str, int] = field(default_factory=dict)
    """Readings that became dead letters, per device."""


class Progress:
    """The records between the cursor and the last one read."""

    def __init__(self) -> None:
        # Sums over all records here: bytes of points, and entries.
        self.bytes = 0
        self.entries = 0
        # By id, in the order of reading.
        self._records: dict[int, RecordInProgress] = {}

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: SpooledRecord) -> int:
        """Keep a record that was read; returns the number of its points."""
        lines = sum(entry.lines for entry in record.entries)
        size = record.payload_bytes
        self._records[record.id] = RecordInProgress(record.id, record.committed_ns, record.entries, size, lines)
        self.bytes += size
        self.entries += len(record.entries)
        return lines

    def origin(self, record_id: int, line: int) -> PointOrigin:
        """Where the point at index ``line`` of a record came from.

        Raises:
            KeyError: the record is not here.
            IndexError: it has no such point.
        """
        record = self._records[record_id]
        ends = list(accumulate(entry.lines for entry in record.entries))
        entry = record.entries[bisect_right(ends, line)]
        return PointOrigin(record_id, line, record.committed_ns, entry.device, entry.kind is Kind.READINGS)

    def finished(self, spans: Sequence[Span]) -> None:
        """The points of these spans are stored."""
        for span in spans:
            record = self._records.get(span.record_id)
            if record is not None:
                record.left -= span.lines

    def refused(self, record_id: int, line: int) -> None:
        """This point is a dead letter now."""
        record = self._records.get(record_id)
        if record is None:
            return
        record.left -= 1
        origin = self.origin(record_id, line)
        if origin.counted:
            record.refused[origin.device] = record.refused.get(origin.device, 0) + 1

    def take_finished(self) -> Iterator[RecordInProgress]:
        """Remove and yield the finished records in order, up to the first unfinished one."""
        while self._records:
            first = next(iter(self._records.values()))
            if first.left > 0:
                return
            self._remove(first)
            yield first

    def forget(self, record_id: int) -> None:
        """Remove the records up to ``record_id``, which the spool has dropped."""
        for record in [record for record in self._records.values() if record.record_id <= record_id]:
            self._remove(record)

    def _remove(self, record: RecordInProgress) -> None:
        del self._records[record.record_id]
        self.bytes -= record.payload_bytes
        self.entries -= len(record.entries)
