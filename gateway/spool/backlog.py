"""What is durable and not yet acknowledged, in sums, without holding it.

Rules that hold here:

* A record is taken off the sums once: when it is acknowledged or when it is dropped.
* Records that were read and not yet acknowledged have a mark each; their number is bounded by what the reader holds.
* Ids have no gaps. Where one is missing, damage took its record, and nobody knows what was in it. So what comes from
  then on is counted by device: when all that stood there before is over, that is all that is left, and this is told.
  So is it when a record comes that the start could not read.
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
    entries: Sequence[Entry]  # of a record the reader holds anyway


@dataclass(slots=True)
class _Since:
    """What came behind record ``last_id``, which was the newest when a gap was met."""

    last_id: int
    bytes: int = 0
    readings: Counter[str] = field(default_factory=Counter)


class Backlog:
    """``bytes`` and ``readings`` behind ``cursor``, and when the oldest of them became durable.

    ``left`` is called after damage: so many readings are left, and how many of each device.
    """

    def __init__(
        self, cursor: int = 0, left: Callable[[int, Callable[[], Mapping[str, int]]], None] = lambda *_: None
    ) -> None:
        self.cursor = cursor
        """Every record up to this id was acknowledged or dropped, as far as this process knows."""
        self.bytes = 0
        self.readings = 0
        self.oldest_ns: int | None = None
        self._left = left
        self._last_id = cursor
        self._read_to = cursor
        self._over_to = cursor
        self._not_added: list[tuple[int, int]] = []
        self._since: _Since | None = None
        self._marks: deque[_Mark] = deque()

    def add(self, record_id: int, size: int, readings: int, committed_ns: int, entries: Iterable[Entry] = ()) -> None:
        """A record became durable; or was found so at the start, where ``entries`` are not needed."""
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
        """Records went to the reader, some perhaps not for the first time."""
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
        """The oldest record is given up, read or not."""
        if self._marks and self._marks[0].id == record.id:
            self._marks.popleft()
        self._take_off(_mark(record))
        self._read_to = max(self._read_to, record.id)
        self._move_to(record.id)

    def skip(self, record_id: int) -> None:
        """Nothing up to ``record_id`` is left that could be delivered."""
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
