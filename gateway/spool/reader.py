"""Reading the spool from the event loop: durable records, in order, with damage reported on the way.

Rules that hold here:

* One thread reads, with descriptors of its own. It reads segments only as far as they were durable when the read began.
* A damaged place is reported once, copied to the quarantine, and skipped; the records behind it are delivered.
* Where a read meets records and then an error, it returns the records; the next read raises the error.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from gateway.spool.read_retries import ReadRetries
from gateway.spool.record import Record
from gateway.spool.segment import Damage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.spool.log import Log
    from gateway.spool.log_reader import Segment
    from gateway.spool.quarantine import Quarantine

log = logging.getLogger(__name__)

DAMAGE_LISTED = 1000
"""The most places remembered. A remembered place is not reported again when it is read again."""
MAX_READ_RETRIES = 8
"""Failed reads of one place before it counts as damage; the caller waits longer after each."""


class SpoolReader:
    """Reads records for delivery. Used on the loop thread; `_read` runs on the reading thread."""

    def __init__(self, records: Log, quarantine: Quarantine) -> None:
        self._log = records
        self._quarantine = quarantine
        self._retries = ReadRetries(MAX_READ_RETRIES)
        self._reader = records.reader(0, self._retries)
        """The current position. Belongs to the reading thread; it is replaced when a read asks for another position."""
        self._thread = ThreadPoolExecutor(1, "spool-read")
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        """The calls of `wait` under way: each waits for a record after its id."""
        self._nothing_to = 0
        """Up to this id a read found no further record: what is left is damaged, so `wait` waits for a higher id."""
        self._damage: dict[tuple[str, int], Damage] = {}
        """Reported places, by file name and offset."""

    @property
    def damage(self) -> tuple[Damage, ...]:
        """The damaged places found so far, the first `DAMAGE_LISTED` of them."""
        return tuple(self._damage.values())

    async def read(self, after_id: int, max_bytes: int) -> list[Record]:
        """See `SpoolQueue.read`."""
        last_id, segments = self._log.last_id, self._log.segments()
        loop = asyncio.get_running_loop()
        found, failure = await loop.run_in_executor(self._thread, self._read, after_id, max_bytes, segments)
        records: list[Record] = []
        for item in found:
            if isinstance(item, Record):
                records.append(item)
            else:
                self.note(item)
        if not records:
            if failure is not None:
                self._retries.count_failure()
                raise failure
            self._nothing_to = max(self._nothing_to, last_id)
        return records

    def _read(
        self, after: int, max_bytes: int, segments: Sequence[Segment]
    ) -> tuple[list[Record | Damage], OSError | None]:
        """What could be read, and the error that ended the read early; None without one."""
        if self._reader.last_id != after:
            self._reader.close()
            self._retries.keep_only({segment.path for segment in segments})
            self._reader = self._log.reader(after, self._retries)
        found: list[Record | Damage] = []
        size = 0
        try:
            for item in self._reader.items(segments):
                if not isinstance(item, Damage):
                    size += item.size
                    _ = item.entries  # decoded here, so that the loop does not have to
                elif any(item.path == segment.path for segment in self._log.segments()):
                    self._quarantine.keep(item, "damaged")
                else:  # the segment was given up and removed while it was read
                    continue
                found.append(item)
                if size >= max_bytes:
                    break
        except OSError as error:
            return found, error
        return found, None

    async def wait(self, after_id: int) -> None:
        """See `SpoolQueue.wait`."""
        if self._log.last_id > max(after_id, self._nothing_to):
            return
        waiter = (after_id, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            await waiter[1]
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def wake(self) -> None:
        """A record became durable: end the calls of `wait` that it answers."""
        for waiter in [waiter for waiter in self._waiters if waiter[0] < self._log.last_id]:
            self._waiters.remove(waiter)
            if not waiter[1].done():
                waiter[1].set_result(None)

    def found(self, damage: Damage) -> None:
        """Report a damaged place and keep a copy of it."""
        self._quarantine.keep(damage, "damaged")
        self.note(damage)

    def found_torn(self, tail: Damage) -> None:
        """Log the end of a write that a crash interrupted, and keep a copy. It is no damage."""
        log.warning("spool: left out the end of an unfinished write: %s", tail)
        self._quarantine.keep(tail, "torn")

    def note(self, damage: Damage) -> None:
        """Log a damaged place, once."""
        place = damage.path.name, damage.offset
        if place not in self._damage and len(self._damage) < DAMAGE_LISTED:
            self._damage[place] = damage
            log.error("spool: damaged, going on with the next whole record: %s", damage)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()
        self._reader.close()
