"""Devices, a database and a ledger around a spool, to check them after any fault of the disk.

The world outlives crashes; a process does not. Devices behave as the protocol says: they number their messages, keep
unacknowledged ones, and on a new connection drop those that ``last_seq`` covers and send the others again.
"""

from __future__ import annotations

import asyncio
import copy
import json
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.errors import SpoolFull
from gateway.ledger import Entry, Ledger
from gateway.spool.queue import SpoolQueue
from gateway.spool.record import encode
from gateway.spool.segment import START, path_of
from gateway.state import checkpoint
from tests.support.faulty_files import FaultyFiles

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence

    from gateway.spool.files import Files
    from gateway.spool.listener import Recovery
    from gateway.spool.record import Record

SPOOL = Path("/machine/spool")
CHECKPOINT = Path("/machine/state/ledger.json")
BOOT = "boot-1"
LINE_BYTES = 60
TRIES = 20
LIMIT = 20


def line(device: str, seq: int) -> bytes:
    return f"m,device={device} seq={seq}i".encode().ljust(LINE_BYTES - 1, b"#") + b"\n"


class World:
    """Everything outside the gateway. Points are kept as their line-protocol bytes."""

    def __init__(self) -> None:
        self.outbox: dict[str, list[int]] = {}
        """Unacknowledged numbers of each device."""
        self.sent: dict[str, int] = {}
        """The highest number of each device."""
        self.acked: set[bytes] = set()
        self.database: set[bytes] = set()
        self.dropped: set[bytes] = set()

    def measure(self, device: str) -> None:
        """The device has one more reading to send."""
        self.sent[device] = self.sent.get(device, -1) + 1
        self.outbox.setdefault(device, []).append(self.sent[device])

    def acknowledge(self, device: str, seq: int) -> None:
        """The device is told that everything up to ``seq`` is safe."""
        for number in [number for number in self.outbox.get(device, ()) if number <= seq]:
            self.outbox[device].remove(number)
            self.acked.add(line(device, number))

    @property
    def all_sent(self) -> set[bytes]:
        return {line(device, seq) for device, last in self.sent.items() for seq in range(last + 1)}

    def copy(self) -> World:
        return copy.deepcopy(self)


class Process:
    """One run of a gateway on this world and disk; the listener of its spool."""

    def __init__(self, world: World, files: Files, **settings: Any) -> None:
        self.world = world
        self.files = files
        self.failures: list[BaseException] = []
        self.events: list[tuple[str, int]] = []
        self.ledger = self._load()
        self.lost = 0
        self._unsent: dict[str, int] = {}
        self._read_to = 0
        self.queue = SpoolQueue(
            settings.pop("directory", SPOOL),
            listener=self,
            files=files,
            **{
                "commit_interval": 0.0,
                "segment_bytes": 600,
                "max_bytes": 64 * 1024,
                "when_full": "reject",
                "keep_delivered": 0.0,
                **settings,
            },
        )

    def _load(self) -> Ledger:
        try:
            file = self.files.open(CHECKPOINT)
        except FileNotFoundError:
            return Ledger()
        try:
            return Ledger.restored(json.loads(file.read(0, 1 << 20)))
        finally:
            file.close()

    # The listener, as the gateway's bookkeeper is.

    def recovered(self, record_id: int, _ns: int, entries: Sequence[Entry], delivered: bool) -> None:
        if record_id > self.ledger.committed_to:
            self.ledger.committed(record_id, entries)
        if delivered and record_id > self.ledger.delivered_to:
            self.ledger.delivered(record_id, entries, {})

    def committed(self, record_id: int, _ns: int, items: Sequence[tuple[Entry, object]], seconds: float) -> None:
        assert seconds >= 0
        self.events.append(("committed", record_id))
        self.ledger.committed(record_id, [entry for entry, _ in items])
        for entry, _ in items:
            self.world.acknowledge(entry.device, entry.seq)

    def append_failed(self, items: Sequence[tuple[Entry, object]], error: BaseException) -> None:
        self.failures.append(error)
        for entry, _ in items:
            durable = self.ledger.rolled_back(entry)
            self._unsent[entry.device] = durable + 1

    def dropped(self, record_id: int, entries: Sequence[Entry]) -> None:
        self.events.append(("dropped", record_id))
        self.ledger.dropped(record_id, entries)
        for entry in entries:
            self.world.dropped.add(entry.payload)

    def left(self, readings: int, by_device: Callable[[], Mapping[str, int]]) -> None:
        if self.ledger.total.pending != readings:
            self.lost += self.ledger.write_off(by_device())
        assert self.pending_in_both() == readings

    def checkpoint(self) -> Callable[[], None]:
        data = checkpoint.encode(self.ledger.snapshot())
        return lambda: self.files.replace(CHECKPOINT, data)

    # What happens in a run.

    def pending_in_both(self) -> int:
        """Pending readings by the accounts, which must be the number in the spool."""
        assert self.ledger.total.pending == self.queue.status().readings_pending, self.ledger.total
        assert self.ledger.total.pending == sum(account.pending for account in self.ledger.accounts.values())
        return self.ledger.total.pending

    def open(self) -> Recovery:
        recovery = self.queue.open(self.ledger.committed_to, self.ledger.delivered_to)
        self._read_to = recovery.cursor
        return recovery

    def connect(self) -> None:
        """Every device gets its ``last_seq``, which counts as an ack."""
        for device in self.world.sent:
            durable = self.ledger.account(device).sequence(BOOT).durable
            self.world.acknowledge(device, durable)
            self._unsent[device] = 0

    def send(self) -> int:
        """Every device sends its messages since it connected or a commit failed. Returns how many the spool took."""
        taken = 0
        for device, numbers in self.world.outbox.items():
            sequence = self.ledger.account(device).sequence(BOOT)
            for seq in [seq for seq in numbers if seq >= self._unsent.get(device, 0)]:
                new = seq > sequence.accepted
                payload = line(device, seq) if new else b""
                entry = Entry(device, BOOT, seq, lines=int(new), duplicate=int(not new), payload=payload)
                try:
                    self.queue.append(entry, self)
                except SpoolFull:
                    break
                sequence.accepted = max(sequence.accepted, seq)
                self._unsent[device] = seq + 1
                taken += 1
        return taken

    async def deliver(self, max_bytes: int = 500) -> list[Record]:
        """Deliver one batch, with its steps in the forwarder's order."""
        self._read_to = max(self._read_to, self.queue.status().cursor)
        records = await self.queue.read(self._read_to, max_bytes)
        for record in records:
            self.world.database.update(record.payload.splitlines(keepends=True))
        for record in records:
            if record.id > self.queue.status().cursor:
                self.ledger.delivered(record.id, record.entries, {})
        if records:
            self._read_to = records[-1].id
            await self.queue.acknowledge(self._read_to)
        return records

    async def settled(self) -> None:
        """Wait until no round of housekeeping is under way."""
        while (task := self.queue._housekeeper._round) is not None:
            await task

    async def readable(self) -> list[Record]:
        """All undelivered records."""
        found: list[Record] = []
        after = self.queue.status().cursor
        while records := await self.queue.read(after, 1 << 20):
            found += records
            after = records[-1].id
        return found


async def check_recovery(world: World, files: Files, **settings: Any) -> Recovery:
    """Start on this disk; check that no acknowledged point is missing, none is invented, and every count is right."""
    process = Process(world, files, **settings)
    recovery = process.open()
    assert process.pending_in_both() == recovery.pending_readings
    process.queue.start()
    waiting = await process.readable()
    points = [point for record in waiting for point in record.payload.splitlines(keepends=True)]
    lost = world.acked - world.database - world.dropped - set(points)
    assert not lost, f"acknowledged and lost: {sorted(lost)}"
    assert set(points) <= world.all_sent, "recovered a point that no device sent"
    assert len(points) == len(set(points)), "a message is in the spool twice"
    for device in world.sent:
        of_device = [point for point in points if point.startswith(b"m,device=%s " % device.encode())]
        expected = sorted(of_device, key=lambda point: int(point.split(b"seq=")[1].split(b"i")[0]))
        assert of_device == expected, f"order of {device} is lost"
    process.connect()
    for _ in range(TRIES):
        while await process.deliver(1 << 20):
            process.pending_in_both()
            await process.settled()
        if not process.send():
            break
        await process.queue.flush()
    assert not process.failures, process.failures
    total = process.ledger.total
    assert total.received == total.stored + total.duplicate + total.rejected + total.dropped, total
    assert process.lost == 0, "something was given up as damaged"
    assert process.pending_in_both() == 0
    for device, account in process.ledger.accounts.items():
        assert account.pending == 0, f"{device}: {account}"
    assert world.database | world.dropped == world.all_sent, "something sent never arrived"
    assert total.stored + total.dropped == len(world.all_sent), total
    assert total.stored <= len(world.database), "counted as stored what the database never got"
    assert process.queue.healthy, process.queue.last_error
    assert process.queue.status().damaged == 0, "a crash was taken for damage, or made some"
    await process.queue.close()
    return recovery


def run(work: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(LIMIT):
            await work

    asyncio.run(limited())


@asynccontextmanager
async def running(world: World | None = None, disk: Files | None = None, **settings: Any) -> AsyncIterator[Process]:
    process = Process(world or World(), disk or FaultyFiles(), **settings)
    process.open()
    process.queue.start()
    process.connect()
    yield process
    await process.queue.close()


async def sent(process: Process, messages: int, device: str = "a") -> None:
    """Make this many commits of one message each."""
    for _ in range(messages):
        process.world.measure(device)
        assert process.send() == 1
        await process.queue.flush()
        await process.settled()


def flip(disk: FaultyFiles, record_id: int, segment: int = 1) -> None:
    """Damage a byte in the middle of a record; all records in the segment have one size."""
    data = disk.names_now[path_of(SPOOL, segment)].data
    start, size = START, len(encode(1, 0, [Entry("a", BOOT, 0, lines=1, payload=line("a", 0))]))
    data[start + (record_id - segment) * size + size // 2] ^= 1
