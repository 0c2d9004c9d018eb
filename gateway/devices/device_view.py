"""What the gateway knows of one device now: its latest values, its rhythm, and whether it is late by that rhythm.

Rules that hold here:

* A view changes when readings have become durable, never before: viewers see only what is safe.
* A device is late by its own rhythm, which is learned from the arrival of its data. It is judged only when something
  asks, so there is no timer and no list per device.
* The rhythm is an upper envelope of the intervals: it follows a longer interval fast and a shorter one slowly. By their
  mean, a device that wakes once a minute and sends five messages would be late all the time. One long silence, such as
  an outage, counts as at most `STRETCH` intervals. Messages within `MERGED_NS` are one arrival.
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
    from gateway.protocol.rate_limits import Allowance

MAX_LATEST = 512
"""Latest values kept of one device."""
MAX_TAKEOVERS = 16
"""Connections of one id that may take over from each other within a minute. Further ones are refused for a minute."""
MINUTE_NS = 60 * NS_PER_S
MERGED_NS = NS_PER_S // 2
"""Messages that come within this time count as one arrival."""
STRETCH = 8
"""One interval counts as at most so many times the rhythm."""
UNKNOWN_NS = 60 * NS_PER_S
"""The rhythm by which a device is judged before its own is known."""
RATE_WINDOW_NS = 10 * NS_PER_S
"""The time over which the message rate is averaged, about."""
LIVE, LATE, STALE, OFFLINE = STATES = ("live", "late", "stale", "offline")


@dataclass(slots=True)
class DeviceView:
    """What the gateway knows of one device now. Times are in ns since 1970; 0 where nothing has happened yet."""

    id: str
    account: Account
    """Its part of the ledger."""
    connection: DeviceConnection | None = None
    """Its socket; None while it has none."""
    changed_ns: int = 0
    """When it connected or disconnected last."""
    reason: str = ""
    """Why it did so, as in ``device_status``; empty before the first time."""
    last_data_ns: int = 0
    """When its last durable message arrived."""
    latest: dict[str, Any] = field(default_factory=dict)
    """The newest value of each field."""
    latest_ns: int = 0
    """The timestamp of the newest reading."""
    takeovers: deque[int] | None = None
    """When its last connections took over from older ones; None if none did."""
    rhythm_ns: float = 0.0
    """The interval between its arrivals, in ns; 0.0 while it is not known."""
    told: str = ""
    """The state (`STATES`) that viewers were told last; empty before."""
    allowance: Allowance | None = None
    """What it may still send; None until it connects."""
    units: dict[str, str] | None = None
    """By field, as the device itself says; None for a device whose subprotocol has no units."""
    clock: DeviceClock | None = None
    """What is known of its clock; None for a device that never asked for the time."""
    _rate: float = 0.0
    """Messages a second, averaged."""
    _arrival_ns: int = 0
    """When the last arrival began."""
    _messages: int = 0
    """Messages since then."""
    _resumed_ns: int = 0
    """When data came after the device was late."""

    def tell_units(self) -> dict[str, str]:
        """The mapping into which the units that the device says are put."""
        if self.units is None:
            self.units = {}
        return self.units

    def show(self, entry: Entry) -> None:
        """Take the values of a durable message. An older reading does not replace a newer one."""
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
        while len(latest) > MAX_LATEST:
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
        """Whether it sends by HTTP requests: it has no socket, and its data came after the last socket closed."""
        return self.connection is None and self.last_data_ns > self.changed_ns

    def state_at(self, now_ns: int) -> tuple[str, int]:
        """One of `STATES`, and since when."""
        connection = self.connection
        if connection is None:
            return OFFLINE, self.changed_ns
        heard = max(self.last_data_ns, self.changed_ns)
        rhythm = self.rhythm_ns or UNKNOWN_NS
        silent = now_ns - heard
        if silent < (late := late_after(rhythm)) or connection.paused:  # the gateway does not read it
            return LIVE, max(self.changed_ns, self._resumed_ns)
        if silent < (stale := stale_after(rhythm)):
            return LATE, heard + round(late)
        return STALE, heard + round(stale)

    def reason_at(self, now_ns: int) -> str | None:
        """Why it is in its state: why it connected or disconnected, or ``silent``; None if it never connected."""
        return "silent" if self.state_at(now_ns)[0] in {LATE, STALE} else self.reason or None

    def rate_at(self, now_ns: int) -> float:
        """Messages a second, over about the last ten seconds or the last few messages."""
        silent = now_ns - self.last_data_ns
        if silent < late_after(self.rhythm_ns):
            return round(self._rate, 3)
        return round(min(self._rate, NS_PER_S / silent), 3)

    def taken_over(self, now_ns: int) -> None:
        """A connection took over from an older one."""
        if self.takeovers is None:  # hardly any device has them, and an empty deque takes 760 bytes
            self.takeovers = deque(maxlen=MAX_TAKEOVERS)
        self.takeovers.append(now_ns)

    def fought_over(self, now_ns: int) -> bool:
        """Whether so many connections took over from each other that new ones are refused for now."""
        takeovers = self.takeovers
        if takeovers is None or len(takeovers) < MAX_TAKEOVERS:
            return False
        # A clock that was set back meanwhile must not make that time longer.
        return takeovers[-1] - takeovers[0] < MINUTE_NS and 0 <= now_ns - takeovers[-1] < MINUTE_NS


def late_after(rhythm_ns: float) -> float:
    """The silence, in ns, from which a device with that rhythm is late."""
    return 2 * rhythm_ns + NS_PER_S


def stale_after(rhythm_ns: float) -> float:
    """The silence, in ns, from which a device with that rhythm is stale."""
    return 5 * rhythm_ns + 5 * NS_PER_S
