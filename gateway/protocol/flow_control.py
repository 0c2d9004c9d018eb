"""The numbered messages of one session: which are accepted, which have to wait, and which number is acknowledged.

Rules that hold here:

* ``sequence`` belongs to the ledger, and the device's sessions share it. Only ``accepted`` is written here.
* Messages are counted until a commit (at level ``stored`` a delivery) is reported for them, in the order in which they
  were accepted. Those of an earlier boot come first, and concern no device any more.
* While ``from_seq`` is set nothing above it is accepted. A message above it, or one that comes again before its time,
  counts as ignoring the throttle; so does every message above it that comes `MAX_FLIGHT_NS` after its time.
* A message that has to come again because of the gateway's own disk is not new: the highest such number is kept.
* At level ``none`` nothing is ever refused for flow control.
* What is safe is owed an ack until one is sent. The ack waits only if the device streams, so that there is something to
  wait for, and only while more than half of its window is left. A device streams when more than one message was safe or
  under way at an ack. So a device that waits for each ack before it goes on is delayed once at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.ledger import NO_SEQ, Sequence
from gateway.protocol.messages import Ack
from gateway.time_units import NS_PER_MS

if TYPE_CHECKING:
    from gateway.ledger import Entry
    from gateway.protocol.messages import Answers, Effects
    from gateway.protocol.rate_limits import Excess

_STORED = Ack.STORED  # a member is slow to look up in its class before Python 3.12
_DURABLE = Ack.DURABLE

RETRY_SPOOL_FULL_MS = 1000
RETRY_UNACKED_MS = 100
RETRY_SLOW_DISK_MS = 2000
MAX_RETRY_NS = 60_000 * NS_PER_MS
MAX_FLIGHT_NS = 60_000 * NS_PER_MS
"""A message that was sent before a throttle arrived comes within this time, however slow the line."""
MIN_IGNORED = 32
"""Messages that may come too early, however small the window is: clocks and lines are not exact."""
_DISK_LIMITS = frozenset({"spool_bytes", "spool_write"})


class FlowControl:
    """The numbered messages of one session that are under way, at most ``limit`` of them."""

    __slots__ = (
        "_answers",
        "_disk",
        "_earlier",
        "_from_seq",
        "_ignored",
        "_limit",
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
        """The session's level of acks."""
        self.sequence = Sequence()
        """The numbers of the present boot: accepted, durable, stored."""
        self._limit = limit
        self._answers = answers
        self._uncommitted = 0
        """Messages of the present boot that are accepted and not reported as durable."""
        self._unstored = 0
        """The same of not reported as delivered; counted at level ``stored`` only."""
        self._earlier = 0
        """Messages of earlier boots that are accepted and not reported as durable."""
        self._owed = 0
        """Safe messages that no ack has covered yet."""
        self._streams = False
        """Whether the device sends on without waiting for each ack."""
        self._from_seq = NO_SEQ
        """The number that the last throttle asked for; `NO_SEQ` when it has come."""
        self._resent_to = NO_SEQ
        """The highest number that has to come again for a reason of the gateway's own."""
        self._disk = False
        """Whether the last throttle was for such a reason: the disk."""
        self._retry_at_ns = 0
        """When the device may send again, in ns since 1970."""
        self._ignored = 0
        """Messages that came against the last throttle."""

    def restart(self, sequence: Sequence, ack: Ack) -> None:
        """A hello: throttles are forgotten, and the welcome that answers it covers the owed ack."""
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
        """Allow ``limit`` unacknowledged messages from now on."""
        self._limit = limit

    def ready(self, seq: int) -> bool:
        """Whether ``seq`` is new, not the boot's first, and no throttle is in force or has to come again."""
        return (
            NO_SEQ < self.sequence.accepted < seq > self._resent_to
            and self._from_seq == NO_SEQ
            and (self._unstored if self.ack is _STORED else self._uncommitted) < self._limit
        )

    @property
    def holding(self) -> bool:
        """Whether nothing is accepted before a certain message comes again."""
        return self._from_seq != NO_SEQ

    @property
    def ignoring(self) -> bool:
        """Whether more messages came against a throttle than can have been in flight."""
        return self._ignored > max(self._limit, MIN_IGNORED)

    @property
    def safe_seq(self) -> int:
        """The number up to which everything is safe at the session's level; `NO_SEQ` if nothing is."""
        return self.sequence.stored if self.ack is _STORED else self.sequence.durable

    def hold(self, seq: int, now_ns: int, *, room: bool) -> Effects | None:
        """None if the new message ``seq`` may be accepted, else the answer to it."""
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
        if self._disk:
            self._resent_to = max(self._resent_to, seq)

    def resent(self, seq: int) -> bool:
        """Whether ``seq`` came before, and the gateway did not keep it for a reason of its own."""
        return seq <= self._resent_to

    def exceeds(self, excess: Excess, seq: int, now_ns: int) -> Effects:
        """The new message ``seq``, which `hold` has allowed, exceeds a rate: the throttle."""
        early = 0 < self._retry_at_ns - now_ns <= MAX_RETRY_NS
        counts = {"allowed": excess.allowed, "observed": excess.observed}
        return self._tell(excess.limit, seq, now_ns, excess.wait_ms, early=early, **counts)

    @property
    def _unsafe(self) -> int:
        """Messages that are accepted and not yet safe at the session's level."""
        return self._unstored if self.ack is _STORED else self._uncommitted

    def owe(self, messages: int) -> bool:
        """``messages`` more are safe; whether the ack should be sent at once."""
        self._owed += messages
        covered_or_coming = self._owed + (self._unstored if self.ack is _STORED else self._uncommitted)
        if covered_or_coming > 1:
            self._streams = True
        return not self._streams or 2 * covered_or_coming >= self._limit

    def pay(self) -> bool:
        """Whether an ack is owed. From now on none is."""
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
        self._disk = limit in _DISK_LIMITS
        if self._disk:
            self._resent_to = max(self._resent_to, seq)
        return (self._answers.throttle(limit, retry_after_ms, seq, **counts),)

    def slow_down(self) -> Effects:
        """Ask a device that sends numbers to wait. Nothing is refused, so no message counts as ignoring it."""
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

        `NO_SEQ` for any other commit: `committed`, `owe` and `pay` give the same result for all, by a longer way.
        """
        if not numbered == self._uncommitted == 1 or self._earlier or self._streams or self.ack is not _DURABLE:
            return NO_SEQ  # an ack that is owed needs no look: only devices that stream are owed one
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
        """``own`` messages of this boot and ``earlier`` ones of earlier boots will never be reported."""
        self._uncommitted = max(0, self._uncommitted - own)
        self._unstored = max(0, self._unstored - own)
        self._earlier = max(0, self._earlier - earlier)

    def fall_back(self, first: Entry, last: Entry, retry_after_ms: int) -> Effects:
        """The messages from ``first`` to ``last`` did not reach the disk: they have to come again."""
        self._resent_to = max(self._resent_to, last.seq)
        self._disk = True
        self._retry_at_ns = 0
        self.sequence.accepted = min(self.sequence.accepted, first.seq - first.gaps - 1)
        self._from_seq = first.seq if self._from_seq == NO_SEQ else min(first.seq, self._from_seq)
        self._ignored = 0
        return (self._answers.throttle("spool_write", retry_after_ms, self._from_seq),)
