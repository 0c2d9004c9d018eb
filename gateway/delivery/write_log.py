"""The log of writes that the database took: a bounded text file, from which `why` names the write of a reading.

Rules that hold here:

* It is history, not state: no decision depends on it. It is not synced. If the disk does not take it, only `why` loses
  its answer to "when"; a kill loses the last half second.
* A line is one write, a JSON object with the members of `Write`. Any other line is skipped.
* There are at most two files of `MAX_BYTES` each; the older one is replaced.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gateway.delivery.batch import Batch

log = logging.getLogger(__name__)

MAX_BYTES = 4 * 1024**2
"""About 40,000 writes: half a day of one a second."""
_MAX_WAITING = 10_000
"""Lines kept in memory between two flushes; beyond that, the oldest are dropped."""
_MAX_LINE_BYTES = 512


@dataclass(frozen=True, slots=True)
class Write:
    """Write number ``n``: the database took ``points`` points in ``seconds``, at ``ended_ns`` since 1970.

    ``first`` and ``last`` are (record id, index) of the first and last point.
    """

    n: int
    ended_ns: int
    seconds: float
    points: int
    first: tuple[int, int]
    last: tuple[int, int]

    def touches(self, record_id: int, line: int, lines: int) -> bool:
        """Whether it wrote one of ``lines`` points, from index ``line`` on, of a record."""
        return lines > 0 and self.first <= (record_id, line + lines - 1) and self.last >= (record_id, line)


class WriteLog:
    """The log at ``path``. `note` is for the loop thread and never blocks; `flush` blocks and may run in another."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        # Lines that are not in the file yet.
        self._waiting: deque[bytes] = deque(maxlen=_MAX_WAITING)
        # Held by the thread that writes the file.
        self._flushing = threading.Lock()
        # Whether the last flush failed: that is logged once.
        self._failed = False
        # Number of the newest write; numbers go on across restarts.
        self._n = max((write.n for write in _tail(path)), default=0)

    def note(self, batch: Batch, ended_ns: int, seconds: float) -> None:
        """The database took ``batch``."""
        self._n += 1
        last = batch.spans[-1]
        line = {
            "n": self._n,
            "ended_ns": ended_ns,
            "seconds": round(seconds, 6),
            "points": batch.count,
            "first": batch.start,
            "last": (last.record_id, last.first + last.lines - 1),
        }
        self._waiting.append(orjson.dumps(line) + b"\n")

    def flush(self) -> None:
        """Append the waiting lines to the file."""
        with self._flushing:
            lines = []
            while self._waiting:
                lines.append(self._waiting.popleft())
            if not lines:
                return
            try:
                self._append(b"".join(lines))
                self._failed = False
            except OSError as error:
                if not self._failed:
                    log.warning(
                        "the log of writes %s cannot be written (%s): `why` will not know these writes",
                        self._path,
                        error,
                    )
                self._failed = True

    def _append(self, data: bytes) -> None:
        with self._path.open("ab") as file:
            # A crash may have cut the last line of the file: the new lines must not continue it.
            file.write(b"\n" + data if _is_cut(self._path) else data)
            size = file.tell()
        if size >= self._max_bytes:
            self._path.replace(_older(self._path))


def read(path: Path) -> Iterator[Write]:
    """The writes in both files, oldest first."""
    for each in (_older(path), path):
        with suppress(FileNotFoundError), each.open("rb") as file:
            yield from _parsed(file)


def _tail(path: Path) -> Iterator[Write]:
    """The newest writes of each file, from its last bytes."""
    for each in (_older(path), path):
        with suppress(FileNotFoundError), each.open("rb") as file:
            file.seek(max(0, each.stat().st_size - _MAX_LINE_BYTES))
            yield from _parsed(file)


def _parsed(lines: Iterator[bytes]) -> Iterator[Write]:
    for line in lines:
        with suppress(ValueError, TypeError):
            found = orjson.loads(line)
            yield Write(**{**found, "first": tuple(found["first"]), "last": tuple(found["last"])})


def _is_cut(path: Path) -> bool:
    with path.open("rb") as file:
        size = path.stat().st_size
        file.seek(max(0, size - 1))
        return size > 0 and file.read(1) != b"\n"


def _older(path: Path) -> Path:
    return path.with_name(path.name + ".1")
