"""What the spool reports, and the listener that takes the reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gateway.ledger import Entry
    from gateway.spool.segment import Damage


class SpoolListener(Protocol):
    """Counts readings and answers devices. Called on the loop thread; during `SpoolQueue.open` on its caller's."""

    def recovered(
        self,
        record_id: int,
        committed_ns: int,
        entries: Sequence[Entry],
        delivered: bool,  # noqa: FBT001
    ) -> None:
        """A record that the checkpoint does not count as committed, or not as delivered although it is."""
        ...

    def committed(
        self, record_id: int, committed_ns: int, items: Sequence[tuple[Entry, object]], seconds: float
    ) -> None:
        """A group commit is durable; it took ``seconds``."""
        ...

    def append_failed(self, items: Sequence[tuple[Entry, object]], error: BaseException) -> None:
        """These entries are not durable and never will be."""
        ...

    def dropped(self, record_id: int, entries: Sequence[Entry]) -> None:
        """A record was given up undelivered, to make room."""
        ...

    def left(self, readings: int, by_device: Callable[[], Mapping[str, int]]) -> None:
        """Exactly ``readings`` are undelivered now; ``by_device`` counts them by device. Any others are damaged.

        Called at the end of a recovery, and after a damaged place was passed.
        """
        ...

    def checkpoint(self) -> Callable[[], None]:
        """Copy the ledger as it is now; the function returned writes the copy, durably, in another thread."""
        ...


@dataclass(frozen=True, slots=True)
class Recovery:
    """What `SpoolQueue.open` found.

    ``records`` were read, ``pending`` of them undelivered, with ``pending_readings``. ``torn_bytes`` of an unfinished
    write and the places in ``damage`` were left out. It took ``seconds``.
    """

    records: int
    pending: int
    pending_readings: int
    torn_bytes: int
    damage: tuple[Damage, ...]
    cursor: int
    next_id: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.pending} records with {self.pending_readings} readings wait, the next record is {self.next_id}; "
            f"{self.records} read in {self.seconds:.2f} s, {self.torn_bytes} bytes of an unfinished write left out, "
            f"{len(self.damage)} damaged places"
        )


@dataclass(frozen=True, slots=True)
class SpoolStatus:
    """The state of the spool. ``oldest_ns`` is when the oldest undelivered record became durable; None without one."""

    bytes_pending: int
    readings_pending: int
    bytes_total: int
    oldest_ns: int | None
    oldest_seconds: float
    cursor: int
    next_id: int
    segments: int
    damaged: int
    """Places found damaged since the start."""
