"""Devices that are not read for a moment: because more waits for the disk than should, or because they are too fast.

Rules that hold here:

* Who is not read is held back by TCP, and nothing is lost: what it has sent waits in the kernel, and in at most one
  chunk that was read already.
* While the disk is behind, what each device sends is weighed. What has room until the next commit is divided by deficit
  round robin (Shreedhar and Varghese, 1995): a device is not read on once it has used its part, and what it took too
  much counts against its next ones. So who sends little is not kept waiting for who sends much. What is left over is
  for those who wait, in turns, until it gets tight; those with something left of their part go on even then.
* Live goes first: who catches up is resumed after all others, and has a part of theirs (`LIVE_WEIGHT`).
* Resumed is in slices, and no more of them once the spool is congested again. In each round somebody is.
* While somebody is in the line, the next step is always due: a turn of the event loop, or, where the spool is
  congested, the commit that it waits for. What comes need not have anything written, so no commit need follow.
* Nothing is weighed, and nobody called, while the disk keeps up: after `CALM` rounds in which it did, one in which
  nobody waits, or `TURNS` in which nothing was queued.
* One timer for all who wait for the disk, one for all who were too fast (`resting`); for each its place in the line.
* Who waits for the disk longer than `PATIENCE` is told once, by a throttle that asks for patience and refuses nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Protocol

from gateway.devices.timed_pauses import TimedPauses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gateway.devices.device_connection import DeviceConnection

SLICE = 64
"""Devices resumed before the event loop sees what they send."""
PATIENCE = 1.0
"""Seconds that a device waits unread before it is told."""
LIVE_WEIGHT = 4
"""Parts of a device that sends what is live, for one of a device that catches up."""
FIRST_COMERS = 4
"""What part of the room is for those who did not send in the last round."""
TURNS = 8
"""In so many turns of the event loop who waits gets what others leave."""
CALM = 8
"""Rounds without congestion until nothing is weighed any more."""
MESSAGE_BYTES = 256
"""What a message weighs beside its own bytes: it takes memory, too."""


class Congested(Protocol):
    """The spool, as far as it matters here."""

    congested: bool
    scarce: bool
    headroom: int
    eased: Callable[[], None]

    @property
    def queued_bytes(self) -> int:
        """What waits for the disk; while there is some, ``eased`` is going to be called."""
        ...


class Backpressure:
    """The line of paused devices, and those that rest. ``count`` is called for each that joins the line."""

    def __init__(self, spool: Congested, count: Callable[[], None]) -> None:
        self._spool = spool
        self._count = count
        self._live: dict[DeviceConnection, None] = {}
        self._late: dict[DeviceConnection, None] = {}
        self._credit: dict[DeviceConnection, float] = {}
        self._sent: set[DeviceConnection] = set()
        self._ready: deque[DeviceConnection] = deque()
        self._calm = 0
        self._idle = 0
        self._left = 0.0
        self._part = 0.0
        self._untold: dict[DeviceConnection, float] = {}
        self._timer: asyncio.Handle | None = None
        self._resuming: asyncio.Handle | None = None
        self.resting: TimedPauses[DeviceConnection] = TimedPauses(self._rested)
        self._stopped = False
        spool.eased = self._begin_round

    def __len__(self) -> int:
        return len(self._live) + len(self._late)

    def took(self, sender: DeviceConnection, size: int) -> None:
        """While the disk is behind, ``sender`` got a message of so many bytes through."""
        if sender.paused or self._stopped:
            return
        congested = self._spool.congested
        if congested:
            self._calm = 0
        self._sent.add(sender)
        credit = self._credit.get(sender)
        if credit is None:
            credit = 0.0 if congested else self._grant(sender)
        self._credit[sender] = credit = credit - size - MESSAGE_BYTES
        if credit <= 0:
            self._join(sender)
            self._schedule()

    def _schedule(self) -> None:
        """See to it that the line goes on, where the spool does not have to say so first."""
        if self._resuming is None and not self._spool.congested and len(self):
            step = self._resume if self._ready else self._go_round
            self._resuming = asyncio.get_running_loop().call_soon(step)

    def _grant(self, sender: DeviceConnection) -> float:
        """The part of one that nobody knew of when the round began, as far as anything is left."""
        part = max(0.0, min(self._left, self._part_of(sender)))
        self._left -= part
        return part

    def _part_of(self, sender: DeviceConnection) -> float:
        return self._part if sender.late else LIVE_WEIGHT * self._part

    def _join(self, sender: DeviceConnection) -> None:
        loop = asyncio.get_running_loop()
        sender.paused = True
        sender.pause_reading()
        (self._late if sender.late else self._live)[sender] = None
        self._untold[sender] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(PATIENCE, self._tell)
        self._count()

    def forget(self, sender: DeviceConnection) -> None:
        """``sender`` is closed."""
        self._credit.pop(sender, None)
        self._sent.discard(sender)
        if sender.paused:
            self._leave(sender)
            self.resting.forget(sender)
            if not len(self):
                self._ready.clear()

    def _leave(self, sender: DeviceConnection) -> None:
        self._live.pop(sender, None)
        self._late.pop(sender, None)
        self._untold.pop(sender, None)

    def stop(self) -> None:
        """Pause and resume nobody any more."""
        self._stopped = True
        for handle in (self._timer, self._resuming):
            if handle is not None:
                handle.cancel()
        self._live, self._late, self._untold, self._credit = {}, {}, {}, {}
        self.resting.stop()
        self._ready.clear()

    def _begin_round(self) -> None:
        """The disk has caught up with what waited: divide what may come until it waits again."""
        if self._resuming is not None:
            self._resuming.cancel()
            self._resuming = None
        self._calm += 1
        self._idle = 0
        senders, self._sent = {*self._sent, *self._in_line()}, set()
        if not len(self) or self._calm > CALM:
            self._end()
            return
        self._left = self._spool.headroom / FIRST_COMERS
        self._part = self._spool.headroom / sum(1 if sender.late else LIVE_WEIGHT for sender in senders)
        # Who sent in the last round and does not wait has his part in hand, also when it gets tight again.
        self._credit = {
            sender: min(0.0, self._credit.get(sender, 0.0)) if sender.paused else self._part_of(sender)
            for sender in senders
        }
        self._divide(1)

    def _end(self) -> None:
        self._spool.scarce = False
        self._calm = self._idle = 0
        self._credit = dict.fromkeys(self._in_line(), 1.0)
        self._resume_ready()
        if not len(self):
            self._credit = {}

    def _go_round(self) -> None:
        """There is room left, and others have had their turn of the event loop: who waits gets some more."""
        self._resuming = None
        if self._spool.congested:
            self._calm = 0
            return
        self._idle = 0 if self._spool.queued_bytes else self._idle + 1
        if self._idle >= TURNS:
            self._end()
        elif not self._part:
            self._begin_round()
        elif len(self):
            self._divide(1 / TURNS)

    def _divide(self, share: float) -> None:
        """Let who waits have such a share of his part, or as many of them as it takes until some have paid."""
        owed = {sender: min(0.0, self._credit.get(sender, 0.0)) for sender in self._in_line()}
        shares = {sender: share * self._part_of(sender) for sender in owed}
        needed = sorted(-credit / shares[sender] for sender, credit in owed.items())
        rounds = 1 + int(needed[len(needed) // (2 * TURNS)])  # of a long line more than one, or it would never end
        self._credit |= {sender: credit + rounds * shares[sender] for sender, credit in owed.items()}
        self._resume_ready()

    def _in_line(self) -> Iterator[DeviceConnection]:
        yield from self._live
        yield from self._late

    def _resume_ready(self) -> None:
        """Let those in the line who have something left go on, in its order."""
        self._ready = deque(sender for sender in self._in_line() if self._credit.get(sender, 0.0) > 0)
        self._resume()

    def _resume(self) -> None:
        self._resuming = None
        if self._spool.congested:
            return
        for _ in range(min(SLICE, len(self._ready))):
            sender = self._ready.popleft()
            if sender in self._live or sender in self._late:
                self._leave(sender)
                if sender not in self.resting:
                    self._read_on(sender)
        self._schedule()

    def _read_on(self, sender: DeviceConnection) -> None:
        sender.paused = False
        sender.last_byte_at = asyncio.get_running_loop().time()  # it may have sent all the while
        sender.resume_reading()

    def _tell(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        self._schedule()  # whatever the spool forgot to say, who waits is not left to wait
        latest = loop.time() - PATIENCE
        for _ in range(SLICE):
            sender, since = next(iter(self._untold.items()), (None, 0.0))
            if sender is None:
                if len(self):
                    self._timer = loop.call_later(PATIENCE, self._tell)
                return
            if since > latest:
                self._timer = loop.call_at(since + PATIENCE, self._tell)
                return
            del self._untold[sender]
            sender.tell_paused()
        self._timer = loop.call_soon(self._tell)

    def rest(self, sender: DeviceConnection, seconds: float) -> None:
        """Read no more of ``sender`` for so long: it was too fast."""
        if self._stopped:
            return
        self.resting.add(sender, seconds)
        if not sender.paused:
            sender.paused = True
            sender.pause_reading()

    def _rested(self, sender: DeviceConnection) -> None:
        if sender not in self._live and sender not in self._late:
            self._read_on(sender)
