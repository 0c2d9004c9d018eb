"""The batches to write and the progress of their records: the forwarder's state without its clock and threads.

A batch is in exactly one place: being assembled, ready, or in flight. Older points go first, also in the halves of a
refused batch and in a batch that is written again, so that the cursor is held up as little as possible.
"""

from __future__ import annotations

from bisect import insort
from operator import attrgetter
from typing import TYPE_CHECKING

from gateway.delivery.batch import Batch, BatchBuilder
from gateway.delivery.progress import PointOrigin, Progress

if TYPE_CHECKING:
    from gateway.delivery.interfaces import SpooledRecord

_start = attrgetter("start")


class Pipeline:
    """Records in, batches out."""

    def __init__(self, max_readings: int, max_bytes: int) -> None:
        # Which of the records are finished.
        self.progress = Progress()
        # The batch being assembled.
        self._builder = BatchBuilder(max_readings, max_bytes)
        # Batches that can be sent, sorted by their first point.
        self._ready: list[Batch] = []
        # The newest record that `forget` removed. Records up to it are also removed from a batch that is written again.
        self._forgotten_to = 0

    def add(self, record: SpooledRecord, due: float) -> None:
        """Add a record, to be written by ``due`` (monotonic seconds)."""
        lines = self.progress.add(record)
        if lines:
            messages = ((entry.lines, len(entry.payload)) for entry in record.entries)
            self._ready += self._builder.add(record.id, record.payload, lines, due, messages)

    @property
    def ready(self) -> bool:
        """Whether a batch can be sent at once."""
        return bool(self._ready)

    @property
    def due(self) -> float:
        """When the batch being assembled has to be sent (monotonic seconds); infinity if there is none."""
        return self._builder.due

    @property
    def empty(self) -> bool:
        """Whether every record is delivered."""
        return len(self.progress) == 0

    def flush(self) -> None:
        """Make the batch being assembled ready as it is."""
        self._ready += self._builder.take()

    def take(self) -> Batch:
        """The oldest ready batch, which is in flight from now on; there must be one."""
        return self._ready.pop(0)

    def origin(self, batch: Batch) -> PointOrigin:
        """Where the first point of a batch came from."""
        return self.progress.origin(*batch.start)

    def stored(self, batch: Batch) -> None:
        """Note that a batch that was in flight is in the database."""
        self.progress.finished(batch.spans)

    def dead(self, batch: Batch) -> None:
        """Note that an indivisible batch that was in flight is kept as a dead letter."""
        for index in range(batch.count):
            self.progress.refused(*batch.origin(index))

    def again(self, batch: Batch) -> None:
        """Make a batch that was in flight ready again, without the records that were dropped meanwhile."""
        left = batch.after(self._forgotten_to)
        if left is not None:
            insort(self._ready, left, key=_start)

    def split(self, batch: Batch) -> None:
        """Make the halves of a batch ready, because the batch has a bad point."""
        for half in batch.halves():
            self.again(half)

    def forget(self, record_id: int) -> None:
        """Remove all records up to ``record_id``, which the spool has dropped."""
        self._forgotten_to = record_id
        self.progress.forget(record_id)
        self._builder.forget(record_id)
        self._ready = [left for batch in self._ready if (left := batch.after(record_id)) is not None]
