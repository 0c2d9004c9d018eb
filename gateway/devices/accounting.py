"""Where the two halves meet: what became durable, and what the database confirmed, turned into accounts and acks.

Rules that hold here:

* An ack follows the ledger, and the ledger follows the disk: nothing is told to a device before it is counted.
* At most one ack per device and commit, however many messages it covers. Metrics change per commit, not per message.
* A failed commit is told to everybody who had something in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from typing import TYPE_CHECKING, Protocol, cast

from gateway.delivery.settled_dead_letters import Settlement
from gateway.delivery.write_result import TYPE_CONFLICT, BatchTooLarge, OperatorNeeded, PointRefused, RetryLater, Stored
from gateway.ledger import NO_SEQ, READINGS, Entry
from gateway.line_protocol import parse_line
from gateway.state import checkpoint
from gateway.websocket.handler import write_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from gateway.delivery.batch import Batch
    from gateway.delivery.dead_letters import DeadLetters
    from gateway.delivery.settled_dead_letters import LedgerCorrection
    from gateway.delivery.write_log import WriteLog
    from gateway.delivery.write_result import WriteResult
    from gateway.devices.acks import Acks
    from gateway.devices.device_connection import DeviceConnection
    from gateway.devices.fleet import Fleet
    from gateway.ledger import Ledger
    from gateway.metrics import Metrics
    from gateway.protocol.types import FieldTypes
    from gateway.spool.files import Files
    from gateway.websocket.handler import Write

log = logging.getLogger(__name__)

RETRY_AFTER_FAILED_COMMIT_MS = 1000
UNTOLD = "a connection could not be told what became of its readings"


class EntryOwner(Protocol):
    """Whoever waits for an entry: a device's socket or a request."""

    def durable(self, numbered: int) -> Write | None:
        """Entries of this owner are on disk, ``numbered`` of them with a sequence number; what to write for it."""
        ...

    def append_failed(self, entries: Sequence[Entry], retry_after_ms: int) -> None:
        """These entries of this owner did not reach the disk and were not taken."""
        ...


@contextlib.contextmanager
def _others_go_on() -> Iterator[None]:
    """A bug that one connection meets must not keep the others from their answers."""
    try:
        yield
    except Exception:
        log.exception(UNTOLD)


class Accounting:
    """The listener of the spool and of the forwarder. Runs on the event loop only."""

    def __init__(  # noqa: PLR0913 - everything that a reading leaves a trace in
        self,
        ledger: Ledger,
        fleet: Fleet,
        metrics: Metrics,
        dead_letters: DeadLetters,
        writes: WriteLog,
        types: FieldTypes,
        checkpoint_path: Path,
        files: Files,
        *,
        acks: Acks,
    ) -> None:
        self._ledger = ledger
        self._fleet = fleet
        self._metrics = metrics
        self._dead_letters = dead_letters
        self._writes = writes
        self._types = types
        self._acks = acks
        self._checkpoint_path = checkpoint_path
        self._files = files
        self._checkpointed = self._trimmed = (0, 0)
        self._settling = True

    def recovered(
        self,
        record_id: int,
        committed_ns: int,
        entries: Sequence[Entry],
        delivered: bool,  # noqa: FBT001
    ) -> None:
        """Count a record found at the start, as far as the checkpoint has not."""
        if record_id > self._ledger.committed_to:
            self._ledger.committed(record_id, entries)
        if delivered and record_id > self._ledger.delivered_to:
            self._ledger.delivered(record_id, entries, self._dead_letters.refused_in(record_id, committed_ns))

    def committed(
        self, record_id: int, _committed_ns: int, items: Sequence[tuple[Entry, object]], seconds: float
    ) -> None:
        """A group commit is on disk: count it, show it, acknowledge it."""
        total = self._ledger.total
        before = total.received, total.duplicate, total.rejected
        messages = [entry for entry, _ in items if entry.kind is READINGS]
        self._ledger.committed(record_id, messages)
        self._fleet.show(*messages)
        numbered: dict[EntryOwner, int] = {}
        for entry, owner in cast("Sequence[tuple[Entry, EntryOwner | None]]", items):
            if owner is not None:
                numbered[owner] = numbered.get(owner, 0) + (entry.seq != NO_SEQ)
        writes = []
        for owner, count in numbered.items():
            try:  # a context manager would cost as much as half an ack
                if (write := owner.durable(count)) is not None:
                    writes.append(write)
            except Exception:
                log.exception(UNTOLD)
        write_all(writes)
        self._metrics.commit.observe(seconds)
        if messages:
            self._count(messages, *before)
            self._acks.committed(messages[0].arrived_ns)  # entries come in the order of their arrival
            if self._types.unsure:
                self._types.settle(messages[-1].arrived_ns)

    def _count(self, messages: Sequence[Entry], received: int, duplicate: int, rejected: int) -> None:
        """Add a commit to the metrics; before it the ledger's sums were as given."""
        metrics, total = self._metrics, self._ledger.total
        duplicate, rejected = total.duplicate - duplicate, total.rejected - rejected
        metrics.messages.inc(len(messages))
        metrics.accepted.inc(total.received - received - duplicate - rejected)
        metrics.duplicate.inc(duplicate)
        metrics.rejected.inc(rejected)
        metrics.corrected.inc(sum([entry.corrected for entry in messages]))

    def append_failed(self, items: Sequence[tuple[Entry, object]], error: BaseException) -> None:
        """A group commit failed: take back its numbers and the types it taught, and tell everybody who is in it."""
        self._metrics.commit_failures.inc()
        log.error("spool: a commit of %d messages failed, the devices keep them: %s", len(items), error)
        failed: dict[EntryOwner, list[Entry]] = {}
        arrived_ns = 0
        for entry, waiting in items:
            if entry.kind is READINGS:
                self._ledger.rolled_back(entry)
                arrived_ns = entry.arrived_ns
            if waiting is not None:
                failed.setdefault(cast("EntryOwner", waiting), []).append(entry)
        self._types.take_back(arrived_ns)
        for owner, entries in failed.items():
            with _others_go_on():
                owner.append_failed(entries, RETRY_AFTER_FAILED_COMMIT_MS)

    def dropped(self, record_id: int, entries: Sequence[Entry]) -> None:
        """A full spool discarded a record that the database never got."""
        self._ledger.dropped(record_id, entries)
        self._metrics.dropped.inc(sum(entry.accepted for entry in entries))
        for connection, boot, count in self._awaiting(entries):
            with _others_go_on():
                connection.dropped(boot, count)

    def left(self, readings: int, by_device: Callable[[], Mapping[str, int]]) -> None:
        """The spool holds this and no more: what pends beyond it was damaged."""
        if self._ledger.total.pending == readings:
            return
        lost = self._ledger.write_off(by_device())
        if lost > 0:
            self._metrics.dropped.inc(lost)
            log.error("ledger: %d readings were in damaged places of the spool and count as dropped", lost)
        else:
            log.warning("ledger: readings that were damaged can be read again, %d of them counted as dropped", -lost)

    def checkpoint(self) -> Callable[[], None]:
        """A writer of the ledger as it is now."""
        marks = self._ledger.settled_to, self._ledger.delivered_to
        write = checkpoint.writer(self._ledger, self._checkpoint_path, self._files)

        def write_and_note() -> None:
            write()
            self._checkpointed = marks

        return write_and_note

    async def settle(self) -> None:
        """Count what became of dead letters since the last call, by whichever process."""
        letters = self._dead_letters
        try:
            mark, changes = await asyncio.to_thread(letters.settled_after, self._ledger.settled_to)
            self._apply(changes)
            self._ledger.settled_to = mark
            if self._trimmed != self._checkpointed:
                await asyncio.to_thread(letters.trim, *self._checkpointed)
                self._trimmed = self._checkpointed
        except sqlite3.Error as error:
            if self._settling:
                log.warning("dead letters cannot be read: %s; what becomes of them is counted later", error)
            self._settling = False
        else:
            self._settling = True

    async def begin(self, cursor: int, oldest_ns: int | None) -> None:
        """At a start: the records behind ``cursor``, the first committed at ``oldest_ns``, are delivered once more."""
        if oldest_ns is not None:
            self._apply(await asyncio.to_thread(self._dead_letters.uncount, cursor, oldest_ns, self._ledger.settled_to))
        await self.settle()

    def _apply(self, changes: Sequence[LedgerCorrection]) -> None:
        for change in changes:
            stored = change.count if change.settlement is Settlement.STORED else 0
            dropped = change.count if change.settlement is Settlement.DISCARDED else 0
            self._ledger.settled(change.device, stored, dropped)
            self._metrics.stored.inc(max(0, stored))
            self._metrics.dropped.inc(max(0, dropped))

    def delivered(self, record_id: int, entries: Sequence[Entry], refused: Mapping[str, int]) -> None:
        """The database has a record, but for the ``refused`` points of each device."""
        before = self._ledger.total.stored
        self._ledger.delivered(record_id, entries, refused)
        self._metrics.stored.inc(self._ledger.total.stored - before)
        self._metrics.rejected.inc(sum(refused.values()))
        for device in refused.keys() & self._fleet.awaiting:
            connection = self._fleet.view(device).connection
            if connection is not None:
                with _others_go_on():
                    connection.refused(refused[device])
        for connection, boot, count in self._awaiting(entries):
            with _others_go_on():
                connection.stored(boot, count)

    def _awaiting(self, entries: Iterable[Entry]) -> Iterator[tuple[DeviceConnection, str, int]]:
        """The devices of ``entries`` that await this, with how many numbered messages of which boot are in them."""
        numbered: dict[tuple[str, str], int] = {}
        awaiting = self._fleet.awaiting
        for entry in entries if awaiting else ():
            if entry.device in awaiting and entry.seq != NO_SEQ:
                key = entry.device, entry.boot
                numbered[key] = numbered.get(key, 0) + 1
        for (device, boot), count in numbered.items():
            connection = self._fleet.view(device).connection
            if connection is not None:
                yield connection, boot, count

    def wrote(self, batch: Batch, seconds: float, outcome: WriteResult) -> None:
        """A batch went to the database and ``outcome`` came back."""
        self._metrics.write.observe(seconds)
        match outcome:
            case Stored():
                self._writes.note(batch, time.time_ns(), seconds)
            case RetryLater(kind=kind) | OperatorNeeded(kind=kind) | PointRefused(kind=kind) | BatchTooLarge(kind=kind):
                self._metrics.write_errors.labels(kind).inc()

    def dead_letter(self, kind: str, line: bytes) -> None:
        """One point was refused by the database for good."""
        self._metrics.dead_letters.labels(kind).inc()
        if kind == TYPE_CONFLICT:
            with contextlib.suppress(ValueError):
                measurement, _, fields, _ = parse_line(line)
                self._types.doubt(measurement, fields)
