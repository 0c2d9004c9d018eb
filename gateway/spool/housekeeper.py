"""Checkpoint, cursor, removal: what has to happen, and in which order, before a segment may go.

Rules that hold here:

* The order is: records reported as dropped; checkpoint of the ledger; cursor; unlink; directory. Each step is durable
  before the next begins, so a crash between any two repeats work and loses none.
* The durable cursor passes no dropped record that no checkpoint counts as dropped: at the next start everything up to
  the cursor is counted as delivered.
* One thread does it, so the cursor is stored by one thread only. Commits go on meanwhile.
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
    from gateway.spool.log import Log
    from gateway.spool.log_reader import LogReader, Segment
    from gateway.spool.record import Record
    from gateway.spool.reports import SpoolListener
    from gateway.spool.retention import Reserve, Retention

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

RETRY_SECONDS = 1.0
_NEVER = (-1, -1)
_STEP_BYTES = 1024**2
"""Of records that are dropped, in memory at a time."""


class Housekeeper:
    """Keeps the disk below its cap. ``squeezed`` asks for commits to wait.

    ``done`` is called after each round, ``damaged`` with what could not be read to be given up.
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
        """Bytes of delivered segments, which can go whenever their room is needed."""
        self.squeezed = False
        """The reserve was given back for the checkpoint: a commit must not take it."""
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
        self._not_before = 0.0
        self._retry: asyncio.TimerHandle | None = None
        self._urgent = False
        self._needed = 0
        self._checkpointed = _NEVER
        self._dropped_after: int | None = None
        self._seen: list[Segment] | None = None

    async def store_cursor(self) -> None:
        """Make the backlog's cursor durable; a failure is kept in `DiskErrors`, not raised."""
        cursor = self._backlog.cursor if self._dropped_after is None else self._dropped_after
        try:
            await self._in_thread(self._cursor.store, cursor)
        except OSError as error:
            self._disk_errors.note(Area.CURSOR, error)
            self._checkpointed = _NEVER  # a round is due: it has the means against a full disk
        else:
            self._disk_errors.clear(Area.CURSOR)

    def committed(self) -> None:
        """A record was added: see to it, but only if that can have changed anything."""
        if self._log.sealed() is not self._seen or self._retention.is_over(self._log.total_bytes, self._needed):
            self.look()

    def disk_is_full(self) -> None:
        """Delivered segments have to go now, whatever the cap says; undelivered ones stay."""
        self._urgent = True
        self.look()

    def make_room(self, size: int) -> bool:
        """A commit of ``size`` bytes does not fit; whether a round is under way that may change that."""
        self._needed = size
        return self.look()

    def look(self) -> bool:
        """See whether something is to be done and begin it; whether a round is under way."""
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
        """Wait for the round under way and leave a checkpoint, so that the next start has nothing to count again."""
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
        except Exception as error:  # noqa: BLE001 - whatever it was, readings must go on being taken
            self._disk_errors.note(Area.HOUSEKEEPING, error)
            loop = asyncio.get_running_loop()
            self._not_before = loop.time() + RETRY_SECONDS
            # An idle gateway has nothing else that looks; and uvloop counts in whole milliseconds.
            self._retry = loop.call_at(self._not_before + 0.001, self.look)
        else:
            self._checkpointed, self._urgent, self._dropped_after = _boundaries(sealed, cursor), False, None
            self._disk_errors.clear(Area.HOUSEKEEPING)
        finally:
            self._round, self.squeezed, self._needed = None, False, 0
            self._done()

    async def _give_up(self, segment: Segment) -> None:
        """Report what is undelivered in it. The cursor moves with each report, so no record is reported twice."""
        if self._dropped_after is None:
            self._dropped_after = self._backlog.cursor
        reader = self._log.reader(self._backlog.cursor)
        records = True
        try:
            while records:  # only the last step has none; where the file is gone, each would say so again
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
                self._reserve.hold()  # while commits wait, or they would take it
                raise
        if going:
            self._log.remove(going)
        self._reserve.hold()

    def _secure(self, write_checkpoint: Callable[[], None], cursor: int) -> None:
        # The checkpoint first: it has the sequence numbers and sums that only the segments have otherwise, and after a
        # crash in between its mark of what is delivered stands in for the cursor.
        write_checkpoint()
        self._cursor.store(cursor)

    async def _in_thread(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)


def _boundaries(sealed: Sequence[Segment], cursor: int) -> tuple[int, int]:
    """Grow when a segment was sealed or delivered: then a new checkpoint saves the next start that much counting."""
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
