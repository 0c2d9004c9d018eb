"""The numbered messages of one device and boot, from their making to the gateway's verdict.

Rules that hold here:

* Pure, as `devices_sim.protocol` is.
* A message stays in ``pending`` until the gateway has acknowledged or refused it. What is pending survives every
  connection, and is sent again in order of seq after a reconnect (from ``welcome.last_seq`` on) or a throttle (from
  ``from_seq`` on).
* A verdict that the protocol does not allow (an ack for what was never sent, a boot of which the gateway knows less
  than it acknowledged before) is a violation, which is counted and said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from devices_sim.effects import Effect, Send

if TYPE_CHECKING:
    from devices_sim.tally import Tally


@dataclass(slots=True)
class Message:
    """One numbered message of ``readings`` readings; ``refused`` are the indexes that a reject named."""

    seq: int
    data: bytes
    readings: int
    sent_at: float | None = None
    refused: frozenset[int] = frozenset()


class Outbox:
    """What ``device`` has to say. ``kept``: until an ack, or else until it is sent.

    ``refused`` is for the report: seq to indexes of readings, or None.
    """

    __slots__ = (
        "_device", "_sent_to", "_tally", "acked_to", "highest_sent", "kept", "next_seq", "pending", "refused",
    )  # fmt: skip

    def __init__(self, device: str, tally: Tally, *, kept: bool = True) -> None:
        self._device = device
        self._tally = tally
        self.kept = kept
        self.pending: dict[int, Message] = {}
        self.refused: dict[int, list[int]] | None = None
        self.next_seq = 0
        self.acked_to = -1
        self.highest_sent = -1
        self._sent_to = -1

    @property
    def outstanding(self) -> int:
        """Readings that were sent and neither acknowledged nor refused."""
        return sum(m.readings - len(m.refused) for m in self.pending.values() if m.sent_at is not None)

    @property
    def unsent(self) -> int:
        """Readings that still wait for their first send."""
        return sum(m.readings for m in self.pending.values() if m.sent_at is None)

    @property
    def behind(self) -> bool:
        """Whether there is anything to send, or to send again."""
        return self._sent_to + 1 < self.next_seq

    def data(self, seq: int) -> bytes | None:
        """Message ``seq``, while it waits for its verdict."""
        message = self.pending.get(seq)
        return None if message is None else message.data

    def add(self, data: bytes, readings: int) -> None:
        """Take over message number ``next_seq``, already encoded with it."""
        seq = self.next_seq
        self.next_seq = seq + 1
        self.pending[seq] = Message(seq, data, readings)

    def send(self, now: float, largest: int, window: int | None) -> list[Effect]:
        """What is to be sent, in order: none of more than ``largest`` bytes, ``window`` at a time unacknowledged."""
        last = self.next_seq - 1
        if self.kept and window is not None:
            last = min(last, self.acked_to + window)
        effects: list[Effect] = []
        for seq in range(self._sent_to + 1, last + 1):
            message = self.pending.get(seq)
            if message is not None:
                self._transmit(message, now, largest, effects)
        self._sent_to = max(self._sent_to, last)
        return effects

    def _transmit(self, message: Message, now: float, largest: int, effects: list[Effect]) -> None:
        tally = self._tally
        if message.sent_at is not None:
            tally.resent += message.readings
        elif len(message.data) > largest:
            tally.oversized += message.readings
            self._forget(self.pending.pop(message.seq))
            return
        else:
            message.sent_at = now
            tally.sent += message.readings
            tally.messages += 1
        self.highest_sent = max(self.highest_sent, message.seq)
        if not self.kept:
            del self.pending[message.seq]
        effects.append(Send(message.data))

    def welcomed(self, last: int, now: float) -> None:
        """A connection begins, to a gateway that has everything up to ``last``, -1 for nothing."""
        if last < self.acked_to and self.kept:
            known = None if last < 0 else last
            self._violation(f"acknowledged {self.acked_to}, after a reconnect knows {known}")
        self.acknowledged(last, now)
        self._sent_to = self.acked_to

    def acknowledged(self, seq: int, now: float) -> None:
        """Everything up to ``seq`` is safe or refused."""
        if seq > self.highest_sent:
            self._violation(f"acknowledges {seq}, but {self.highest_sent} is the last that was sent")
            seq = self.highest_sent
        tally, pending = self._tally, self.pending
        for number in range(self.acked_to + 1, seq + 1):
            message = pending.pop(number, None)
            if message is not None and message.sent_at is not None:
                tally.acked += message.readings - len(message.refused)
                tally.latency.add(now - message.sent_at)
        self.acked_to = max(self.acked_to, seq)
        self._sent_to = max(self._sent_to, self.acked_to)

    def go_back(self, seq: int) -> None:
        """The gateway takes nothing above ``seq`` until that has come again."""
        self._sent_to = max(self.acked_to, min(self._sent_to, seq - 1))

    def refuse(self, seq: int, indexes: set[int]) -> None:
        """These readings of message ``seq`` will not be stored."""
        message = self.pending.get(seq)
        if message is None:
            if self.kept:
                self._violation(f"refuses {seq}, which is not waiting for an answer")
                return
            self._tally.refused += len(indexes)
            return
        fresh = indexes - message.refused
        message.refused |= fresh
        self._tally.refused += len(fresh)
        self._forget(message)

    def refuse_whole(self, seq: int) -> None:
        """Nothing of message ``seq`` will be stored, if it is one that waits."""
        message = self.pending.get(seq)
        if message is not None:
            self.refuse(seq, set(range(message.readings)))

    def _forget(self, message: Message) -> None:
        """Note for the report what of ``message`` will not be stored: the refused, or all when it was never sent."""
        if self.refused is not None:
            gone = message.refused if message.sent_at is not None else range(message.readings)
            self.refused[message.seq] = sorted(gone)

    def _violation(self, text: str) -> None:
        self._tally.violation(f"{self._device}: the gateway {text}")
