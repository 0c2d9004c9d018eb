"""The spool as the event loop sees it: append, listen, read, acknowledge.

Rules that hold here:

* `SpoolListener.committed` follows the fdatasync of what it reports; reading shows durable records only.
* Reading never deletes. A segment is removed when its records are acknowledged or given up, and not before the
  checkpoint and the cursor that say so are durable (`housekeeper`).
* All of it runs on the loop thread. Commits, reads and housekeeping have one thread each, so neither waits for another.
* The entries that wait for the disk have a bound in bytes and in number. At half of it the spool is `congested`, and
  reading from senders pauses. At a quarter it calls `eased`. Above the bound it takes no entry.
* Disk errors are kept and shown. They never end the queue, and they never stop a start that can read anything.
"""

from __future__ import annotations

import asyncio
import errno
import sys
import time
from typing import TYPE_CHECKING, Literal

from gateway.errors import SpoolError, SpoolFull
from gateway.spool.backlog import Backlog
from gateway.spool.committer import Committer, Item
from gateway.spool.cursor import Cursor
from gateway.spool.disk_errors import Area, DiskErrors
from gateway.spool.files import File, Files
from gateway.spool.free_space import FreeSpace
from gateway.spool.housekeeper import Housekeeper
from gateway.spool.listener import SpoolStatus
from gateway.spool.log import Commit, Log
from gateway.spool.quarantine import Quarantine
from gateway.spool.reader import SpoolReader
from gateway.spool.record import ENTRY_BYTES, HEADER_BYTES
from gateway.spool.recovery import recover
from gateway.spool.retention import Reserve, Retention
from gateway.spool.segment import START

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gateway.ledger import Entry
    from gateway.spool.listener import Recovery, SpoolListener
    from gateway.spool.record import Record

LOCK = "lock"
COMMIT_OVERHEAD = START + HEADER_BYTES
"""Bytes of a commit beside its entries, in a segment of its own."""
MAX_QUEUED_BYTES = 8 * 1024**2
"""The most bytes that wait for the disk: what devices send while a slow disk is busy."""
MAX_QUEUED_ENTRIES = 32 * 1024
"""The same in entries: each takes most of a KiB of memory beside its bytes."""
MAX_RESERVE_BYTES = 8 * 1024**2
"""The largest `Reserve`: disk room that is given back when a checkpoint needs it."""
MAX_SLACK_BYTES = 1024**2
"""The most room of a full spool that only entries without points may take: refusals have to be counted too."""


class SpoolQueue:
    """The durable queue in ``directory``. ``commit_interval`` and ``keep_delivered`` are in seconds.

    `open` first (it blocks), then `start` on the running loop, `close` at the end. ``segment_bytes`` is lowered
    to a quarter of ``max_bytes`` where it is above.
    """

    def __init__(  # noqa: PLR0913 - the settings of the configuration, by their names
        self,
        directory: Path,
        *,
        commit_interval: float,
        segment_bytes: int,
        max_bytes: int,
        when_full: Literal["reject", "drop_oldest"],
        keep_delivered: float,
        listener: SpoolListener,
        files: Files | None = None,
        min_free: int = 0,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._files = files = files or Files()
        self.free_space = FreeSpace(files, directory, min_free)
        reserve = min(MAX_RESERVE_BYTES, max_bytes // 32)
        segment_bytes = min(segment_bytes, max_bytes // 4)
        self._directory = directory
        self._listener = listener
        self._clock_ns = clock_ns
        self._drop = when_full == "drop_oldest"
        self._max_bytes = max_bytes - reserve
        """The most bytes of all segments together; the reserve takes the rest of the setting."""
        self._slack = min(MAX_SLACK_BYTES, self._max_bytes // 64)
        """Bytes that entries with points leave free for entries without."""
        self._max_queued = min(MAX_QUEUED_BYTES, max_bytes // 8)
        """The most bytes that wait for the disk."""
        self._many_queued = self._max_queued // 2
        """From this many bytes on the spool is congested."""
        self.congested = False
        """Too much waits for the disk: senders should pause until ``eased`` is called."""
        self.scarce = False
        """The spool was congested, and senders may still be paused. ``eased`` is called after every commit until all
        senders are resumed; then `Backpressure` sets this to False."""
        self.headroom = self._max_queued // 4
        """Bytes that senders may send after ``eased`` before the spool is congested again."""
        self.eased: Callable[[], None] = lambda: None
        """Called when little enough waits for the disk; replaced by the part that pauses and resumes senders."""
        self._log = Log(files, directory, segment_bytes)
        self._committer = Committer(self._log, self, commit_interval, clock_ns)
        self._reserve = Reserve(files, directory, reserve)
        self._retention = Retention(
            max_bytes=self._max_bytes, segment_bytes=segment_bytes, keep_delivered=keep_delivered, drop=self._drop
        )
        self._reader = SpoolReader(self._log, Quarantine(files, directory))
        self._disk_errors = DiskErrors()
        self._lock: File | None = None
        """The lock file, open and locked while this process owns the directory."""
        self._started = self._closed = False
        self._easy = 0
        """While fewer bytes than this are queued, an entry is taken without a closer look, and the spool is not
        congested. 0 when the limits have to be computed again: after any change of what is on the disk."""

    def open(self, committed_to: int = 0, delivered_to: int = 0) -> Recovery:
        """Lock the directory and recover its records.

        The arguments are the marks of the ledger's checkpoint: the ids up to which it counts records as committed and
        as delivered. Those are not reported again. Records up to ``delivered_to`` are delivered even if the cursor was
        lost.

        Raises:
            SpoolError: another process uses the directory, or a newer version of the gateway wrote it.
            OSError: the directory cannot be made or read.
        """
        self._take_directory()
        try:
            recovery = self._recover(committed_to, delivered_to)
        except BaseException:
            self._release_directory()
            raise
        self._reserve.hold()
        try:
            self._log.start()
        except OSError as error:  # the records on disk can still be delivered, which may free the room that is missing
            self._disk_errors.note(Area.APPEND, error)
        return recovery

    def _recover(self, committed_to: int, delivered_to: int) -> Recovery:
        cursor = Cursor(self._files, self._directory)
        self._backlog = Backlog(max(cursor.stored, delivered_to), self._listener.left)
        recovery = recover(self._log, self._backlog, self._reader, self._listener, committed_to, delivered_to)
        cursor.make()
        self._housekeeper = Housekeeper(
            self._log,
            self._backlog,
            cursor,
            self._retention,
            self._reserve,
            self._listener,
            self._disk_errors,
            damaged=self._reader.note,
            done=self._round_done,
        )
        return recovery

    def _take_directory(self) -> None:
        self._files.make_dir(self._directory)
        lock = self._files.edit(self._directory / LOCK)
        if not lock.try_lock():
            lock.close()
            raise SpoolError(f"the spool {self._directory} is in use by another gateway: stop that one first")
        self._lock = lock

    def _release_directory(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close()

    def start(self) -> None:
        """Begin to commit; needs the running loop."""
        self._loop = asyncio.get_running_loop()
        self._committer.start()
        self._started = True
        self._housekeeper.look()

    async def flush(self) -> None:
        """Return when everything appended so far is durable or has failed."""
        await self._committer.flush()

    async def close(self) -> None:
        """Commit what is queued, write a checkpoint, release the directory."""
        if self._closed or self._lock is None:
            return
        self._closed = True
        self._easy = 0
        if self._started:
            await self._committer.stop()
            await self._housekeeper.finish()
        self._reader.close()
        self._log.close()
        self._release_directory()

    @property
    def room(self) -> bool:
        """Whether a message with readings would be taken now."""
        return self._committer.bytes < self._easy or self._has_room(self._slack, self._slack)

    def _has_room(self, size: int, slack: int) -> bool:
        committer = self._committer
        queued, limit = committer.bytes, self._measure()
        # Each entry takes at least ENTRY_BYTES: within so many more bytes the entries stay below half of their bound.
        few = (MAX_QUEUED_ENTRIES // 2 - committer.entries) * ENTRY_BYTES
        self._easy = min(self._many_queued, limit - 2 * self._slack, queued + few)
        return queued < self._max_queued and committer.entries < MAX_QUEUED_ENTRIES and queued + size + slack <= limit

    def _measure(self) -> int:
        """The most bytes that may be queued now; it changes with everything that changes on the disk."""
        if self._closed or self.free_space.reason is not None:
            return -1
        if self._drop:
            return sys.maxsize
        kept = self._log.total_bytes - self._housekeeper.reclaimable
        # Two commits at most are still to be made of what is queued: the one under way and the next.
        return self._max_bytes - kept - 2 * COMMIT_OVERHEAD

    @property
    def fullness(self) -> str:
        """Why there is no room; to be read only when there is none."""
        return self.free_space.reason or f"the spool {self._directory} is full"

    async def look_at_disk(self) -> None:
        """Check the free space of the disk. Below the minimum, remove the delivered segments.

        After a failed commit, try the disk again: devices that heard of the failure may send nothing that would try it.
        """
        full = await asyncio.to_thread(self.free_space.look)
        self._easy = 0
        if full:
            self._housekeeper.disk_is_full()
        elif not self.healthy and self._started and not self._closed:
            self._committer.probe()

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait for the disk or are being written."""
        return self._committer.bytes

    @property
    def healthy(self) -> bool:
        """Whether the last commit reached the disk."""
        return Area.APPEND not in self._disk_errors

    @property
    def commit_seconds(self) -> float:
        """Age of the commit that is being written; 0 without one. When large, the disk neither takes it nor fails."""
        return self._committer.seconds

    @property
    def last_error(self) -> str | None:
        """The current disk errors, in words for an operator; None without one."""
        return self._disk_errors.text

    def append(self, entry: Entry, owner: object) -> None:
        """Put an entry into the next commit; the result goes to `SpoolListener` together with ``owner``.

        Raises:
            SpoolFull: the entry was not taken.
        """
        size = ENTRY_BYTES + len(entry.payload) + len(entry.device) + len(entry.boot) + len(entry.verdicts)
        committer = self._committer
        if committer.bytes + size < self._easy:
            committer.add(entry, owner, size)
            return
        if not self._has_room(size, self._slack if entry.lines else 0):
            raise SpoolFull(self.fullness)
        committer.add(entry, owner, size)
        if committer.bytes >= self._many_queued or committer.entries >= MAX_QUEUED_ENTRIES // 2:
            self.congested = self.scarce = True

    def may_commit(self, size: int) -> bool:
        """See `gateway.spool.committer.CommitSink`."""
        if self._housekeeper.squeezed:
            return False
        size += COMMIT_OVERHEAD
        if self._log.total_bytes + size <= self._max_bytes:
            return True
        if not self._housekeeper.make_room(size):
            full = SpoolFull(f"the spool {self._directory} is full and no room could be made")
            self._loop.call_soon(self._committer.fail_waiting, full)
        return False

    def committed(self, commit: Commit, items: list[Item], seconds: float) -> None:
        """See `gateway.spool.committer.CommitSink`."""
        self._easy = 0
        self._disk_errors.clear(Area.APPEND)
        entries = (entry for entry, _ in items)
        self._backlog.add(commit.record_id, commit.size, commit.readings, commit.committed_ns, entries)
        self._housekeeper.committed()
        self._reader.wake()
        try:
            self._listener.committed(commit.record_id, commit.committed_ns, items, seconds)
        finally:
            self._look_at_queue()

    def commit_failed(self, items: list[Item], error: BaseException) -> None:
        """See `gateway.spool.committer.CommitSink`."""
        self._easy = 0
        if not isinstance(error, SpoolFull):
            self._disk_errors.note(Area.APPEND, error)
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in {errno.ENOSPC, errno.EDQUOT}:
            self._housekeeper.disk_is_full()
        try:
            if items:  # a probe has none
                self._listener.append_failed(items, error)
        finally:
            self._look_at_queue()

    def _look_at_queue(self) -> None:
        committer = self._committer
        few = committer.bytes <= self._max_queued // 4 and committer.entries <= MAX_QUEUED_ENTRIES // 4
        if self.scarce and few:
            self.congested = False
            self.eased()

    def _round_done(self) -> None:
        self._easy = 0
        if not self._closed:
            self._housekeeper.look()
        self._committer.go_on()

    async def read(self, after_id: int, max_bytes: int) -> list[Record]:
        """Durable records after ``after_id``, in order, about ``max_bytes`` of them, at least one if there is one.

        Raises:
            OSError: the disk cannot be read.
        """
        records = await self._reader.read(max(after_id, self._backlog.cursor), max_bytes)
        self._backlog.read(records)
        return records

    async def wait(self, after_id: int) -> None:
        """Return once there is a durable record after ``after_id``."""
        await self._reader.wait(after_id)

    async def acknowledge(self, record_id: int) -> None:
        """Records up to ``record_id`` are delivered: they are not dropped from now on. On return the cursor is durable.

        A disk that does not take the cursor raises nothing here: `last_error` shows it, and a restart would deliver
        these records again.

        Raises:
            ValueError: there is no such record yet.
        """
        if record_id > self._log.last_id:
            raise ValueError(f"record {record_id} was never durable; the last one is {self._log.last_id}")
        self._backlog.acknowledge(record_id)
        await self._housekeeper.store_cursor()
        self._housekeeper.look()
        self._easy = 0

    def status(self) -> SpoolStatus:
        """The state now; cheap."""
        backlog = self._backlog
        oldest = backlog.oldest_ns
        return SpoolStatus(
            bytes_pending=backlog.bytes,
            readings_pending=backlog.readings,
            bytes_total=self._log.total_bytes,
            oldest_ns=oldest,
            oldest_seconds=max(0, self._clock_ns() - oldest) / 1e9 if oldest is not None else 0.0,
            cursor=backlog.cursor,
            next_id=self._log.last_id + 1,
            segments=len(self._log.segments()),
            damaged=len(self._reader.damage),
        )
