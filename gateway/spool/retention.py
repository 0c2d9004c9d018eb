"""Which segments may be removed, and the reserve that lets the spool free room on a full disk.

Rules that hold here:

* A delivered segment is kept for ``keep_delivered``, so that a reading's way can still be traced, but never when its
  room is needed. An undelivered one is dropped only under ``drop_oldest``, and only when no delivered one is left.
* Room is made one segment ahead of the cap, so that commits do not wait for it.
"""

from __future__ import annotations

import contextlib
import errno
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from gateway.spool.files import Files
    from gateway.spool.log_reader import Segment

RESERVE = "reserve"


class Retention:
    """Keeps all segments together below ``max_bytes``; ``keep_delivered`` in seconds."""

    def __init__(
        self,
        *,
        max_bytes: int,
        segment_bytes: int,
        keep_delivered: float,
        drop: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._keep = keep_delivered
        self._drop = drop
        self._clock = clock
        self._delivered_at: dict[int, float] = {}
        """When each delivered segment was first seen so, by its first id; seconds of ``clock``."""

    def note_delivered(self, sealed: Sequence[Segment], cursor: int) -> int:
        """Note when segments were delivered. Returns the bytes of all delivered ones."""
        delivered = [segment for segment in sealed if segment.last_id <= cursor]
        now = self._clock()
        self._delivered_at = {segment.first_id: self._delivered_at.get(segment.first_id, now) for segment in delivered}
        return sum(segment.size for segment in delivered)

    def removable(
        self, sealed: Sequence[Segment], cursor: int, total: int, needed: int, *, everything: bool = False
    ) -> list[Segment]:
        """Delivered segments to remove now, oldest first: expired, or ``everything``, or for the room.

        ``total`` bytes are in all segments; ``needed`` are those of a commit that waits.
        """
        going: list[Segment] = []
        now = self._clock()
        for segment in sealed:
            if segment.last_id > cursor:
                break
            expired = now - self._delivered_at.get(segment.first_id, now) >= self._keep
            if not (expired or everything or self.is_over(total, needed)):
                break
            going.append(segment)
            total -= segment.size
        return going

    def to_drop(self, sealed: Sequence[Segment], cursor: int, total: int, needed: int) -> list[Segment]:
        """Undelivered segments to give up now, oldest first; arguments as for `removable`."""
        going: list[Segment] = []
        for segment in sealed:
            if not self._drop or not self.is_over(total, needed):
                break
            total -= segment.size
            if segment.last_id > cursor:
                going.append(segment)
        return going

    def is_over(self, total: int, needed: int) -> bool:
        """Whether room has to be made: for another segment, or for ``needed`` bytes if that is more."""
        return total + max(needed, self._segment_bytes) > self._max_bytes


class Reserve:
    """A file that holds disk room for the checkpoint, and is removed when the checkpoint needs it.

    A segment is removed only after the checkpoint was written. Without the reserve, a disk that the spool itself has
    filled would have no room for the checkpoint, and so the spool could never free any.
    """

    def __init__(self, files: Files, directory: Path, size: int) -> None:
        self._files = files
        self._path = directory / RESERVE
        self._size = size
        self._held = False
        """Whether the file has its room."""

    def hold(self) -> None:
        """Take the room if the disk has it."""
        if self._held or not self._size:
            return
        try:
            file = self._files.edit(self._path)
            try:
                file.allocate(self._size)
                self._held = True
            finally:
                file.close()
        except OSError:
            self._remove_file()  # a file system may keep what it had taken when the room ran out

    def release(self, error: OSError) -> bool:
        """Give the room back if ``error`` is a full disk. Returns whether it did."""
        return error.errno in {errno.ENOSPC, errno.EDQUOT} and self._remove_file()

    def _remove_file(self) -> bool:
        self._held = False
        with contextlib.suppress(OSError):
            self._files.unlink(self._path)
            return True
        return False
