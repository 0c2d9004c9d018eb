"""Stand-ins for the forwarder's neighbours: a spool in memory, a scripted database, and a listener that checks.

The spool keeps the contract of `gateway.delivery.interfaces.RecordSource` strictly: it fails the test when the cursor
goes back, and counts a record as dropped only while it is not acknowledged.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gateway.delivery.backoff import BackoffBounds
from gateway.delivery.forwarder import Forwarder
from gateway.delivery.write_result import BatchTooLarge, PointRefused, Stored, WriteResult
from gateway.ledger import Entry, Kind, Ledger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from gateway.delivery.batch import Batch
    from gateway.delivery.dead_letters import DeadLetter

WAIT = 20.0
AT_ONCE = BackoffBounds(first=0.0, max_delay=0.0, max_retry_after=0.0, operator_needed=0.0)


def line(device: str, number: int, value: float = 1.0) -> bytes:
    """A point; each ``number`` of a device gives another timestamp."""
    return b"telemetry,device=%s v=%r %d\n" % (device.encode(), value, number)


def entry(device: str, *lines: bytes, kind: Kind = Kind.READINGS, **counts: Any) -> Entry:
    """An entry with these points."""
    return Entry(device=device, lines=len(lines), payload=b"".join(lines), kind=kind, **counts)


@dataclass(frozen=True)
class MemoryRecord:
    """A record as the spool returns it."""

    id: int
    committed_ns: int
    entries: Sequence[Entry]

    @property
    def payload(self) -> bytes:
        return b"".join(entry.payload for entry in self.entries)

    @property
    def payload_bytes(self) -> int:
        return len(self.payload)


@dataclass(frozen=True)
class MemoryStatus:
    """The part of the spool's status that delivery reads."""

    cursor: int
    readings_pending: int


class MemorySource:
    """A spool without a disk."""

    def __init__(self, ledger: Ledger | None = None) -> None:
        self.records: list[MemoryRecord] = []
        self.cursor = 0
        # The cursor that a restart would find.
        self.durable_cursor = 0
        self.dropped_ids: set[int] = set()
        # How often `wait` was called.
        self.waits = 0
        # The most bytes that were read and not yet acknowledged.
        self.max_unacknowledged = 0
        self.acknowledged: list[int] = []
        # Positions of the cursor at which the ledger's pending readings were not those of the records after it.
        self.differences: list[int] = []
        # Raised by the next calls of the named method.
        self.faults: dict[str, list[Exception]] = {}
        self.ledger = ledger if ledger is not None else Ledger()
        # Whether `wait` waits now.
        self.idle = False
        self._changed = asyncio.Event()

    def append(self, *entries: Entry, committed_ns: int = 0, skip_ids: int = 0) -> int:
        """Commit a record; its id. ``skip_ids`` leaves a gap before it, as damage does."""
        record_id = (self.records[-1].id if self.records else 0) + 1 + skip_ids
        self.records.append(MemoryRecord(record_id, committed_ns, entries))
        self.ledger.committed(record_id, entries)
        self._changed.set()
        return record_id

    def drop_to(self, record_id: int) -> None:
        """As ``drop_oldest``: move the cursor past records that were not delivered."""
        for record in self.records:
            if self.cursor < record.id <= record_id:
                self.ledger.dropped(record.id, record.entries)
                self.dropped_ids.add(record.id)
        self.cursor = self.durable_cursor = max(self.cursor, record_id)
        self._compare()
        self._changed.set()

    def _compare(self) -> None:
        pending = sum(account.pending for account in self.ledger.accounts.values())
        if not pending == self.ledger.total.pending == self.status().readings_pending:
            self.differences.append(self.cursor)

    def status(self) -> MemoryStatus:
        waiting = [entry for record in self.records if record.id > self.cursor for entry in record.entries]
        return MemoryStatus(self.cursor, sum(entry.accepted for entry in waiting))

    async def read(self, after_id: int, max_bytes: int) -> list[MemoryRecord]:
        self._fault("read")
        found: list[MemoryRecord] = []
        for record in self.records:
            if record.id > max(after_id, self.cursor) and (not found or max_bytes > 0):
                found.append(record)
                max_bytes -= len(record.payload)
        read_to = found[-1].id if found else after_id
        held = sum(len(record.payload) for record in self.records if self.cursor < record.id <= read_to)
        self.max_unacknowledged = max(self.max_unacknowledged, held)
        await asyncio.sleep(0)  # as from a thread: records may be dropped before the reader has them
        return found

    async def wait(self, after_id: int) -> None:
        self._fault("wait")
        self.waits += 1
        self.idle = True
        self._changed.set()
        try:
            await self.until(lambda: bool(self.records) and self.records[-1].id > after_id)
        finally:
            self.idle = False

    async def acknowledge(self, record_id: int) -> None:
        assert record_id >= self.cursor, "the cursor went back"
        self.cursor = record_id
        self._compare()
        await asyncio.sleep(0)
        self._fault("acknowledge")
        self.durable_cursor = max(self.durable_cursor, record_id)
        self.acknowledged.append(record_id)
        self._changed.set()

    async def emptied(self) -> None:
        """Wait until every record is acknowledged or dropped."""
        async with asyncio.timeout(WAIT):
            await self.until(lambda: self.cursor >= self.records[-1].id)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a change here makes ``condition`` true."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def _fault(self, method: str) -> None:
        if faults := self.faults.get(method):
            raise faults.pop(0)


class ScriptedDatabase:
    """Points by series and timestamp, the last value wins. ``script`` decides the first writes; later ones succeed.

    A scripted result is returned, an exception is raised, None lets the write succeed, "lost" stores the batch and
    raises. Lines in ``poison`` are always refused; the rest of their batch is stored if ``partial``, as by InfluxDB 1.
    """

    name = "scripted"

    def __init__(self, script: Sequence[WriteResult | Exception | str | None] = (), *, partial: bool = True) -> None:
        self.points: dict[tuple[bytes, bytes], bytes] = {}
        self.script = list(script)
        self.poison: set[bytes] = set()
        self.partial = partial
        self.max_bytes = 1 << 30
        self.writes: list[bytes] = []
        self.at_once = 0
        self.max_at_once = 0
        # While it is cleared, writes do not return.
        self.gate = threading.Event()
        self.gate.set()
        self._changed = threading.Condition()

    def write(self, lines: bytes) -> WriteResult:
        with self._changed:
            self.writes.append(lines)
            self.at_once += 1
            self.max_at_once = max(self.max_at_once, self.at_once)
            scripted = self.script.pop(0) if self.script else None
            self._changed.notify_all()
        assert self.gate.wait(WAIT)
        with self._changed:
            self.at_once -= 1
            return self._answer(lines, scripted)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the start of a write makes ``condition`` true."""

        def wait() -> bool:
            with self._changed:
                return self._changed.wait_for(condition, WAIT)

        assert await asyncio.to_thread(wait)

    def _answer(self, lines: bytes, scripted: WriteResult | Exception | str | None) -> WriteResult:
        if isinstance(scripted, Exception):
            raise scripted
        if scripted == "lost":
            self._store(point for point in lines.splitlines(keepends=True) if point not in self.poison)
            raise ConnectionError("the answer was lost")
        if scripted is not None and not isinstance(scripted, str):
            return scripted
        if len(lines) > self.max_bytes:
            return BatchTooLarge("too_large", "request entity too large")
        points = lines.splitlines(keepends=True)
        bad = [point for point in points if point in self.poison]
        if bad:
            if self.partial:
                self._store(point for point in points if point not in self.poison)
            return PointRefused("bad_request", f"partial write: field type conflict dropped={len(bad)}")
        self._store(points)
        return Stored()

    def _store(self, points: Any) -> None:
        for point in points:
            series, _, rest = point.partition(b" ")
            self.points[series, rest.rsplit(b" ", 1)[1]] = point

    @property
    def lines(self) -> list[bytes]:
        """Every stored point, sorted."""
        return sorted(self.points.values())


@dataclass
class MemoryDeadLetters:
    """A store of dead letters; ``faults`` are raised by the next calls."""

    letters: dict[tuple[int, int], DeadLetter] = field(default_factory=dict)
    faults: list[Exception] = field(default_factory=list)

    def add(self, letter: DeadLetter) -> bool:
        if self.faults:
            raise self.faults.pop(0)
        return self.letters.setdefault((letter.record_id, letter.line), letter) is letter

    def refused_in(self, record_id: int, committed_ns: int) -> Counter[str]:
        """As `gateway.delivery.dead_letters.DeadLetters.refused_in`."""
        wanted = record_id, committed_ns
        letters = [each for each in self.letters.values() if (each.record_id, each.committed_ns) == wanted]
        return Counter(each.device for each in letters if each.counted)

    @property
    def lines(self) -> list[bytes]:
        return sorted(letter.data for letter in self.letters.values())


@dataclass
class Witness:
    """The listener: counts in a real ledger, and fails the test if a record comes twice or out of order."""

    source: MemorySource
    delivered_ids: list[int] = field(default_factory=list)
    results: list[WriteResult] = field(default_factory=list)
    dead: Counter[str] = field(default_factory=Counter)
    wrote_one: asyncio.Event = field(default_factory=asyncio.Event)

    def delivered(self, record_id: int, entries: Sequence[Entry], refused: Mapping[str, int]) -> None:
        assert record_id > self.source.cursor, "delivered after it was acknowledged or dropped"
        assert not self.delivered_ids or record_id > self.delivered_ids[-1]
        self.delivered_ids.append(record_id)
        self.source.ledger.delivered(record_id, entries, refused)

    def wrote(self, batch: Batch, seconds: float, result: WriteResult) -> None:
        assert seconds >= 0
        assert batch.count == batch.lines.count(b"\n") == sum(span.lines for span in batch.spans)
        self.results.append(result)
        self.wrote_one.set()

    def dead_letter(self, kind: str, line: bytes) -> None:
        assert line.count(b"\n") >= 1
        self.dead[kind] += 1


class Bench:
    """A forwarder and its neighbours."""

    def __init__(
        self,
        *script: WriteResult | Exception | str | None,
        partial: bool = True,
        bounds: BackoffBounds = AT_ONCE,
        **options: Any,
    ) -> None:
        self.source = MemorySource()
        self.database = ScriptedDatabase(script, partial=partial)
        self.dead_letters = MemoryDeadLetters()
        self.witness = Witness(self.source)
        self.options: dict[str, Any] = {
            "max_readings": 5000,
            "max_age": 0.0,
            "max_in_flight": 2,
            "bounds": bounds,
        } | options
        self.forwarder = self.another()

    def another(self) -> Forwarder:
        """A new forwarder like the first, as after a restart."""
        return Forwarder(self.source, self.database, self.dead_letters, listener=self.witness, **self.options)

    def restart(self) -> None:
        """Start again from what is durable: memory is lost, the ledger is counted again from the spool."""
        source = self.source
        source.cursor, source.ledger = source.durable_cursor, Ledger()
        for record in source.records:
            source.ledger.committed(record.id, record.entries)
            if record.id in source.dropped_ids:
                source.ledger.dropped(record.id, record.entries)
            elif record.id <= source.cursor:
                refused = self.dead_letters.refused_in(record.id, record.committed_ns)
                source.ledger.delivered(record.id, record.entries, refused)
        self.witness = Witness(source)
        self.forwarder = self.another()

    def fill(self, records: int, per_record: int = 1, device: str = "a") -> list[bytes]:
        points = []
        for _ in range(records):
            new = [line(device, 1000 * len(self.source.records) + index) for index in range(per_record)]
            self.source.append(entry(device, *new))
            points += new
        return points

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.forwarder.run())
        try:
            yield
        finally:
            await self.forwarder.stop(WAIT)
            async with asyncio.timeout(WAIT):
                await task

    async def delivered(self) -> None:
        async with self.running():
            await self.source.emptied()
