"""How much a device may send: token buckets for messages, readings and bytes, in two lanes.

Rules that hold here:

* A message is accepted while each bucket that it takes from holds anything, whatever the message costs. The last one
  may leave a debt. So a burst is exceeded by one message at most, and no message is too large for a bucket.
* Readings older than `BACKLOG_NS`, and messages that come again, use the lane for backlog, so that catching up takes
  nothing from live readings.
* A refused message costs nothing. It is paid for when it comes again and is accepted.
* A message is only counted down (``left``, ``left_bytes``). The buckets are filled up when one of these is used up, or
  after `LOOK_NS`. So a full bucket counts for a second too much at most, and a message of one reading costs two
  subtractions and three comparisons.
* After a refusal the wait is long enough for more than one message, so that refusals do not follow each other.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from gateway.time_units import NS_PER_MS, NS_PER_S

BACKLOG_NS = 60 * NS_PER_S
"""A reading that is older when it arrives is backlog."""
LOOK_NS = NS_PER_S
"""The time after which the buckets are filled up again."""
REFILL_SECONDS = 1.0
"""After a bucket is used up, the wait lasts until it holds the refill of this time, or half of the bucket if less."""
MAX_WAIT_NS = 60 * NS_PER_S
LIMITS = "messages_per_second", "readings_per_second", "bytes_per_second"
BACKLOG = "backlog."
"""The prefix of the names of limits of the lane for backlog."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What one lane allows: sustained rates, and what may come at once. ``burst`` is in readings."""

    readings_per_second: float
    burst: float
    messages_per_second: float
    message_burst: float
    bytes_per_second: float
    byte_burst: float

    def told(self) -> dict[str, int]:
        """As the welcome says them."""
        return {one.name: max(1, int(getattr(self, one.name))) for one in fields(self)}

    def times(self, factor: float) -> Quota:
        """Each limit so many times, and never less than one message of one reading."""
        return Quota(**{one.name: max(1.0, getattr(self, one.name) * factor) for one in fields(self)})

    @property
    def rates(self) -> tuple[float, float, float]:
        """In the order of `LIMITS`."""
        return self.messages_per_second, self.readings_per_second, self.bytes_per_second

    @property
    def bursts(self) -> tuple[float, float, float]:
        """In the order of `LIMITS`."""
        return self.message_burst, self.burst, self.byte_burst


@dataclass(frozen=True, slots=True)
class Rates:
    """The quotas of both lanes."""

    live: Quota
    backlog: Quota

    def told(self) -> dict[str, Any]:
        """As the welcome says them."""
        return {**self.live.told(), "backlog": {"older_than_ms": BACKLOG_NS // NS_PER_MS, **self.backlog.told()}}


class Excess(NamedTuple):
    """A limit that is used up: its name, what it allows a second, about how much came in the last one, the wait."""

    limit: str
    allowed: int
    observed: int
    wait_ms: int


class Lane:
    """The three buckets of one lane.

    ``left`` messages of one reading, ``left_bytes`` long in all, may be taken before `look` is due. A message of more
    readings takes as many of them, and one of none takes one; what is too much of that, the next look puts right.
    """

    __slots__ = (
        "_at_ns",
        "_empty",
        "_more",
        "_name",
        "_observed",
        "_quota",
        "_since_ns",
        "_spent",
        "_tokens",
        "left",
        "left_bytes",
        "look_ns",
    )

    def __init__(self, quota: Quota, name: str, now_ns: int) -> None:
        self._quota = quota
        self._name = name
        """The prefix of the names of its limits."""
        self._tokens = list(quota.bursts)
        """What the buckets held at the last look, in the order of `LIMITS`; below 0 is a debt."""
        self._spent = [0.0, 0.0, 0.0]
        """What was accepted since ``_since_ns``, in that order."""
        self._observed = [0.0, 0.0, 0.0]
        """What was accepted per second in the last whole second, in that order."""
        self._at_ns = self._since_ns = now_ns
        """When the buckets were filled up last, and when the present second of ``_spent`` began."""
        self._share_out(now_ns)

    def _share_out(self, now_ns: int) -> None:
        messages, readings, size = self._tokens
        self.left = int(min(messages, readings))
        self.left_bytes = int(size)
        self._more = self._empty = 0
        self.look_ns = now_ns + LOOK_NS

    def _collect(self) -> None:
        """Take from the buckets what was counted down since the last look."""
        tokens, spent = self._tokens, self._spent
        messages, readings, size = tokens
        used = int(min(messages, readings)) - self.left
        cost = int(size) - self.left_bytes
        tokens[0], tokens[1], tokens[2] = messages - used + self._more, readings - used + self._empty, size - cost
        spent[0] += used - self._more
        spent[1] += used - self._empty
        spent[2] += cost

    def look(self, now_ns: int) -> bool:
        """Fill up by the time that has passed; whether a message may be accepted."""
        self._collect()
        quota, tokens = self._quota, self._tokens
        elapsed = max(0, now_ns - self._at_ns) / NS_PER_S  # a clock that was set back brings nothing
        self._at_ns = now_ns
        # Spelled out: loops over three cost half as much again, and every device comes here once a second.
        messages = tokens[0] + quota.messages_per_second * elapsed
        readings = tokens[1] + quota.readings_per_second * elapsed
        size = tokens[2] + quota.bytes_per_second * elapsed
        tokens[0] = min(messages, quota.message_burst)
        tokens[1] = min(readings, quota.burst)
        tokens[2] = min(size, quota.byte_burst)
        self._observe(now_ns)
        self._share_out(now_ns)
        return self.left > 0 and self.left_bytes > 0

    def _observe(self, now_ns: int) -> None:
        seconds = (now_ns - self._since_ns) / NS_PER_S
        if not 0 <= seconds < 1:
            messages, readings, size = self._spent
            known = seconds if seconds > 0 else float("inf")
            self._observed = [messages / known, readings / known, size / known]
            self._spent = [0.0, 0.0, 0.0]
            self._since_ns = now_ns

    def spend(self, readings: int, size: int) -> None:
        """A message is accepted, or was as much work as an accepted one."""
        cost = readings or 1
        self.left -= cost
        self._more += cost - 1
        self._empty += cost - readings
        self.left_bytes -= size

    def excess(self, readings: int, size: int, now_ns: int) -> Excess | None:
        """Why one more message, of so many readings and bytes, may not be accepted now; None if it may."""
        if (self.left > 0 and self.left_bytes > 0 and now_ns < self.look_ns) or self.look(now_ns):
            return None
        rates, bursts = self._quota.rates, self._quota.bursts
        costs = 1, readings, size
        waits = [
            (min(burst / 2, rate * REFILL_SECONDS) + 1 - tokens) / rate if cost and tokens < 1 else 0.0
            for cost, tokens, rate, burst in zip(costs, self._tokens, rates, bursts, strict=True)
        ]
        longest = max(waits)
        if not longest:
            return None
        place = waits.index(longest)
        came = self._spent[place] + costs[place]
        allowed = max(1, int(rates[place]))
        observed = max(allowed + 1, round(self._observed[place]), round(came))
        wait_ns = min(MAX_WAIT_NS, longest * NS_PER_S)
        return Excess(self._name + LIMITS[place], allowed, observed, max(1, round(wait_ns / NS_PER_MS)))

    def renew(self, quota: Quota) -> None:
        """Use other limits: a debt remains, and no bucket holds more than it may."""
        self._collect()
        self._quota = quota
        self._tokens = [min(tokens, burst) for tokens, burst in zip(self._tokens, quota.bursts, strict=True)]
        self._share_out(self._at_ns)


_UNTOUCHED = Lane(Quota(1, 0, 1, 0, 1, 0), "", 0)
"""In the place of a lane that no message has used: it has nothing left, and nothing is taken from it."""


class Allowance:
    """Both lanes of one device, over all of its connections. A lane is made when the first message uses it."""

    __slots__ = ("_told_ns", "backlog", "live", "rates", "throttles", "told")

    def __init__(self, rates: Rates) -> None:
        self.rates = rates
        self.live = self.backlog = _UNTOUCHED
        self.throttles = 0
        """Throttles since the gateway started."""
        self.told: Excess | None = None
        """The last throttle; None without one."""
        self._told_ns = 0
        """When that was (ns since 1970)."""

    def lane(self, now_ns: int, *, backlog: bool) -> Lane:
        """The lane, made on first use."""
        if backlog:
            if self.backlog is _UNTOUCHED:
                self.backlog = Lane(self.rates.backlog, BACKLOG, now_ns)
            return self.backlog
        if self.live is _UNTOUCHED:
            self.live = Lane(self.rates.live, "", now_ns)
        return self.live

    def renew(self, rates: Rates) -> None:
        """The configuration has changed, or the device has another profile."""
        self.rates = rates
        for lane, quota in ((self.live, rates.live), (self.backlog, rates.backlog)):
            if lane is not _UNTOUCHED:
                lane.renew(quota)

    def note(self, excess: Excess, now_ns: int) -> None:
        """The device has to wait for this."""
        self.throttles += 1
        self.told, self._told_ns = excess, now_ns

    def shown(self, now_ns: int) -> dict[str, Any]:
        """For the operator: whether it has to wait now, how often it had to, and for which limit the last time."""
        found: dict[str, Any] = {"throttled": False, "throttles": self.throttles}
        if self.told is not None:
            limit, allowed, observed, wait_ms = self.told
            found |= {"limit": limit, "allowed": allowed, "observed": observed, "at": self._told_ns // NS_PER_MS}
            found["throttled"] = 0 <= now_ns - self._told_ns < wait_ms * NS_PER_MS
        return found


def is_backlog(time_ns: int, now_ns: int) -> bool:
    """Whether a message is backlog, by the time of its newest reading; 0 if it has none."""
    return 0 < time_ns <= now_ns - BACKLOG_NS
