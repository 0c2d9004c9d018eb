"""The interface of a database: delivery writes to it, the API queries it.

A database is a module or package of `gateway.sinks` whose ``make_sink(config)`` returns a `Sink`.
"""

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

    If ``coarse``, the answer comes fast rather than exact: fewer buckets, from a sample of the values.
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
    """Ends a query that blocks in another thread, when its answer is no longer needed."""

    def __init__(self) -> None:
        # Guards _end, so that it is never called after its query has returned.
        self._lock = threading.Lock()
        self._cancelled = threading.Event()
        # Ends the query that is running; None while no query runs inside `ends_by`.
        self._end: Callable[[], None] | None = None

    def cancel(self) -> None:
        """End the query that runs, or else the next one to begin. May be called from any thread, and more than once."""
        with self._lock:
            self._cancelled.set()
            if self._end is not None:
                self._end()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled.is_set()

    @contextlib.contextmanager
    def ends_by(self, end: Callable[[], None]) -> Iterator[None]:
        """Inside this context, `cancel` calls ``end``, which must be quick.

        Raises:
            QueryError: `cancel` was called before.
        """
        with self._lock:
            if self.cancelled:
                raise QueryError("the query was cancelled")
            self._end = end
        try:
            yield
        finally:
            with self._lock:
                self._end = None


class Sink(Protocol):
    """A database. Methods block and are called from worker threads, several at once."""

    name: str
    """Shown to people: in the log, on the page, in error texts."""

    def write(self, lines: bytes) -> WriteResult:
        """Write points in line protocol: times in nanoseconds, each line ended by a newline.

        Makes one attempt; delivery decides when the next one is due. Never raises because of the database's answer or
        its absence: both are a `WriteResult`. A point that is written twice must overwrite itself, field by field.
        """
        ...

    def query(self, query: SeriesQuery, cancellation: Cancellation | None = None) -> History:
        """One series, downsampled by the database. Numbers and booleans (as 0 and 1) only; a string has no buckets.

        Raises:
            QueryError: the database did not answer, or the query was cancelled.
        """
        ...

    def series(self, device: str, cancellation: Cancellation | None = None) -> list[SeriesName]:
        """The fields that a device has or had, sorted.

        Raises:
            QueryError: as `query`.
        """
        ...

    def close(self) -> None:
        """Close connections and files, and end threads."""
        ...


class ActiveSink:
    """The database of the configuration that is in force."""

    def __init__(self, sink: Sink) -> None:
        # A reload replaces it.
        self.current = sink
