"""The numbered messages of one device and boot, until the gateway acknowledges or refuses them.

Rules that hold here:

* Pure, as `devices_sim.protocol` is.
* A message stays in ``pending`` until the gateway has acknowledged or refused it. Pending messages survive the end of
  a connection. They are sent again in order of seq after a reconnect (from ``welcome.last_seq`` on) or a throttle
  (from ``from_seq`` on).
* A verdict that the protocol does not allow is a violation, which is counted and reported: an ack for a message that
  was never sent, or a ``last_seq`` below an earlier ack.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from devices_sim.effects import Effect, Send

if TYPE_CHECKING:
    from devices_sim.tally import Tally


@dataclass(slots=True)
class Message:
    """One numbered message of ``readings`` readings."""

    seq: int
    data: bytes
    readings: int
    sent_at: float | None = None
    """When it was sent first, in seconds of the steady clock; None if it was not sent."""
    refused: frozenset[int] = frozenset()
    """Indexes of the readings that the gateway refused."""


class Outbox:
    """The messages of ``device``."""

    __slots__ = (
        "_device", "_sent_to", "_tally", "acked_to", "highest_sent", "kept", "next_seq", "pending", "refused",
    )  # fmt: skip

    def __init__(self, device: str, tally: Tally, *, kept: bool = True) -> None:
        self._device = device
        self._tally = tally
        self.kept = kept
        """Whether a message is pending until its ack, or only until it is sent (ack level "none")."""
        self.pending: dict[int, Message] = {}
        """By seq: the messages without a verdict, sent or not."""
        self.refused: dict[int, list[int]] | None = None
        """For the report, by seq: indexes of the readings that will not be stored. None without a report."""
        self.next_seq = 0
        self.acked_to = -1
        """Everything up to this seq is acknowledged or refused; -1 for nothing."""
        self.highest_sent = -1
        """The highest seq that was ever sent; -1 for none."""
        self._sent_to = -1
        """The last seq that was sent and does not have to be sent again; `send` goes on after it."""

    @property
    def outstanding(self) -> int:
        """Readings that were sent and neither acknowledged nor refused."""
        return sum(m.readings - len(m.refused) for m in self.pending.values() if m.sent_at is not None)

    @property
    def unsent(self) -> int:
        """Readings that were not sent yet."""
        return sum(m.readings for m in self.pending.values() if m.sent_at is None)

    @property
    def behind(self) -> bool:
        """Whether there is anything to send, or to send again."""
        return self._sent_to + 1 < self.next_seq

    def data(self, seq: int) -> bytes | None:
        """Message ``seq`` if it has no verdict yet, else None."""
        message = self.pending.get(seq)
        return None if message is None else message.data

    def add(self, data: bytes, readings: int) -> None:
        """Take over message number ``next_seq``, already encoded with it."""
        seq = self.next_seq
        self.next_seq = seq + 1
        self.pending[seq] = Message(seq, data, readings)

    def send(self, now: float, largest: int, window: int | None) -> list[Effect]:
        """Send messages in order: none of more than ``largest`` bytes, and at most ``window`` unacknowledged."""
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
        """A connection begins, and the gateway has everything up to ``last``; -1 for nothing."""
        if last < self.acked_to and self.kept:
            known = None if last < 0 else last
            self._violation(f"acknowledged {self.acked_to}, after a reconnect knows {known}")
        self.acknowledged(last, now)
        self._sent_to = self.acked_to

    def acknowledged(self, seq: int, now: float) -> None:
        """Everything up to ``seq`` is acknowledged or refused."""
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
        """The gateway takes nothing above ``seq`` until ``seq`` comes again."""
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
        """No reading of message ``seq`` will be stored; of no effect if it has a verdict already."""
        message = self.pending.get(seq)
        if message is not None:
            self.refuse(seq, set(range(message.readings)))

    def _forget(self, message: Message) -> None:
        """Note for the report which readings will not be stored: the refused, or all if ``message`` was not sent."""
        if self.refused is not None:
            gone = message.refused if message.sent_at is not None else range(message.readings)
            self.refused[message.seq] = sorted(gone)

    def _violation(self, text: str) -> None:
        self._tally.violation(f"{self._device}: the gateway {text}")
