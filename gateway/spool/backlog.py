"""Sums over the durable records that are not yet acknowledged. The records themselves are not held.

Rules that hold here:

* A record is subtracted from the sums once: when it is acknowledged or when it is dropped.
* Each record that was read and not yet acknowledged has a mark; the reader's own bound limits their number.
* Ids have no gaps. A missing id means that damage took its record, and its readings are unknown, so the sums may be
  wrong by an unknown number. From then on a second count, by device, has the new records only. When every older
  record is acknowledged or dropped, the second count is exact: it replaces the sums and is reported (``left``). A
  second count also begins when a record is read that the start could not read.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from gateway.ledger import Entry
    from gateway.spool.record import Record


class _Mark(NamedTuple):
    id: int
    size: int
    readings: int
    committed_ns: int
    entries: Sequence[Entry]  # shared with the record, which the reader holds anyway


@dataclass(slots=True)
class _Since:
    """Sums over the records after ``last_id``, which was the newest record when a gap was met."""

    last_id: int
    bytes: int = 0
    readings: Counter[str] = field(default_factory=Counter)


class Backlog:
    """``bytes`` and ``readings`` behind ``cursor``. Once the spool is open, it belongs to the loop thread.

    ``left`` is called after damage with the exact number of readings that are left, and a function that gives the
    number of each device.
    """

    def __init__(
        self, cursor: int = 0, left: Callable[[int, Callable[[], Mapping[str, int]]], None] = lambda *_: None
    ) -> None:
        self.cursor = cursor
        """Every record up to this id was acknowledged or dropped, as far as this process knows."""
        self.bytes = 0
        self.readings = 0
        self.oldest_ns: int | None = None
        """When the oldest undelivered record became durable (ns since 1970); None without one."""
        self._left = left
        self._last_id = cursor
        """Id of the newest record that was added."""
        self._read_to = cursor
        """The highest id that was read, dropped or skipped: records above it have not had a mark yet."""
        self._over_to = cursor
        """Up to this id records are subtracted, or known to be missing."""
        self._not_added: list[tuple[int, int]] = []
        """First and last id of each run that was missing when records were added: the start could not read them."""
        self._since: _Since | None = None
        """The second count, which begins at a gap; None while the sums are exact."""
        self._marks: deque[_Mark] = deque()
        """The marks of records that were read and not yet acknowledged, oldest first."""

    def add(self, record_id: int, size: int, readings: int, committed_ns: int, entries: Iterable[Entry] = ()) -> None:
        """A record became durable, or was found at the start; there ``entries`` are not needed."""
        if self.oldest_ns is None:
            self.oldest_ns = committed_ns
        self.bytes += size
        self.readings += readings
        if record_id > self._last_id + 1:
            self._not_added.append((self._last_id + 1, record_id - 1))
        self._last_id = record_id
        if self._since is not None:
            self._since.bytes += size
            self._since.readings.update(_readings(entries))

    def read(self, records: Iterable[Record]) -> None:
        """Records were read, some of them perhaps again."""
        for record in records:
            if record.id > self._read_to:
                self._marks.append(_mark(record))
                self._read_to = record.id
        self._look_at_oldest()

    def acknowledge(self, record_id: int) -> None:
        """Records up to ``record_id``, all of which were read, are delivered."""
        while self._marks and self._marks[0].id <= record_id:
            self._take_off(self._marks.popleft())
        self._move_to(record_id)

    def drop(self, record: Record) -> None:
        """The oldest record is given up, whether it was read or not."""
        if self._marks and self._marks[0].id == record.id:
            self._marks.popleft()
        self._take_off(_mark(record))
        self._read_to = max(self._read_to, record.id)
        self._move_to(record.id)

    def skip(self, record_id: int) -> None:
        """No record up to ``record_id`` is left to deliver."""
        self._read_to = max(self._read_to, record_id)
        self.acknowledge(record_id)

    def _take_off(self, mark: _Mark) -> None:
        self._pass_gap(mark.id - 1)
        self._over_to = mark.id
        if mark.id > self._last_id or any(first <= mark.id <= last for first, last in self._not_added):
            self._count_from_here(mark.id)  # the start could not read it
            return
        self.bytes -= mark.size
        self.readings -= mark.readings
        if self._since is not None and mark.id > self._since.last_id:
            self._since.bytes -= mark.size
            self._since.readings.subtract(_readings(mark.entries))

    def _pass_gap(self, record_id: int) -> None:
        if record_id > self._over_to:
            self._over_to = record_id
            self._count_from_here(record_id)

    def _count_from_here(self, record_id: int) -> None:
        self._since = _Since(max(self._last_id, record_id))

    def _move_to(self, record_id: int) -> None:
        self._pass_gap(record_id)
        self.cursor = max(self.cursor, record_id)
        if self._since is not None and self.cursor >= self._since.last_id:
            self._tell(self._since)
        if self.cursor >= self._last_id:
            self.oldest_ns = None
        self._look_at_oldest()

    def _tell(self, since: _Since) -> None:
        self._since = None
        self.bytes, self.readings = since.bytes, since.readings.total()
        self._left(self.readings, lambda: since.readings)

    def _look_at_oldest(self) -> None:
        if self._marks:
            self.oldest_ns = self._marks[0].committed_ns


def _mark(record: Record) -> _Mark:
    return _Mark(record.id, record.size, record.readings, record.committed_ns, record.entries)


def _readings(entries: Iterable[Entry]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for entry in entries:
        counted[entry.device] += entry.accepted
    return counted
