"""What becomes of a session's messages once they were taken: on disk, in the database, or lost; and who is told.

Rules that hold here:

* An acknowledgement follows a commit (`durable`) or a delivery (`stored`) that the shell reports, and says what the
  ledger says by then. Receiving a message never causes one.
* An acknowledgement may wait for more that it can cover, but not longer than told in the welcome, nor beyond a close
  that the session decides on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.ledger import NO_SEQ
from gateway.protocol.endings import Endings, State, Terms
from gateway.protocol.messages import Ack, AckLater, CloseCode, Code, all_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.ledger import Entry
    from gateway.protocol.flow import Flow
    from gateway.protocol.messages import Effects, Outcome
    from gateway.protocol.subprotocols import Subprotocol

LATER: Effects = (AckLater(),)
_READY = State.READY  # a member is slow to look up in its class before Python 3.12
_DURABLE = Ack.DURABLE


class Confirming(Endings):
    """What a session owes its device; a base of `gateway.protocol.session.Session`."""

    __slots__ = ("_flow", "ack", "boot")

    _flow: Flow

    def __init__(self, boot: str, terms: Terms, subprotocol: Subprotocol) -> None:
        super().__init__(terms, subprotocol)
        self.boot = boot
        self.ack = Ack.DURABLE

    def durable(self, numbered: int) -> Outcome:
        """A commit with the next ``numbered`` numbered messages of this session is on disk, and in the ledger."""
        if self._state is not _READY:
            return ()
        sole = self._flow.committed_sole(numbered)
        if sole != NO_SEQ:
            return self._answers.ack(sole)
        own = self._flow.committed(numbered)
        return self._owe(numbered) if own and self.ack is _DURABLE else ()

    def stored(self, numbered: int) -> Outcome:
        """The database has ``numbered`` more numbered messages of this device and boot, and so says the ledger."""
        if self._state is not State.READY:
            return ()
        self._flow.stored(numbered)
        return self._owe(numbered) if numbered and self.ack is Ack.STORED else ()

    def dropped(self, numbered: int) -> Effects:
        """A full spool discarded ``numbered`` messages of this device and boot: the database will never have them."""
        if self._state is not State.READY or self.ack is not Ack.STORED or not numbered:
            return ()
        self._flow.stored(numbered)
        problem = (
            f"{numbered} messages that waited for the database were discarded: the gateway's disk share is used up"
        )
        return (self._answers.error(NO_SEQ, Code.SPOOL_FULL, problem),)

    def refused(self, readings: int) -> Effects:
        """The database refused so many readings of this device for good; `stored` follows for their messages."""
        if self._state is not State.READY or self.ack is not Ack.STORED:
            return ()
        problem = (
            f"the database refused {readings} readings that had been taken; the gateway keeps them for its operator"
        )
        return (self._answers.error(NO_SEQ, Code.WRONG_TYPE, problem),)

    def _owe(self, numbered: int) -> Outcome:
        urgent = self._flow.owe(numbered)
        return self.acknowledge() if urgent or not self._terms.ack_delay_ms else LATER

    def acknowledge(self) -> Outcome:
        """The delay of an `AckLater` is over."""
        if self._state is not _READY or not self._flow.pay():
            return ()
        seq = self._flow.safe_seq
        return () if seq == NO_SEQ else self._answers.ack(seq)

    def _close(self, code: CloseCode, reason: str) -> Effects:
        return all_of(self.acknowledge()) + super()._close(code, reason)

    def kept_waiting(self) -> Effects:
        """The shell has not read this device for a second. What it has sent is still going to be taken."""
        tells = self._state is State.READY and self.ack is not Ack.NONE
        return self._flow.slow_down() if tells else ()

    def append_failed(self, entries: Sequence[Entry], retry_after_ms: int) -> Effects:
        """These entries of the session did not reach the disk; the ledger has been rolled back."""
        if self._state is not State.READY:
            return ()
        own = [entry for entry in entries if entry.seq != NO_SEQ and entry.boot == self.boot]
        self._flow.failed(len(own), sum(entry.seq != NO_SEQ for entry in entries) - len(own))
        awaited = own if self.ack is not Ack.NONE else []
        gone = sum(entry.lines for entry in entries) - sum(entry.lines for entry in awaited)
        effects: Effects = ()
        if gone:
            text = f"the gateway's disk failed: {gone} readings that will not be sent again are lost"
            effects = (self._answers.error(NO_SEQ, Code.SPOOL_FULL, text),)
        missing = [entry for entry in awaited if entry.seq > self._flow.sequence.durable]
        if missing:
            missing.sort(key=lambda entry: entry.seq)
            return effects + self._flow.fall_back(missing[0], missing[-1], retry_after_ms)
        if awaited and self.ack is Ack.DURABLE:
            self._flow.owe(len(awaited))
            return effects + all_of(self.acknowledge())
        return effects
