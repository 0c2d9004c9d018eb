"""The durable cursor: the id up to which every record was acknowledged.

Rules that hold here:

* The stored id never goes back and is never one that was not given to `Cursor.store`.
* Two slots in pages of their own are written in turn, so a torn write costs the newer id and leaves the older one.
* A file that cannot be read counts as missing. Delivery then begins at the oldest record again, which is allowed and
  better than a start that is refused.
* After a failed sync the file is not trusted any more: a new file replaces it with the next id.
* Both slots have their room on the disk from the first start on, so a disk that is full later cannot stop `store`.

docs/reference/files.md draws the layout.
"""

from __future__ import annotations

import contextlib
import struct
from typing import TYPE_CHECKING

from google_crc32c import value as crc32c

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.spool.files import File, Files

NAME = "cursor"
_SLOT = struct.Struct("<8sQQ")
_CRC = struct.Struct("<I")
_MAGIC = b"\xffTGCURSR"
_DISTANCE = 4096
"""Bytes between the slots: they share no sector and no page, so a write of one never rewrites the other."""


def _encode(generation: int, record_id: int) -> bytes:
    fields = _SLOT.pack(_MAGIC, generation, record_id)
    return fields + _CRC.pack(crc32c(fields))


def _decode(data: bytes) -> tuple[int, int] | None:
    if len(data) < _SLOT.size + _CRC.size:
        return None
    fields = data[: _SLOT.size]
    magic, generation, record_id = _SLOT.unpack(fields)
    if magic != _MAGIC or _CRC.unpack_from(data, _SLOT.size)[0] != crc32c(fields):
        return None
    return generation, record_id


def load(files: Files, directory: Path) -> tuple[int, int] | None:
    """Generation and id of the newest whole slot; None when no slot can be read."""
    slots = []
    with contextlib.suppress(OSError):
        file = files.open(directory / NAME)
        try:
            for offset in (0, _DISTANCE):
                with contextlib.suppress(OSError):
                    slots.append(_decode(file.read(offset, _SLOT.size + _CRC.size)))
        finally:
            file.close()
    return max((slot for slot in slots if slot is not None), default=None)


class Cursor:
    """The cursor of the spool in ``directory``. Used by one thread at a time."""

    def __init__(self, files: Files, directory: Path) -> None:
        self._files = files
        self._path = directory / NAME
        self._file: File | None = None
        """None: there is no file, or it is not trusted; the next store writes a new one."""
        found = load(files, directory)
        self._generation, self.stored = found or (0, 0)
        """The generation counts the stores and picks the slot. ``stored`` is the durable cursor; 0 before the first."""
        if found is not None:
            with contextlib.suppress(OSError):
                self._file = files.edit(self._path)

    def make(self) -> None:
        """Create the file with all its room. If that fails, the first `store` tries again and reports it."""
        if self._file is None:
            with contextlib.suppress(OSError):
                self._renew(self._generation, self.stored)

    def store(self, record_id: int) -> None:
        """Make ``record_id`` the durable cursor; a lower one than before changes nothing.

        Raises:
            OSError: it may or may not be durable; the next call writes a new file.
        """
        if record_id <= self.stored:
            return
        generation = self._generation + 1
        try:
            if self._file is None:
                self._renew(generation, record_id)
            else:
                self._file.write(generation % 2 * _DISTANCE, _encode(generation, record_id))
                # Durable on return: segments up to this id may be removed next, and a restart must not expect them.
                self._file.sync()
        except OSError:
            self.close()
            raise
        self._generation, self.stored = generation, record_id

    def _renew(self, generation: int, record_id: int) -> None:
        slot = _encode(generation, record_id)
        self._files.replace(self._path, slot.ljust(_DISTANCE, b"\0") + slot)
        self._file = self._files.edit(self._path)

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()
