"""Every way in which a connection ends from the gateway's side: code and a short reason.

Rules that hold here:

* A session ends once; whatever would end it again has no effect.
* Codes are those of docs/reference/protocol.md, "Close codes".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, TypeAlias

from gateway.protocol.messages import Close, CloseCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.protocol.messages import Effects
    from gateway.protocol.subprotocols import Subprotocol

MAX_REASON_BYTES = 123
"""What a close frame has room for (RFC 6455 section 5.5)."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the gateway tells every device in its welcome, and how many strikes it has in a minute."""

    ping_interval_ms: int
    timeout_ms: int
    max_message_bytes: int
    max_unacked: int
    strikes_per_minute: int
    ack_delay_ms: int
    enrol: bool = False
    """Whether a device without a token may ask for one."""


class State(Enum):
    """How far a session is."""

    UNKNOWN = auto()
    HELD = auto()
    READY = auto()
    CLOSED = auto()


class Endings:
    """The state of a session as far as it can end; a base of `gateway.protocol.session.Session`."""

    __slots__ = ("_answers", "_state", "_terms", "subprotocol")

    def __init__(self, terms: Terms, subprotocol: Subprotocol) -> None:
        self._terms = terms
        self.subprotocol = subprotocol
        self._answers = subprotocol.answers
        self._state = State.UNKNOWN

    @property
    def open(self) -> bool:
        """Whether anything can still be sent."""
        return self._state is not State.CLOSED

    def credentials_refused(self, seconds: int = 0) -> Effects:
        """The token is wrong or the device unknown; the answer is the same for both. ``seconds``: until it may try."""
        wait = f", again and again; wait {seconds} s" if seconds else ""
        return self._close(CloseCode.CREDENTIALS, f"unknown device or wrong token{wait}")

    def credentials_late(self) -> Effects:
        """The device has not said who it is in time."""
        return self._close(CloseCode.CREDENTIALS, "no credentials in time")

    def claim_taken(self) -> Effects:
        """Another device has shown the same claim."""
        return self._close(CloseCode.CREDENTIALS, "another device asks with this claim; ask with a new one")

    def not_approved(self) -> Effects:
        """An operator does not know the device."""
        return self._close(CloseCode.CREDENTIALS, "an operator has refused this device")

    def unanswered(self) -> Effects:
        """Nobody has approved of the device in time."""
        return self._close(CloseCode.TRY_AGAIN_LATER, "nobody has approved of this device in time, ask again")

    def receive_other(self) -> Effects:
        """A binary message came where text is spoken, or text where binary is."""
        spoken = "binary" if self.subprotocol.binary else "text"
        return self._close(CloseCode.UNSUPPORTED, f"only {spoken} messages are understood")

    def not_utf8(self, problem: str = "a text message is not UTF-8") -> Effects:
        """Text came that is none."""
        return self._close(CloseCode.NOT_UTF8, problem)

    def too_big(self) -> Effects:
        """A message came that is longer than told in the welcome."""
        return self._close(CloseCode.TOO_BIG, f"a message has at most {self._terms.max_message_bytes} bytes")

    def keepalive_expired(self) -> Effects:
        """No byte came for as long as told in the welcome."""
        return self._close(CloseCode.KEEPALIVE, f"nothing came for {self._terms.timeout_ms} ms")

    def message_late(self) -> Effects:
        """A message was begun, and its end has not come in time."""
        return self._close(CloseCode.KEEPALIVE, "a message was begun and not ended in time")

    def crowded_out(self) -> Effects:
        """Too many others have not said who they are either, and this one has been at it for longest."""
        return self._close(CloseCode.TRY_AGAIN_LATER, "too many connections without credentials, try again later")

    def replaced(self) -> Effects:
        """The same device connected again."""
        return self._close(CloseCode.REPLACED, "a newer connection of this device took over")

    def revoked(self) -> Effects:
        """The credentials no longer count."""
        return self._close(CloseCode.POLICY, "the device's credentials were revoked")

    def draining(self, reconnect_after_ms: int) -> Effects:
        """The gateway is about to stop: `restarting` follows once everything taken so far is on disk."""
        return (self._answers.drain(reconnect_after_ms),) if self._state is State.READY else ()

    def restarting(self) -> Effects:
        """The gateway stops and is expected back."""
        return self._close(CloseCode.RESTART, "the gateway restarts, connect again")

    def busy(self, reason: str) -> Effects:
        """The gateway cannot serve this device now."""
        return self._close(CloseCode.TRY_AGAIN_LATER, reason)

    def failed(self) -> Effects:
        """A bug or a broken machine: the gateway cannot go on with this connection."""
        return self._close(CloseCode.INTERNAL, "internal error")

    def _close(self, code: CloseCode, reason: str) -> Effects:
        if self._state is State.CLOSED:
            return ()
        self._state = State.CLOSED
        return (Close(code, reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")),)


Ending: TypeAlias = "Callable[[Endings], Effects]"
"""One of the ways, as in ``Endings.replaced``."""
