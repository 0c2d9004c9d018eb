"""Pauses reading from devices: while too much waits for the disk, and for devices that are too fast.

Rules that hold here:

* A paused device loses nothing: TCP holds it back. What it has sent stays in the kernel, and in at most one chunk that
  was read already.
* While the disk is behind, the bytes that each device sends are counted. The room until the next commit is divided by
  deficit round robin (Shreedhar and Varghese, 1995): a device that has used its quota is paused, and what it took too
  much is taken off its next quotas. So a device that sends little does not wait for one that sends much. Unused quota
  goes to paused devices, a share per turn of the event loop, until the spool is congested. A device with quota left is
  read even then.
* Live readings go before backlog: a device that sends backlog is resumed after all others, and its quota is a part of
  theirs (`LIVE_WEIGHT`).
* Devices are resumed in slices, and no more of them once the spool is congested again. Each round resumes at least one.
* While any device is paused, the next step is always scheduled: a turn of the event loop or, where the spool is
  congested, the commit that it waits for. A message need not lead to a write, so a commit need not follow one.
* Nothing is counted, and nothing called, while the disk keeps up: counting ends after `CALM` rounds without congestion,
  after a round in which no device is paused, or after `TURNS` turns in which nothing was queued.
* One timer serves all devices that wait for the disk, and one all that were too fast (`gateway.devices.timed_pauses`).
* A device that has waited for the disk for longer than `PATIENCE` is told once, by a throttle that refuses nothing.
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
"""Seconds for which a device is paused before it is told."""
LIVE_WEIGHT = 4
"""Quota of a device that sends live readings, as a multiple of the quota of one that sends backlog."""
NEWCOMERS = 4
"""The room of a round divided by this is for devices that did not send in the last round."""
TURNS = 8
"""Turns of the event loop over which paused devices get the quota that others leave."""
CALM = 8
"""Rounds without congestion after which nothing is counted any more."""
MESSAGE_BYTES = 256
"""What a message counts beside its own bytes: it takes memory, too."""


class Congestible(Protocol):
    """The spool, as backpressure sees it."""

    congested: bool
    """Whether so much waits for the disk that senders are paused."""
    scarce: bool
    """Whether room is divided: from the first congestion until the disk has kept up for a while."""
    headroom: int
    """Bytes that may be queued until the spool is congested."""
    eased: Callable[[], None]
    """Called when so much has become durable that senders may be resumed."""

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait for the disk; while there are some, ``eased`` is going to be called."""
        ...


class Backpressure:
    """The queue of paused devices. ``count`` is called for each that joins it."""

    def __init__(self, spool: Congestible, count: Callable[[], None]) -> None:
        self._spool = spool
        self._count = count
        self._live: dict[DeviceConnection, None] = {}
        """The paused devices that send live readings, in the order in which they were paused."""
        self._late: dict[DeviceConnection, None] = {}
        """The paused devices that send backlog, in that order."""
        self._credit: dict[DeviceConnection, float] = {}
        """Bytes of its quota that a device has left; below 0: the bytes that it has taken beyond its quota."""
        self._sent: set[DeviceConnection] = set()
        """The devices that have sent in this round."""
        self._ready: deque[DeviceConnection] = deque()
        """The paused devices with quota left, which the next slices resume."""
        self._calm = 0
        """Rounds since the spool was congested."""
        self._idle = 0
        """Turns of the event loop in a row in which nothing was queued."""
        self._left = 0.0
        """Bytes of this round's room that newcomers may still take."""
        self._quota = 0.0
        """Bytes of this round's room for a device that sends backlog; 0.0 before the first round."""
        self._untold: dict[DeviceConnection, float] = {}
        """The paused devices that are not told yet, and when each was paused (event loop's time); the oldest first."""
        self._timer: asyncio.Handle | None = None
        """The next `_tell`: for the oldest device in `_untold`, or after `PATIENCE` if all paused devices are told."""
        self._resuming: asyncio.Handle | None = None
        """The next step, if it is a turn of the event loop."""
        self.timed_pauses: TimedPauses[DeviceConnection] = TimedPauses(self._pause_over)
        self._stopped = False
        """Whether the gateway is stopping: from then on no device is paused."""
        spool.eased = self._begin_round

    def __len__(self) -> int:
        return len(self._live) + len(self._late)

    def took(self, sender: DeviceConnection, size: int) -> None:
        """``sender`` has sent a message of ``size`` bytes while room is scarce."""
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
        """Schedule the next step, unless the spool announces it (`eased`)."""
        if self._resuming is None and not self._spool.congested and len(self):
            step = self._resume if self._ready else self._go_round
            self._resuming = asyncio.get_running_loop().call_soon(step)

    def _grant(self, sender: DeviceConnection) -> float:
        """The quota of a device that was not known when the round began, as far as anything is left."""
        quota = max(0.0, min(self._left, self._quota_of(sender)))
        self._left -= quota
        return quota

    def _quota_of(self, sender: DeviceConnection) -> float:
        return self._quota if sender.late else LIVE_WEIGHT * self._quota

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
        """``sender`` has closed."""
        self._credit.pop(sender, None)
        self._sent.discard(sender)
        if sender.paused:
            self._leave(sender)
            self.timed_pauses.forget(sender)
            if not len(self):
                self._ready.clear()

    def _leave(self, sender: DeviceConnection) -> None:
        self._live.pop(sender, None)
        self._late.pop(sender, None)
        self._untold.pop(sender, None)

    def stop(self) -> None:
        """Pause and resume no device any more."""
        self._stopped = True
        for handle in (self._timer, self._resuming):
            if handle is not None:
                handle.cancel()
        self._live, self._late, self._untold, self._credit = {}, {}, {}, {}
        self.timed_pauses.stop()
        self._ready.clear()

    def _begin_round(self) -> None:
        """The disk has caught up: divide the room until it is congested again."""
        if self._resuming is not None:
            self._resuming.cancel()
            self._resuming = None
        self._calm += 1
        self._idle = 0
        senders, self._sent = {*self._sent, *self._paused()}, set()
        if not len(self) or self._calm > CALM:
            self._end()
            return
        self._left = self._spool.headroom / NEWCOMERS
        self._quota = self._spool.headroom / sum(1 if sender.late else LIVE_WEIGHT for sender in senders)
        # A device that sent in the last round and is not paused has its quota, even if the spool is congested again.
        self._credit = {
            sender: min(0.0, self._credit.get(sender, 0.0)) if sender.paused else self._quota_of(sender)
            for sender in senders
        }
        self._divide(1)

    def _end(self) -> None:
        self._spool.scarce = False
        self._calm = self._idle = 0
        self._credit = dict.fromkeys(self._paused(), 1.0)
        self._resume_ready()
        if not len(self):
            self._credit = {}

    def _go_round(self) -> None:
        """There is room left after a turn of the event loop: the paused devices get a share of it."""
        self._resuming = None
        if self._spool.congested:
            self._calm = 0
            return
        self._idle = 0 if self._spool.queued_bytes else self._idle + 1
        if self._idle >= TURNS:
            self._end()
        elif not self._quota:
            self._begin_round()
        elif len(self):
            self._divide(1 / TURNS)

    def _divide(self, share: float) -> None:
        """Give each paused device ``share`` of its quota, or so many shares that some devices have quota left."""
        owed = {sender: min(0.0, self._credit.get(sender, 0.0)) for sender in self._paused()}
        shares = {sender: share * self._quota_of(sender) for sender in owed}
        needed = sorted(-credit / shares[sender] for sender, credit in owed.items())
        rounds = 1 + int(needed[len(needed) // (2 * TURNS)])  # a long queue needs more than one, or would never end
        self._credit |= {sender: credit + rounds * shares[sender] for sender, credit in owed.items()}
        self._resume_ready()

    def _paused(self) -> Iterator[DeviceConnection]:
        yield from self._live
        yield from self._late

    def _resume_ready(self) -> None:
        """Resume the paused devices that have quota left, in their order."""
        self._ready = deque(sender for sender in self._paused() if self._credit.get(sender, 0.0) > 0)
        self._resume()

    def _resume(self) -> None:
        self._resuming = None
        if self._spool.congested:
            return
        for _ in range(min(SLICE, len(self._ready))):
            sender = self._ready.popleft()
            if sender in self._live or sender in self._late:
                self._leave(sender)
                if sender not in self.timed_pauses:
                    self._resume_reading(sender)
        self._schedule()

    def _resume_reading(self, sender: DeviceConnection) -> None:
        sender.paused = False
        sender.last_byte_at = asyncio.get_running_loop().time()  # it may have sent all the while
        sender.resume_reading()

    def _tell(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        self._schedule()  # should the spool have failed to announce the next step, no device stays paused
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

    def pause_for(self, sender: DeviceConnection, seconds: float) -> None:
        """Do not read ``sender`` for so many seconds: it was too fast."""
        if self._stopped:
            return
        self.timed_pauses.add(sender, seconds)
        if not sender.paused:
            sender.paused = True
            sender.pause_reading()

    def _pause_over(self, sender: DeviceConnection) -> None:
        if sender not in self._live and sender not in self._late:
            self._resume_reading(sender)
