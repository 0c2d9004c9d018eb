"""What is known of one device right now: what it said last, its rhythm, and whether it is late by that.

Rules that hold here:

* A view changes when readings became durable, never before: a viewer sees only what is safe.
* Whether a device is late is judged by its own rhythm, learned from when its data came, and only when somebody looks:
  no timer and no list per device.
* The rhythm is an upper envelope of the intervals: it follows a longer one fast and a shorter one slowly. A mean would
  call a device that wakes once a minute and sends five messages late all the time. One long silence, an outage, counts
  as no more than `STRETCH` intervals. What comes within `MERGED_NS` is one arrival.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gateway.time_units import NS_PER_S

if TYPE_CHECKING:
    from gateway.devices.device_connection import DeviceConnection
    from gateway.ledger import Account, Entry
    from gateway.protocol.device_clock import DeviceClock
    from gateway.protocol.rates import Allowance

MOST_LATEST = 512
"""Latest values kept of one device."""
MOST_TAKEOVERS = 16
"""Connections of one id that may take over from each other within a minute; the next ones are told to come later."""
MINUTE_NS = 60_000_000_000
MERGED_NS = NS_PER_S // 2
STRETCH = 8
UNKNOWN_NS = 60 * NS_PER_S
"""The rhythm that a device is held to before its own is known."""
RATE_WINDOW_NS = 10 * NS_PER_S
LIVE, LATE, STALE, OFFLINE = STATES = ("live", "late", "stale", "offline")


@dataclass(slots=True)
class DeviceState:
    """What is known of one device right now; times in ns since 1970.

    ``changed_ns`` is when it came or went, and ``reason`` why. ``rhythm_ns`` is 0 while unknown. ``told`` is the state
    that viewers heard last.
    """

    id: str
    account: Account
    connection: DeviceConnection | None = None
    changed_ns: int = 0
    reason: str = ""
    last_data_ns: int = 0
    latest: dict[str, Any] = field(default_factory=dict)
    latest_ns: int = 0
    takeovers: deque[int] | None = None
    rhythm_ns: float = 0.0
    told: str = ""
    allowance: Allowance | None = None
    """What it may still send; None until it connects."""
    units: dict[str, str] | None = None
    """By field, as the device tells them; None for one that never could."""
    clock: DeviceClock | None = None
    """What is known of its clock; None for one that never asked for the time."""
    _rate: float = 0.0
    _arrival_ns: int = 0
    _messages: int = 0
    _resumed_ns: int = 0

    def tell_units(self) -> dict[str, str]:
        """Where to put units that the device tells."""
        if self.units is None:
            self.units = {}
        return self.units

    def show(self, entry: Entry) -> None:
        """Take over what a durable message measured; an old reading does not hide a newer one."""
        self.last_data_ns = arrived = entry.arrived_ns
        self._messages += 1
        if not 0 <= arrived - self._arrival_ns < MERGED_NS:
            self._arrived(arrived)
        if (found := entry.latest) is None:
            return
        latest = self.latest
        if (time_ns := entry.time_ns) >= self.latest_ns:
            latest.update(found)
            self.latest_ns = time_ns
        else:
            latest = self.latest = {**found, **latest}
        while len(latest) > MOST_LATEST:
            del latest[next(iter(latest))]

    def _arrived(self, now_ns: int) -> None:
        """Learn from the time since the last arrival, unless the device was not connected throughout."""
        before, messages, rhythm = self._arrival_ns, self._messages, self.rhythm_ns
        self._arrival_ns, self._messages = now_ns, 0
        interval = now_ns - before
        if before <= self.changed_ns or interval <= 0:
            return
        rate = messages * NS_PER_S / interval
        if not rhythm:
            self.rhythm_ns, self._rate = float(interval), rate
            return
        if interval >= late_after(rhythm):
            self._resumed_ns = now_ns
        if interval > rhythm:
            self.rhythm_ns += (min(interval, STRETCH * rhythm) - rhythm) / 2
        else:
            self.rhythm_ns -= (rhythm - interval) / 32
        self._rate += (rate - self._rate) * min(1.0, max(1 / 16, interval / RATE_WINDOW_NS))

    @property
    def by_request(self) -> bool:
        """Whether it has no socket and sent without one since: its data came later than the last socket went."""
        return self.connection is None and self.last_data_ns > self.changed_ns

    def state_at(self, now_ns: int) -> tuple[str, int]:
        """One of `STATES`, and since when."""
        connection = self.connection
        if connection is None:
            return OFFLINE, self.changed_ns
        heard = max(self.last_data_ns, self.changed_ns)
        rhythm = self.rhythm_ns or UNKNOWN_NS
        silent = now_ns - heard
        if silent < (late := late_after(rhythm)) or connection.paused:  # it cannot be heard
            return LIVE, max(self.changed_ns, self._resumed_ns)
        if silent < (stale := stale_after(rhythm)):
            return LATE, heard + round(late)
        return STALE, heard + round(stale)

    def reason_at(self, now_ns: int) -> str | None:
        """Why it is in the state that it is in: how it came or went, or ``silent``; None if it has not come yet."""
        return "silent" if self.state_at(now_ns)[0] in {LATE, STALE} else self.reason or None

    def rate_at(self, now_ns: int) -> float:
        """Messages a second, over about the last ten seconds or the last few messages."""
        silent = now_ns - self.last_data_ns
        if silent < late_after(self.rhythm_ns):
            return round(self._rate, 3)
        return round(min(self._rate, NS_PER_S / silent), 3)

    def taken_over(self, now_ns: int) -> None:
        """Note that a connection took the place of another."""
        if self.takeovers is None:  # hardly any device has them, and an empty deque takes 760 bytes
            self.takeovers = deque(maxlen=MOST_TAKEOVERS)
        self.takeovers.append(now_ns)

    def fought_over(self, now_ns: int) -> bool:
        """Whether so many connections took over from each other that the id has to rest."""
        takeovers = self.takeovers
        if takeovers is None or len(takeovers) < MOST_TAKEOVERS:
            return False
        # A clock that was set back meanwhile must not make the rest longer.
        return takeovers[-1] - takeovers[0] < MINUTE_NS and 0 <= now_ns - takeovers[-1] < MINUTE_NS


def late_after(rhythm_ns: float) -> float:
    """The silence, in ns, from which a device with that rhythm is late."""
    return 2 * rhythm_ns + NS_PER_S


def stale_after(rhythm_ns: float) -> float:
    """The silence, in ns, from which a device with that rhythm is stale."""
    return 5 * rhythm_ns + 5 * NS_PER_S
