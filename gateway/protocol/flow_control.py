"""Numbered messages: which are taken, which must wait, and which number is acknowledged.

Rules that hold here:

* ``sequence`` belongs to the ledger and is shared by the device's sessions. Only ``accepted`` is written here.
* Messages are counted until a commit (at level ``stored`` a delivery) is reported for them, in the order in which they
  were taken. Those of an earlier boot come first and are nobody's business any more.
* While ``from_seq`` is set nothing above it is taken. What comes above it, or comes again before its time, counts as
  ignoring the throttle; so does whatever comes above it `MAX_FLIGHT_NS` after its time.
* What has to come again because of the gateway's own disk is remembered by its highest number: it is no new message.
* At level ``none`` nothing is ever held back.
* What is safe is owed an ack until one is sent. It waits only for a device that streams, so that there is something to
  wait for, and only while more than half of its window is left. A device streams when more than one message was safe or
  under way at an ack; so one that waits for each ack before it goes on is never kept waiting for longer than once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.ledger import NO_SEQ, Sequence
from gateway.protocol.messages import Ack
from gateway.time_units import NS_PER_MS

if TYPE_CHECKING:
    from gateway.ledger import Entry
    from gateway.protocol.messages import Answers, Effects
    from gateway.protocol.rates import Excess

_STORED = Ack.STORED  # a member is slow to look up in its class before Python 3.12
_DURABLE = Ack.DURABLE

RETRY_SPOOL_FULL_MS = 1000
RETRY_UNACKED_MS = 100
RETRY_SLOW_DISK_MS = 2000
MAX_RETRY_NS = 60_000 * NS_PER_MS
MAX_FLIGHT_NS = 60_000 * NS_PER_MS
"""What was sent before a throttle arrived comes no later, however slow the line."""
MIN_IGNORED = 32
"""Messages that may come too early, however few may be under way: a device's clock and the line are no exact matter."""
_OF_THE_DISK = frozenset({"spool_bytes", "spool_write"})


class FlowControl:
    """The numbered messages of one session that are under way."""

    __slots__ = (
        "_answers",
        "_earlier",
        "_from_seq",
        "_ignored",
        "_limit",
        "_of_the_disk",
        "_owed",
        "_resent_to",
        "_retry_at_ns",
        "_streams",
        "_uncommitted",
        "_unstored",
        "ack",
        "sequence",
    )

    def __init__(self, limit: int, answers: Answers) -> None:
        self.ack = Ack.DURABLE
        self.sequence = Sequence()
        self._limit = limit
        self._answers = answers
        self._uncommitted = 0
        self._unstored = 0
        self._earlier = 0
        self._owed = 0
        self._streams = False
        self._from_seq = NO_SEQ
        self._resent_to = NO_SEQ
        self._of_the_disk = False
        self._retry_at_ns = 0
        self._ignored = 0

    def restart(self, sequence: Sequence, ack: Ack) -> None:
        """A hello: whatever was held back is forgotten, and what was owed is in the answer."""
        if sequence is not self.sequence:
            self._earlier += self._uncommitted
            self._uncommitted = self._unstored = 0
            self._resent_to = NO_SEQ
        self.sequence = sequence
        self.ack = ack
        self._owed = 0
        self._from_seq = NO_SEQ
        self._ignored = 0

    def allow(self, limit: int) -> None:
        """Let ``limit`` messages be unacknowledged from now on."""
        self._limit = limit

    def ready(self, seq: int) -> bool:
        """Whether ``seq`` is new, not the boot's first, and nothing is held back or has to come again."""
        return (
            NO_SEQ < self.sequence.accepted < seq > self._resent_to
            and self._from_seq == NO_SEQ
            and (self._unstored if self.ack is _STORED else self._uncommitted) < self._limit
        )

    @property
    def holding(self) -> bool:
        """Whether nothing is taken before a certain message comes again."""
        return self._from_seq != NO_SEQ

    @property
    def ignoring(self) -> bool:
        """Whether the device sent more against a throttle than can have been in flight."""
        return self._ignored > max(self._limit, MIN_IGNORED)

    @property
    def safe_seq(self) -> int:
        """The number up to which everything is safe at the session's level; `NO_SEQ` if nothing is."""
        return self.sequence.stored if self.ack is _STORED else self.sequence.durable

    def hold(self, seq: int, now_ns: int, *, room: bool) -> Effects | None:
        """None if the new message ``seq`` may be taken, else what to answer instead."""
        unacked = self._unsafe
        if room and self._from_seq == NO_SEQ and unacked < self._limit:
            return None
        if self.ack is Ack.NONE:
            return None
        if NO_SEQ < self._from_seq < seq:
            self._pass_over(seq, now_ns)
            return ()
        if not room:
            return self._throttle("spool_bytes", seq, now_ns, RETRY_SPOOL_FULL_MS)
        if unacked >= self._limit:
            counts = {"allowed": self._limit, "observed": unacked + 1}
            return self._throttle("max_unacked", seq, now_ns, RETRY_UNACKED_MS, **counts)
        if seq == self._from_seq:
            self._from_seq = NO_SEQ
        return None

    def _pass_over(self, seq: int, now_ns: int) -> None:
        self._retry_at_ns = self._retry_at_ns or now_ns
        late = now_ns - self._retry_at_ns > MAX_FLIGHT_NS
        self._ignored = max(self._limit, MIN_IGNORED, self._ignored) + 1 if late else self._ignored + 1
        if self._of_the_disk:
            self._resent_to = max(self._resent_to, seq)

    def resent(self, seq: int) -> bool:
        """Whether the gateway has had ``seq`` before, and did not keep it for a reason of its own."""
        return seq <= self._resent_to

    def exceeds(self, excess: Excess, seq: int, now_ns: int) -> Effects:
        """The new message ``seq``, which `hold` has let pass, is too much for a rate."""
        early = 0 < self._retry_at_ns - now_ns <= MAX_RETRY_NS
        counts = {"allowed": excess.allowed, "observed": excess.observed}
        return self._tell(excess.limit, seq, now_ns, excess.wait_ms, early=early, **counts)

    @property
    def _unsafe(self) -> int:
        """Messages that are taken and not yet safe at the session's level."""
        return self._unstored if self.ack is _STORED else self._uncommitted

    def owe(self, messages: int) -> bool:
        """``messages`` more are safe; whether the device should hear of it at once."""
        self._owed += messages
        covered_or_coming = self._owed + (self._unstored if self.ack is _STORED else self._uncommitted)
        if covered_or_coming > 1:
            self._streams = True
        return not self._streams or 2 * covered_or_coming >= self._limit

    def pay(self) -> bool:
        """Whether an ack is owed; from now on none is."""
        owed, self._owed = self._owed, 0
        self._streams = owed + (self._unstored if self.ack is _STORED else self._uncommitted) > 1
        return owed > 0

    def _throttle(self, limit: str, seq: int, now_ns: int, retry_after_ms: int, **counts: int) -> Effects:
        # A clock that was set back must not make a device early for hours.
        early = self._from_seq != NO_SEQ and 0 < self._retry_at_ns - now_ns <= MAX_RETRY_NS
        return self._tell(limit, seq, now_ns, retry_after_ms, early=early, **counts)

    def _tell(self, limit: str, seq: int, now_ns: int, retry_after_ms: int, *, early: bool, **counts: int) -> Effects:
        self._ignored = self._ignored + 1 if early else 0
        self._from_seq = seq
        self._retry_at_ns = now_ns + retry_after_ms * NS_PER_MS
        self._of_the_disk = limit in _OF_THE_DISK
        if self._of_the_disk:
            self._resent_to = max(self._resent_to, seq)
        return (self._answers.throttle(limit, retry_after_ms, seq, **counts),)

    def slow_down(self) -> Effects:
        """Ask a device that sends numbers for patience. Nothing is held back for it, so nothing is ignored either."""
        if self._from_seq != NO_SEQ or self.sequence.accepted == NO_SEQ:
            return ()
        return (self._answers.throttle("commit_queue", RETRY_SLOW_DISK_MS, self.sequence.accepted + 1),)

    def take(self, seq: int) -> int:
        """Count a new message; how many numbers it skipped."""
        sequence = self.sequence
        last = sequence.accepted
        sequence.accepted = seq
        self._uncommitted += 1
        if self.ack is _STORED:
            self._unstored += 1
        return 0 if last == NO_SEQ else seq - last - 1

    def count(self) -> None:
        """Count a message, new or repeated, that waits for its commit."""
        self._uncommitted += 1
        if self.ack is _STORED:
            self._unstored += 1

    def committed_sole(self, numbered: int) -> int:
        """The number to acknowledge where the commit has the only message under way of a device that does not stream.

        `NO_SEQ` for any other commit: `committed`, `owe` and `pay` come to the same end for all, by a longer way.
        """
        if not numbered == self._uncommitted == 1 or self._earlier or self._streams or self.ack is not _DURABLE:
            return NO_SEQ  # an ack that is owed needs no look: only who streams is ever owed one
        self._uncommitted = 0
        return self.sequence.durable

    def committed(self, numbered: int) -> bool:
        """``numbered`` messages are on disk; whether one of them is of this boot."""
        earlier = 0
        if self._earlier:
            earlier = min(numbered, self._earlier)
            self._earlier -= earlier
        self._uncommitted = max(0, self._uncommitted - (numbered - earlier))
        return numbered > earlier

    def stored(self, numbered: int) -> None:
        """``numbered`` messages are in the database."""
        self._unstored = max(0, self._unstored - numbered)

    def failed(self, own: int, earlier: int) -> None:
        """So many messages of this and of earlier boots will never be reported."""
        self._uncommitted = max(0, self._uncommitted - own)
        self._unstored = max(0, self._unstored - own)
        self._earlier = max(0, self._earlier - earlier)

    def fall_back(self, first: Entry, last: Entry, retry_after_ms: int) -> Effects:
        """The messages from ``first`` to ``last`` did not reach the disk: they have to come again."""
        self._resent_to = max(self._resent_to, last.seq)
        self._of_the_disk = True
        self._retry_at_ns = 0
        self.sequence.accepted = min(self.sequence.accepted, first.seq - first.gaps - 1)
        self._from_seq = first.seq if self._from_seq == NO_SEQ else min(first.seq, self._from_seq)
        self._ignored = 0
        return (self._answers.throttle("spool_write", retry_after_ms, self._from_seq),)
