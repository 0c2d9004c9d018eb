"""When the next message goes out: by the clock, or as soon as it is taken.

Rules that hold here:

* A pacer's `step` never blocks and sends a bounded number of frames, so acks are read between.
* By the clock, a device whose socket is full misses its turn, which is counted; the schedule does not wait for it. How
  late a turn came is counted too: it is the generator's own fault.
"""

from __future__ import annotations

import random
from array import array
from bisect import bisect_right
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from benchmarks.generator.tally import percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.generator.link import Link
    from benchmarks.generator.orders import Pace

TICK = 0.001
"""Shortest sleep, in seconds: what falls due within it goes out together."""
SENDS_PER_STEP = 64
IDLE_STEP = 0.05


class Pacer(Protocol):
    """Decides which devices send now."""

    finished: bool

    def step(self) -> float:
        """Send what is due. Returns the seconds to wait for the next."""
        ...

    def freed(self, link: Link) -> None:
        """A device's socket took its rest, its acks came, or it has sent again what it had to."""
        ...

    def summary(self) -> dict[str, Any]:
        """What was sent, and how well the schedule was kept."""
        ...


class ByClock:
    """Each device sends ``rate`` messages a second, at a phase of its own.

    Phases are random, as those of independent devices. Evenly spread phases would be in step with other periods, such
    as that of commits.
    """

    def __init__(
        self, links: Sequence[Link], frames: Sequence[bytes], pace: Pace, watch: Callable[[Link], None]
    ) -> None:
        self.finished = False
        self._frames = frames
        self._watch = watch
        self._order = list(links)
        chance = random.Random(2)
        chance.shuffle(self._order)
        self._phases = sorted(chance.random() for _ in links)
        self._rate = pace.rate
        self._turns = int(pace.seconds * pace.rate * len(links))
        self._turn = self._sent = self._held = 0
        self._lateness = array("d")
        self._start = monotonic()

    def step(self) -> float:
        """Send every turn that is due, a bounded number at once."""
        now = monotonic()
        periods, phase = divmod((now - self._start) * self._rate, 1.0)
        due = int(periods) * len(self._phases) + bisect_right(self._phases, phase)
        if due > self._turn:
            self._lateness.append(now - self._due_at(self._turn))
            self._send(min(due, self._turn + SENDS_PER_STEP, self._turns))
        self.finished = self._turn >= self._turns
        wait = self._due_at(self._turn) - monotonic()
        return max(TICK, wait) if wait > 0 and not self.finished else 0.0

    def _due_at(self, turn: int) -> float:
        periods, number = divmod(turn, len(self._phases))
        return self._start + (periods + self._phases[number]) / self._rate

    def _send(self, due: int) -> None:
        order, frames, count = self._order, self._frames, len(self._order)
        for turn in range(self._turn, due):
            link = order[turn % count]
            if link.rest or link.fd < 0 or link.next != link.high:
                self._held += 1
                continue
            self._sent += 1
            if not link.send(frames[link.next]):
                self._watch(link)
        self._turn = due

    def freed(self, link: Link) -> None:
        """Nothing to do: its next turn will find the socket free."""

    def summary(self) -> dict[str, Any]:
        """``held``: turns missed because the server was not reading."""
        late = sorted(self._lateness)
        return {
            "sent": self._sent,
            "held": self._held,
            "offered_per_second": self._rate * len(self._order),
            "late_p99_ms": percentile(late, 0.99),
            "late_max_ms": percentile(late, 1.0),
        }


class AsTaken:
    """Each device sends as fast as it is taken, ``window`` messages ahead of the acks where there are any."""

    def __init__(
        self, links: Sequence[Link], frames: Sequence[bytes], pace: Pace, watch: Callable[[Link], None], *, acks: bool
    ) -> None:
        self.finished = False
        self._frames = frames
        self._watch = watch
        self._ready = deque(links)
        self._last = {link: link.next + pace.messages for link in links}
        self._unfinished = len(self._ready)
        self._window = pace.window if acks else 0
        self._sent = 0
        self._end = monotonic() + pace.seconds

    def step(self) -> float:
        """A few frames of a few devices, in turn."""
        if monotonic() >= self._end or not self._unfinished:
            self.finished = True
            return 0.0
        ready = self._ready
        for _ in range(min(len(ready), SENDS_PER_STEP)):
            link = ready.popleft()
            if not self._may_send(link):
                link.parked = True
                continue
            taken = link.send(self._frames[link.next])
            self._sent += 1
            if link.next >= self._last[link]:
                self._unfinished -= 1
            elif self._may_send(link):
                ready.append(link)
            else:
                link.parked = True
            if not taken:
                self._watch(link)
        return 0.0 if ready else IDLE_STEP

    def _may_send(self, link: Link) -> bool:
        return (
            link.fd >= 0
            and not link.rest
            and not link.behind
            and (not self._window or link.next - link.acked <= self._window)
        )

    def freed(self, link: Link) -> None:
        """Let the device send again."""
        if link.parked and self._may_send(link):
            link.parked = False
            self._ready.append(link)

    def summary(self) -> dict[str, Any]:
        """``exhausted``: devices ran out of prepared messages, so the time was not used up."""
        return {"sent": self._sent, "held": 0, "exhausted": not self._unfinished}
