"""The interfaces of the parts that the forwarder uses: the spool, the database, the dead letters, a listener.

The forwarder knows these parts through the interfaces only, so that each can be replaced in a test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.delivery.batch import Batch
    from gateway.delivery.dead_letters import DeadLetter
    from gateway.delivery.write_result import WriteResult
    from gateway.ledger import Entry


class SpooledRecord(Protocol):
    """A record of the spool: its ``id``, when it became durable, its entries, and their lines in the same order."""

    @property
    def id(self) -> int: ...  # noqa: D102
    @property
    def committed_ns(self) -> int: ...  # noqa: D102
    @property
    def entries(self) -> Sequence[Entry]: ...  # noqa: D102
    @property
    def payload(self) -> bytes: ...  # noqa: D102
    @property
    def payload_bytes(self) -> int: ...  # noqa: D102


class RecordSourceStatus(Protocol):
    """How far the spool is: the last record that was acknowledged or dropped, and the readings after it."""

    @property
    def cursor(self) -> int: ...  # noqa: D102
    @property
    def readings_pending(self) -> int: ...  # noqa: D102


class RecordSource(Protocol):
    """The spool. Called on the loop thread."""

    def status(self) -> RecordSourceStatus:
        """How far the spool is now; cheap."""
        ...

    async def read(self, after_id: int, max_bytes: int) -> Sequence[SpooledRecord]:
        """Durable records after ``after_id`` in order, about ``max_bytes`` in all; empty only when there are none."""
        ...

    async def wait(self, after_id: int) -> None:
        """Return once there is a durable record after ``after_id``."""
        ...

    async def acknowledge(self, record_id: int) -> None:
        """Put the cursor behind ``record_id``, durably. From the call on, that record cannot be dropped any more."""
        ...


class Database(Protocol):
    """The part of `gateway.delivery.sink.Sink` that writes. Called from several threads."""

    def write(self, lines: bytes) -> WriteResult:
        """Write points; see `gateway.delivery.sink.Sink.write`."""
        ...


class DeadLetterStore(Protocol):
    """Where refused points are kept. Called from several threads."""

    def add(self, letter: DeadLetter) -> bool:
        """Keep the dead letter, durably; False if it is there already. Raises if it cannot be kept."""
        ...


class ForwarderListener(Protocol):
    """Learns of every write and of every delivered record. Called on the loop thread."""

    def delivered(self, record_id: int, entries: Sequence[Entry], refused: Mapping[str, int]) -> None:
        """A record is in the database, except ``refused`` readings per device; called in the order of the records."""
        ...

    def wrote(self, batch: Batch, seconds: float, result: WriteResult) -> None:
        """A write of ``batch`` ended after ``seconds``."""
        ...

    def dead_letter(self, kind: str, line: bytes) -> None:
        """A point, ``line``, was refused and is kept as a dead letter."""
        ...
