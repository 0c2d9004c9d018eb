"""What delivery and the API ask of a database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gateway.delivery.outcome import Outcome


@dataclass(frozen=True, slots=True)
class SeriesQuery:
    """One field of one device between two moments (ns since 1970, end excluded), in at most ``points`` buckets."""

    device: str
    field: str
    start_ns: int
    end_ns: int
    points: int
    measurement: str | None = None


@dataclass(frozen=True, slots=True)
class Bucket:
    """One downsampled interval: its start (ns since 1970) and the values in it."""

    time_ns: int
    low: float
    mean: float
    high: float
    count: int


class Sink(Protocol):
    """A database. Methods block and are called from worker threads, several at once."""

    name: str

    def write(self, lines: bytes) -> Outcome:
        """Write line-protocol points (nanoseconds, each line ended by a newline); never raises for an answer."""
        ...

    def query(self, query: SeriesQuery) -> list[Bucket]:
        """Buckets that hold values, in order of time; numbers and booleans only.

        Raises:
            QueryError: the database did not answer.
        """
        ...

    def close(self) -> None:
        """Let go of connections and files."""
        ...
