"""What is durable and not yet acknowledged, in sums, without holding it.

Rules that hold here:

* A record is taken off the sums once: when it is acknowledged or when it is dropped.
* Records that were read and not yet acknowledged have a mark each; their number is bounded by what the reader holds.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.spool.record import Record


class _Mark(NamedTuple):
    id: int
    size: int
    readings: int
    committed_ns: int


class Backlog:
    """``bytes`` and ``readings`` behind ``cursor``, and when the oldest of them became durable."""

    def __init__(self, cursor: int = 0) -> None:
        self.cursor = cursor
        """Every record up to this id was acknowledged or dropped, as far as this process knows."""
        self.bytes = 0
        self.readings = 0
        self.oldest_ns: int | None = None
        self._last_id = cursor
        self._read_to = cursor
        self._marks: deque[_Mark] = deque()

    def add(self, record_id: int, size: int, readings: int, committed_ns: int) -> None:
        """A record became durable, or was found so."""
        if self.oldest_ns is None:
            self.oldest_ns = committed_ns
        self.bytes += size
        self.readings += readings
        self._last_id = record_id

    def read(self, records: Iterable[Record]) -> None:
        """Records went to the reader, some perhaps not for the first time."""
        for record in records:
            if record.id > self._read_to:
                self._marks.append(_Mark(record.id, record.size, record.readings, record.committed_ns))
                self._read_to = record.id
        self._look_at_oldest()

    def acknowledge(self, record_id: int) -> None:
        """Records up to ``record_id``, all of which were read, are delivered."""
        while self._marks and self._marks[0].id <= record_id:
            mark = self._marks.popleft()
            self._take_off(mark.size, mark.readings)
        self._move_to(record_id)

    def drop(self, record: Record) -> None:
        """The oldest record is given up, read or not."""
        if self._marks and self._marks[0].id == record.id:
            self._marks.popleft()
        self._take_off(record.size, record.readings)
        self._read_to = max(self._read_to, record.id)
        self._move_to(record.id)

    def skip(self, record_id: int) -> None:
        """Nothing up to ``record_id`` is left that could be delivered."""
        self._read_to = max(self._read_to, record_id)
        self.acknowledge(record_id)

    def _take_off(self, size: int, readings: int) -> None:
        self.bytes -= size
        self.readings -= readings

    def _move_to(self, record_id: int) -> None:
        self.cursor = max(self.cursor, record_id)
        if self.cursor >= self._last_id:  # what damage took away is not pending either
            self.bytes = self.readings = 0
            self.oldest_ns = None
        self._look_at_oldest()

    def _look_at_oldest(self) -> None:
        if self._marks:
            self.oldest_ns = self._marks[0].committed_ns
