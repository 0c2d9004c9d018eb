"""Checkpoint, cursor, removal: the steps, in order, before a segment is removed.

Rules that hold here:

* The order is: records reported as dropped; checkpoint of the ledger; cursor; unlink; directory. Each step is durable
  before the next begins, so a crash between any two repeats work and loses none.
* The durable cursor does not pass a dropped record before a checkpoint counts it as dropped: the next start counts
  every record up to the cursor as delivered.
* One thread does all of this, so only one thread stores the cursor. Commits go on meanwhile.
* A step that fails leaves the segments where they are; it is tried again later.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

from gateway.spool.disk_errors import Area, DiskErrors
from gateway.spool.segment import Damage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.spool.backlog import Backlog
    from gateway.spool.cursor import Cursor
    from gateway.spool.listener import SpoolListener
    from gateway.spool.log import Log
    from gateway.spool.log_reader import LogReader, Segment
    from gateway.spool.record import Record
    from gateway.spool.retention import Reserve, Retention

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

RETRY_SECONDS = 1.0
_NEVER = (-1, -1)
"""Lower than all real boundaries, so the next `look` begins a round."""
_STEP_BYTES = 1024**2
"""The most bytes of dropped records in memory at a time, and one record more."""


class Housekeeper:
    """Keeps the spool below its cap, in rounds. Its fields belong to the loop thread, except for ``squeezed``.

    ``done`` is called after each round. ``damaged`` is called with each damaged place in a segment that is given up.
    """

    def __init__(  # noqa: PLR0913 - the parts that it keeps in step
        self,
        log: Log,
        backlog: Backlog,
        cursor: Cursor,
        retention: Retention,
        reserve: Reserve,
        listener: SpoolListener,
        disk_errors: DiskErrors,
        *,
        damaged: Callable[[Damage], None],
        done: Callable[[], None],
    ) -> None:
        self.reclaimable = 0
        """Bytes of delivered segments, which can be removed whenever their room is needed."""
        self.squeezed = False
        """The reserve was released for the checkpoint: commits wait, or they would take its room. Set on the
        housekeeping thread, cleared on the loop at the end of the round."""
        self._log = log
        self._backlog = backlog
        self._cursor = cursor
        self._retention = retention
        self._reserve = reserve
        self._listener = listener
        self._disk_errors = disk_errors
        self._damaged = damaged
        self._done = done
        self._thread = ThreadPoolExecutor(1, "spool-housekeeping")
        self._round: asyncio.Task[None] | None = None
        """The round under way; None between rounds."""
        self._not_before = 0.0
        """Loop time before which no round begins, after one that failed."""
        self._retry: asyncio.TimerHandle | None = None
        """Looks again after a round that failed."""
        self._urgent = False
        """The disk is full: remove every delivered segment in the next round."""
        self._needed = 0
        """Bytes of a commit that did not fit and waits for room; 0 without one."""
        self._checkpointed = _NEVER
        """What `_boundaries` was when the last checkpoint was written."""
        self._dropped_after: int | None = None
        """The cursor before the first record that was dropped since the last checkpoint; None without dropped ones.
        Until the next checkpoint `store_cursor` stores no higher id."""
        self._seen: list[Segment] | None = None
        """The list of sealed segments at the last `look`; `Log` replaces the list at every change."""

    async def store_cursor(self) -> None:
        """Make the backlog's cursor durable. A failure is noted in `DiskErrors`, not raised."""
        cursor = self._backlog.cursor if self._dropped_after is None else self._dropped_after
        try:
            await self._in_thread(self._cursor.store, cursor)
        except OSError as error:
            self._disk_errors.note(Area.CURSOR, error)
            self._checkpointed = _NEVER  # begins a round, which can release the reserve on a full disk
        else:
            self._disk_errors.clear(Area.CURSOR)

    def committed(self) -> None:
        """A record was added: look, but only if that can have changed anything."""
        if self._log.sealed() is not self._seen or self._retention.is_over(self._log.total_bytes, self._needed):
            self.look()

    def disk_is_full(self) -> None:
        """Remove delivered segments now, even below the cap; undelivered ones stay."""
        self._urgent = True
        self.look()

    def make_room(self, size: int) -> bool:
        """A commit of ``size`` bytes does not fit. Returns whether a round is under way that may make room."""
        self._needed = size
        return self.look()

    def look(self) -> bool:
        """Begin a round if one is due. Returns whether a round is under way."""
        sealed, cursor = self._log.sealed(), self._backlog.cursor
        self._seen = sealed
        self.reclaimable = self._retention.note_delivered(sealed, cursor)
        loop = asyncio.get_running_loop()
        if self._round is None and loop.time() >= self._not_before and self._is_due(sealed, cursor):
            self._round = loop.create_task(self._tidy(), name="spool-housekeeping")
        return self._round is not None

    def _is_due(self, sealed: Sequence[Segment], cursor: int) -> bool:
        return bool(
            any(now > then for now, then in zip(_boundaries(sealed, cursor), self._checkpointed, strict=True))
            or self._going(sealed, cursor)
            or self._retention.to_drop(sealed, cursor, self._log.total_bytes, self._needed)
        )

    def _going(self, sealed: Sequence[Segment], cursor: int) -> list[Segment]:
        total = self._log.total_bytes
        return self._retention.removable(sealed, cursor, total, self._needed, everything=self._urgent)

    async def finish(self) -> None:
        """Wait for the round under way, then run a last one: its checkpoint saves the next start from counting."""
        if self._round is not None:
            await self._round
        await self._tidy()
        if self._retry is not None:
            self._retry.cancel()
        self._thread.shutdown()

    async def _tidy(self) -> None:
        try:
            sealed, cursor, total = self._log.sealed(), self._backlog.cursor, self._log.total_bytes
            for segment in self._retention.to_drop(sealed, cursor, total, self._needed):
                await self._give_up(segment)
            sealed, cursor = self._log.sealed(), self._backlog.cursor
            going = self._going(sealed, cursor)
            write_checkpoint = self._listener.checkpoint()
            await self._in_thread(self._remove, write_checkpoint, cursor, going)
        except Exception as error:  # noqa: BLE001 - whatever failed, the gateway must go on accepting readings
            self._disk_errors.note(Area.HOUSEKEEPING, error)
            loop = asyncio.get_running_loop()
            self._not_before = loop.time() + RETRY_SECONDS
            # In an idle gateway nothing else calls `look`. The millisecond more: uvloop counts in whole milliseconds.
            self._retry = loop.call_at(self._not_before + 0.001, self.look)
        else:
            self._checkpointed, self._urgent, self._dropped_after = _boundaries(sealed, cursor), False, None
            self._disk_errors.clear(Area.HOUSEKEEPING)
        finally:
            self._round, self.squeezed, self._needed = None, False, 0
            self._done()

    async def _give_up(self, segment: Segment) -> None:
        """Report the undelivered records of a segment as dropped. The cursor moves with each, so none twice."""
        if self._dropped_after is None:
            self._dropped_after = self._backlog.cursor
        reader = self._log.reader(self._backlog.cursor)
        records = True
        try:
            while records:  # the last step has no record; if the file is gone, each further one would report that again
                found = await self._in_thread(_some, reader, segment)
                records = any(not isinstance(item, Damage) for item in found)
                for item in found:
                    if isinstance(item, Damage):
                        self._damaged(item)
                    elif item.id > self._backlog.cursor:  # not acknowledged while it was being read
                        self._listener.dropped(item.id, item.entries)
                        self._backlog.drop(item)
        finally:
            reader.close()
        self._backlog.skip(segment.last_id)

    def _remove(self, write_checkpoint: Callable[[], None], cursor: int, going: Sequence[Segment]) -> None:
        try:
            self._secure(write_checkpoint, cursor)
        except OSError as error:
            self.squeezed = True
            if not self._reserve.release(error):
                raise
            try:
                self._secure(write_checkpoint, cursor)
            except OSError:
                self._reserve.hold()  # now, while commits wait, or they would take its room
                raise
        if going:
            self._log.remove(going)
        self._reserve.hold()

    def _secure(self, write_checkpoint: Callable[[], None], cursor: int) -> None:
        # The checkpoint first: its sequence numbers and sums are otherwise only in the segments. After a crash between
        # the two, the checkpoint's mark of the delivered records stands in for the cursor.
        write_checkpoint()
        self._cursor.store(cursor)

    async def _in_thread(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)


def _boundaries(sealed: Sequence[Segment], cursor: int) -> tuple[int, int]:
    """The last id of the newest sealed segment, and of the newest delivered one; 0 if there is none.

    One of them grows when a segment is sealed or delivered: a checkpoint then saves the next start from counting it.
    """
    delivered = max((segment.last_id for segment in sealed if segment.last_id <= cursor), default=0)
    return sealed[-1].last_id if sealed else 0, delivered


def _some(reader: LogReader, segment: Segment) -> list[Record | Damage]:
    found: list[Record | Damage] = []
    size = 0
    for item in reader.items([segment]):
        found.append(item)
        size += 0 if isinstance(item, Damage) else item.size
        if size >= _STEP_BYTES:
            break
    return found
