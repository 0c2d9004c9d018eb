"""The session of a subprotocol whose messages have no room for a number: they are counted.

Rules that hold here:

* Both sides count alike. Every message is counted that does not begin with ``{``, refused ones too; objects (a hello)
  are not. The first one after the welcome to a boot is the one after its ``last_seq``, or 1.
* What has to come again cannot be told from what was in flight behind it, so nothing is ever throttled: where a session
  with numbers says so, this one closes with 1013, and the next connection counts anew. Too high a rate closes nothing:
  the device is not read for a while.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.protocol.session import Session, State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.errors import MessageError
    from gateway.ledger import Entry
    from gateway.protocol.endings import Terms
    from gateway.protocol.messages import Effects, Outcome, Readings
    from gateway.protocol.subprotocols import Subprotocol

_LATER = "the gateway cannot take more now: connect again and send what has no ack"


class CountingSession(Session):
    """A `Session` that gives each message its number."""

    __slots__ = ("_boot", "_count", "_counts")

    resends = False

    def __init__(self, device_id: str, session_id: str, terms: Terms, subprotocol: Subprotocol) -> None:
        super().__init__(device_id, session_id, terms, subprotocol)
        self._boot: str | None = None
        self._count = 0
        self._counts = True

    def _greet(self, now_ns: int) -> Effects:
        effects = super()._greet(now_ns)
        if self.boot != self._boot:
            self._boot, self._count = self.boot, max(self._flow.safe_seq, 0)
        return effects

    def receive(self, data: bytes, now_ns: int, *, room: bool = True) -> Outcome:
        """One message, nothing of it checked yet; ``room``: the spool takes readings."""
        self._counts = not data.lstrip(b" \t\r\n").startswith(b"{")
        return super().receive(data, now_ns, room=room)

    def _ordinary(self, _value: dict[str, Any], _size: int, _now_ns: int) -> None:
        return None

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _readings(self, message: Readings, size: int, now_ns: int, *, room: bool) -> Effects:
        message.seq = self._next()
        return super()._readings(message, size, now_ns, room=room)

    def _error(self, error: MessageError, now_ns: int) -> Effects:
        if not self._counts:
            error.seq = None  # an object may name one, and is not counted all the same
        elif error.seq is None:
            error.seq = self._next()
        return super()._error(error, now_ns)

    def _unless_ignored(self, _held: Effects) -> Effects:
        return self.busy(_LATER)

    def kept_waiting(self) -> Effects:
        """The shell has not read this device for a second: nothing that could be told."""
        return ()

    def append_failed(self, entries: Sequence[Entry], retry_after_ms: int) -> Effects:
        """These entries of the session did not reach the disk; the ledger has been rolled back."""
        effects = super().append_failed(entries, retry_after_ms)
        return self.busy(_LATER) if self._state is State.READY and self._flow.holding else effects
