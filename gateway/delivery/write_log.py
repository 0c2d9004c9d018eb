"""Which writes reached the database, and when: a bounded text file, so that `why` can name the one a reading was in.

Rules that hold here:

* It is history, not state: nothing is decided by it, it is not synced, and a disk that does not take it costs only the
  answer to "when". What a kill loses is the last half second.
* A line is one write, a JSON object with the members of `Write`. A line that is none is passed over.
* At most two files of `MAX_BYTES` each; the older one goes.
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
_MOST_WAITING = 10_000
_LONGEST_LINE = 512


@dataclass(frozen=True, slots=True)
class Write:
    """One write of ``points`` that the database took; ``first`` and ``last`` are (record, index) of its ends."""

    n: int
    ended_ns: int
    seconds: float
    points: int
    first: tuple[int, int]
    last: tuple[int, int]

    def touches(self, record_id: int, line: int, lines: int) -> bool:
        """Whether one of ``lines`` points from ``line`` on of a record was in it."""
        return lines > 0 and self.first <= (record_id, line + lines - 1) and self.last >= (record_id, line)


class WriteLog:
    """The log at ``path``. `note` is for the loop thread and never waits; `flush` blocks and may run in another one."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._waiting: deque[bytes] = deque(maxlen=_MOST_WAITING)
        self._flushing = threading.Lock()
        self._failed = False
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
        """Put what was noted into the file."""
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
                        "the log of writes %s cannot be written (%s): `why` will not know them", self._path, error
                    )
                self._failed = True

    def _append(self, data: bytes) -> None:
        with self._path.open("ab") as file:
            # A line of its own, whatever a crash left of the one before.
            file.write(b"\n" + data if _is_cut(self._path) else data)
            size = file.tell()
        if size >= self._max_bytes:
            self._path.replace(_older(self._path))


def read(path: Path) -> Iterator[Write]:
    """The writes that are remembered, oldest first."""
    for each in (_older(path), path):
        with suppress(FileNotFoundError), each.open("rb") as file:
            yield from _parsed(file)


def _tail(path: Path) -> Iterator[Write]:
    for each in (_older(path), path):
        with suppress(FileNotFoundError), each.open("rb") as file:
            file.seek(max(0, each.stat().st_size - _LONGEST_LINE))
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
