"""The listener of commits and deliveries: it turns them into counts in the ledger, latest values, and acks.

Rules that hold here:

* An ack follows the ledger, and the ledger follows the disk: nothing is told to a device before it is counted.
* At most one ack per device and commit, however many messages it covers. Metrics change per commit, not per message.
* A failed commit is told to every connection that had an entry in it.
* An error in one connection does not keep the others from their acks.
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
    from gateway.protocol.field_types import FieldTypes
    from gateway.spool.files import Files
    from gateway.websocket.handler import Write

log = logging.getLogger(__name__)

RETRY_AFTER_FAILED_COMMIT_MS = 1000
NOT_TOLD = "a connection could not be told whether its readings are durable or delivered"


class EntryOwner(Protocol):
    """A device's socket, or a request, that waits for its entries to become durable."""

    def durable(self, numbered: int) -> Write | None:
        """Entries of this owner are on disk, ``numbered`` of them with a sequence number; the ack to write, if any."""
        ...

    def append_failed(self, entries: Sequence[Entry], retry_after_ms: int) -> None:
        """These entries of this owner did not reach the disk: they were not accepted."""
        ...


@contextlib.contextmanager
def _logged() -> Iterator[None]:
    """Log an error in one connection; the others go on."""
    try:
        yield
    except Exception:
        log.exception(NOT_TOLD)


class Accounting:
    """Listens to the spool and to the forwarder. Runs on the event loop only."""

    def __init__(  # noqa: PLR0913 - a reading leaves a trace in all of these
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
        self._checkpointed = (0, 0)
        """The marks of the newest checkpoint: settled dead letters, and delivered records, that it has counted."""
        self._trimmed = (0, 0)
        """The marks up to which settled dead letters were forgotten."""
        self._settling = True
        """Whether dead letters could be read at the last attempt: a failure is logged once."""

    def recovered(
        self,
        record_id: int,
        committed_ns: int,
        entries: Sequence[Entry],
        delivered: bool,  # noqa: FBT001
    ) -> None:
        """Count a record that was found at the start, as far as the checkpoint has not counted it."""
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
            try:  # a context manager would cost half as much as an ack
                if (write := owner.durable(count)) is not None:
                    writes.append(write)
            except Exception:
                log.exception(NOT_TOLD)
        write_all(writes)
        self._metrics.commit.observe(seconds)
        if messages:
            self._count(messages, *before)
            self._acks.committed(messages[0].arrived_ns)  # entries come in the order of their arrival
            if self._types.unsure:
                self._types.settle(messages[-1].arrived_ns)

    def _count(self, messages: Sequence[Entry], received: int, duplicate: int, rejected: int) -> None:
        """Add a commit to the metrics; the arguments are the ledger's sums before it."""
        metrics, total = self._metrics, self._ledger.total
        duplicate, rejected = total.duplicate - duplicate, total.rejected - rejected
        metrics.messages.inc(len(messages))
        metrics.accepted.inc(total.received - received - duplicate - rejected)
        metrics.duplicate.inc(duplicate)
        metrics.rejected.inc(rejected)
        metrics.corrected.inc(sum([entry.corrected for entry in messages]))

    def append_failed(self, items: Sequence[tuple[Entry, object]], error: BaseException) -> None:
        """A group commit failed: take back its sequence numbers and field types, and tell the owners of its entries."""
        self._metrics.commit_failures.inc()
        log.error("spool: a commit of %d messages failed, the devices keep them: %s", len(items), error)
        failed: dict[EntryOwner, list[Entry]] = {}
        arrived_ns = 0
        for entry, owner in items:
            if entry.kind is READINGS:
                self._ledger.rolled_back(entry)
                arrived_ns = entry.arrived_ns
            if owner is not None:
                failed.setdefault(cast("EntryOwner", owner), []).append(entry)
        self._types.take_back(arrived_ns)
        for waiting, lost in failed.items():
            with _logged():
                waiting.append_failed(lost, RETRY_AFTER_FAILED_COMMIT_MS)

    def dropped(self, record_id: int, entries: Sequence[Entry]) -> None:
        """A full spool discarded a record that the database never got."""
        self._ledger.dropped(record_id, entries)
        self._metrics.dropped.inc(sum(entry.accepted for entry in entries))
        for connection, boot, count in self._awaiting(entries):
            with _logged():
                connection.dropped(boot, count)

    def left(self, readings: int, by_device: Callable[[], Mapping[str, int]]) -> None:
        """The spool holds so many readings. Those that the ledger counts as pending beyond them were damaged."""
        if self._ledger.total.pending == readings:
            return
        lost = self._ledger.write_off(by_device())
        if lost > 0:
            self._metrics.dropped.inc(lost)
            log.error("ledger: %d readings were in damaged places of the spool and count as dropped", lost)
        else:
            log.warning("ledger: readings that were damaged can be read again, %d of them counted as dropped", -lost)

    def checkpoint(self) -> Callable[[], None]:
        """A function that writes the ledger as it is now; call it on a thread."""
        marks = self._ledger.settled_to, self._ledger.delivered_to
        write = checkpoint.writer(self._ledger, self._checkpoint_path, self._files)

        def write_and_note() -> None:
            write()
            self._checkpointed = marks

        return write_and_note

    async def settle(self) -> None:
        """Count the dead letters that were stored or discarded since the last call, by this or another process."""
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
                log.warning(
                    "dead letters cannot be read: %s; those that are stored or discarded are counted later", error
                )
            self._settling = False
        else:
            self._settling = True

    async def begin(self, cursor: int, oldest_ns: int | None) -> None:
        """At a start: the records after ``cursor``, the first committed at ``oldest_ns``, are delivered again."""
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
        """The database has stored a record, except the ``refused`` readings of each device."""
        before = self._ledger.total.stored
        self._ledger.delivered(record_id, entries, refused)
        self._metrics.stored.inc(self._ledger.total.stored - before)
        self._metrics.rejected.inc(sum(refused.values()))
        for device in refused.keys() & self._fleet.awaiting:
            connection = self._fleet.view(device).connection
            if connection is not None:
                with _logged():
                    connection.refused(refused[device])
        for connection, boot, count in self._awaiting(entries):
            with _logged():
                connection.stored(boot, count)

    def _awaiting(self, entries: Iterable[Entry]) -> Iterator[tuple[DeviceConnection, str, int]]:
        """The connections with ack level "stored", with each boot and its count of numbered messages in ``entries``."""
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
