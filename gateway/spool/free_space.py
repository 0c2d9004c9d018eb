"""The free room on the disk that the spool leaves to others: below the floor it takes no readings.

A disk that is full to the last byte stops more than the spool: the database beside it, the journal, a login.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.spool.files import Files

MORE = 8
"""Above the floor by one part in so many it takes readings again: at the floor itself it would come and go."""
MIB = 1024**2


class FreeSpace:
    """``min_free`` bytes of the disk that holds ``directory``; 0 for no floor. ``reason`` says why nothing is taken."""

    def __init__(self, files: Files, directory: Path, min_free: int) -> None:
        self._files = files
        self._directory = directory
        self._min_free = min_free
        self.free = 0
        """As of the last look."""
        self.reason: str | None = None

    def look(self) -> bool:
        """See how much is free; whether that is too little. Blocks.

        A disk that does not say is not taken for full: whatever is wrong with it, a commit will tell.
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
