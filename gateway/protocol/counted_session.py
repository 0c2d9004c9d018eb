"""The session of a subprotocol whose messages have no room for a number (SenML): both sides count them.

Rules that hold here:

* Both sides count alike. Every message that does not begin with ``{`` is counted, refused ones too; objects (a hello)
  are not. The first message after the welcome to a boot has the number after its ``last_seq``, or 1.
* Such a device cannot send one message again and then those that were in flight after it. So it gets no throttle: where
  a session with numbers sends one, this session closes with 1013, and the next connection counts anew. A rate that is
  too high closes nothing: the runner does not read the device for a while.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.protocol.session import Session, SessionState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.errors import MessageError
    from gateway.ledger import Entry
    from gateway.protocol.messages import Effects, OneOrMoreEffects, Readings
    from gateway.protocol.session import Terms
    from gateway.protocol.subprotocols import Subprotocol

_LATER = "the gateway cannot take more now: connect again and send what has no ack"


class CountedSession(Session):
    """A `Session` that gives each message its number."""

    __slots__ = ("_boot", "_count", "_counts")

    resends = False

    def __init__(self, device_id: str, session_id: str, terms: Terms, subprotocol: Subprotocol) -> None:
        super().__init__(device_id, session_id, terms, subprotocol)
        self._boot: str | None = None
        """The boot whose messages are counted; None before the welcome."""
        self._count = 0
        """The number of the last message of that boot."""
        self._counts = True
        """Whether the message that is being received is counted."""

    def _greet(self, now_ns: int) -> Effects:
        effects = super()._greet(now_ns)
        if self.boot != self._boot:
            self._boot, self._count = self.boot, max(self._flow.safe_seq, 0)
        return effects

    def receive(self, data: bytes, now_ns: int, *, room: bool = True) -> OneOrMoreEffects:
        """One message, nothing of it checked yet. ``room``: the spool accepts readings."""
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
            error.seq = None  # an object may name a number, and is still not counted
        elif error.seq is None:
            error.seq = self._next()
        return super()._error(error, now_ns)

    def _unless_ignored(self, _held: Effects) -> Effects:
        return self.busy(_LATER)

    def kept_waiting(self) -> Effects:
        """The runner has not read this device for a second. SenML has no message that could say so."""
        return ()

    def append_failed(self, entries: Sequence[Entry], retry_after_ms: int) -> Effects:
        """These entries of the session did not reach the disk; the ledger has been rolled back."""
        effects = super().append_failed(entries, retry_after_ms)
        return self.busy(_LATER) if self._state is SessionState.READY and self._flow.holding else effects
