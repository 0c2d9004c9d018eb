"""What delivery and the API ask of a database."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from gateway.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gateway.delivery.write_result import WriteResult


@dataclass(frozen=True, slots=True)
class SeriesQuery:
    """One field of one device between two moments (ns since 1970, end excluded), in at most ``points`` buckets.

    A ``coarse`` one wants an answer at once rather than an exact one: fewer buckets, from a sample of the values.
    """

    device: str
    field: str
    start_ns: int
    end_ns: int
    points: int
    measurement: str | None = None
    coarse: bool = False


@dataclass(frozen=True, slots=True)
class Bucket:
    """One downsampled interval: its start (ns since 1970) and the values in it."""

    time_ns: int
    low: float
    mean: float
    high: float
    count: int


class History(NamedTuple):
    """Buckets that hold values, in order of time, and how long each of them is (ns)."""

    buckets: list[Bucket]
    interval_ns: int


class SeriesName(NamedTuple):
    """A field of a device: ``type`` is float, integer, unsigned, boolean or string."""

    measurement: str
    field: str
    type: str


class Cancellation:
    """Ends a call that blocks in another thread, when nobody waits for its answer any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = threading.Event()
        self._end: Callable[[], None] | None = None

    def cancel(self) -> None:
        """End the call, or the next one that begins; from any thread, and more than once."""
        with self._lock:
            self._cancelled.set()
            if self._end is not None:
                self._end()

    @property
    def cancelled(self) -> bool:
        """Whether it was."""
        return self._cancelled.is_set()

    @contextlib.contextmanager
    def ends_by(self, end: Callable[[], None]) -> Iterator[None]:
        """Inside, `cancel` calls ``end``, which must be quick.

        Raises:
            QueryError: it was cancelled before.
        """
        with self._lock:
            if self.cancelled:
                raise QueryError("nobody waits for this any more")
            self._end = end
        try:
            yield
        finally:
            with self._lock:
                self._end = None


class Sink(Protocol):
    """A database. Methods block and are called from worker threads, several at once."""

    name: str

    def write(self, lines: bytes) -> WriteResult:
        """Write line-protocol points (nanoseconds, each line ended by a newline); never raises for an answer."""
        ...

    def query(self, query: SeriesQuery, cancellation: Cancellation | None = None) -> History:
        """One series downsampled by the database; numbers and booleans (as 0 and 1) only.

        Raises:
            QueryError: the database did not answer, or the query was cancelled.
        """
        ...

    def series(self, device: str, cancellation: Cancellation | None = None) -> list[SeriesName]:
        """The fields that a device has or had, in order.

        Raises:
            QueryError: as `query`.
        """
        ...

    def close(self) -> None:
        """Let go of connections and files."""
        ...


class ActiveSink:
    """The database that the configuration in force names. A reload puts another one in its place."""

    def __init__(self, sink: Sink) -> None:
        self.current = sink
