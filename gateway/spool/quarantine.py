"""Copies of the bytes that recovery or reading left out, for a person to look at.

Rules that hold here:

* A copy is named after its file and offset, made once, and never read by the gateway again.
* All copies together stay below a bound; the oldest are removed first. Nothing else depends on them, so a disk that
  does not take a copy stops nothing.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from gateway.spool.segment import read_pages

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.spool.files import Files
    from gateway.spool.segment import Damage

log = logging.getLogger(__name__)

NAME = "quarantine"
MAX_BYTES = 16 * 1024**2
"""The most bytes of all copies together, and so of a single one."""


class Quarantine:
    """The directory of copies below ``directory``, of at most ``max_bytes``."""

    def __init__(self, files: Files, directory: Path, max_bytes: int = MAX_BYTES) -> None:
        self._files = files
        self._directory = directory / NAME
        self._max_bytes = max_bytes

    def keep(self, damage: Damage, what: str) -> None:
        """Copy the bytes of ``damage``, cut to the bound, to ``SEGMENT@OFFSET.what``."""
        path = self._directory / f"{damage.path.name}@{damage.offset}.{what}"
        try:
            size = min(damage.length, self._max_bytes)
            if size == 0 or path.name in self._files.names(self._directory):
                return
            self._files.make_dir(self._directory)
            self._make_room(size)
            self._files.replace(path, self._read(damage, size))
        except OSError as error:
            log.warning("spool: the bytes left out of %s could not be copied: %s", damage, error)

    def _read(self, damage: Damage, size: int) -> bytes:
        file = self._files.open(damage.path)
        try:
            return read_pages(file, damage.offset, size)
        finally:
            file.close()

    def _make_room(self, size: int) -> None:
        names = self._files.names(self._directory)
        sizes = {name: self._files.size(self._directory / name) for name in names}
        total = sum(sizes.values())
        for name in names:  # named after first ids, so in order of age
            if total + size <= self._max_bytes:
                return
            with contextlib.suppress(FileNotFoundError):
                self._files.unlink(self._directory / name)
            total -= sizes[name]
