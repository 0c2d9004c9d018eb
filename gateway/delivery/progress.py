"""Which records are with the database whole, which in part, and how far the spool's cursor may go.

Rules that hold here:

* The cursor passes a record only when every point of it, and of all records before it, is stored or is a dead letter.
* Order is the order of reading, not of ids: ids that the spool skipped (dropped, damaged) were never here.
* Everything read and not yet let go is counted, a record without points too, so that what is held can be bounded.
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
    """Where a point came from: its record, its index there, when that became durable (ns since 1970), its device.

    ``counted`` when it is a reading of that device's account, not the gateway's own point about the device.
    """

    record_id: int
    line: int
    committed_ns: int
    device: str
    counted: bool


@dataclass(slots=True)
class RecordInProgress:
    """A record that was read: ``left`` points have no end yet; ``refused`` counts dead readings per device."""

    record_id: int
    committed_ns: int
    entries: Sequence[Entry]
    payload_bytes: int
    left: int
    refused: dict[str, int] = field(default_factory=dict)


class Progress:
    """The records between the cursor and the last one read; ``bytes`` of points and number of ``entries`` in them."""

    def __init__(self) -> None:
        self.bytes = 0
        self.entries = 0
        self._records: dict[int, RecordInProgress] = {}

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: SpooledRecord) -> int:
        """Take up a record that was read; the number of its points."""
        lines = sum(entry.lines for entry in record.entries)
        size = record.payload_bytes
        self._records[record.id] = RecordInProgress(record.id, record.committed_ns, record.entries, size, lines)
        self.bytes += size
        self.entries += len(record.entries)
        return lines

    def origin(self, record_id: int, line: int) -> PointOrigin:
        """Where the point at index ``line`` of a record under way came from.

        Raises:
            KeyError: the record is not under way.
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
        """This point is a dead letter."""
        record = self._records.get(record_id)
        if record is None:
            return
        record.left -= 1
        origin = self.origin(record_id, line)
        if origin.counted:
            record.refused[origin.device] = record.refused.get(origin.device, 0) + 1

    def done(self) -> Iterator[RecordInProgress]:
        """Let go of the finished records that no unfinished one precedes, in order."""
        while self._records:
            first = next(iter(self._records.values()))
            if first.left > 0:
                return
            self._release(first)
            yield first

    def forget(self, record_id: int) -> None:
        """Let go of the records up to ``record_id``, which the spool has dropped."""
        for record in [record for record in self._records.values() if record.record_id <= record_id]:
            self._release(record)

    def _release(self, record: RecordInProgress) -> None:
        del self._records[record.record_id]
        self.bytes -= record.payload_bytes
        self.entries -= len(record.entries)
