"""The free space that the spool leaves on its disk: below ``min_free`` it takes no readings.

A disk that is full to the last byte stops more than the spool: the database beside it, the journal, a login.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.spool.files import Files

MORE = 8
"""Readings are taken again when 1/MORE of ``min_free`` is free above it: with one limit the state would flap."""
MIB = 1024**2


class FreeSpace:
    """Watches the disk that holds ``directory``; a ``min_free`` of 0 bytes is no limit. The loop
    thread reads the fields; `look` may run on another."""

    def __init__(self, files: Files, directory: Path, min_free: int) -> None:
        self._files = files
        self._directory = directory
        self._min_free = min_free
        self.free = 0
        """Free bytes at the last look."""
        self.reason: str | None = None
        """Why no readings are taken; None while they are."""

    def look(self) -> bool:
        """Measure the free space. Returns whether it is too little. Blocks.

        A disk that does not answer counts as not full: the next commit will show what is wrong with it.
        """
        try:
            self.free = self._files.free(self._directory)
        except OSError:
            self.reason = None
            return False
        enough = self._min_free if self.reason is None else self._min_free + self._min_free // MORE
        self.reason = None
        if self.free < enough:
            self.reason = (
                f"the disk of {self._directory} has {self.free / MIB:.0f} MiB left, "
                f"below spool.min_free ({self._min_free / MIB:.0f} MiB)"
            )
        return self.reason is not None
