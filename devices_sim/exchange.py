"""A device's own clock, and its exchange of times with the gateway (docs/reference/protocol.md, "time request").

Rule that holds here: one request at a time, the first right after the welcome. Each later request tells the gateway
when the previous answer arrived.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from devices_sim.effects import Effect, Send

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Clock:
    """A clock ``offset`` s ahead that runs ``drift`` parts in a million fast; its device asks every ``ask`` s."""

    offset: float = 0.0
    drift: float = 0.0
    ask: float = 60.0


@dataclass(frozen=True, slots=True)
class OwnTime:
    """What a device's clock says: ``start_ms`` at the moment ``start`` (s) of the steady clock."""

    start_ms: float
    start: float
    drift: float = 0.0

    def at(self, now: float) -> float:
        """Milliseconds at the moment ``now`` of the steady clock."""
        return self.start_ms + (now - self.start) * 1000 * (1 + self.drift / 1e6)


class Exchange:
    """The requests of one device."""

    __slots__ = ("_due", "_every", "_last", "asked", "delay_ms", "offset_ms", "own")

    def __init__(self, own: OwnTime, every: float) -> None:
        self.own = own
        self.asked: float | None = None
        """``t0`` of the request that has no answer yet; None without one."""
        self.offset_ms: float | None = None
        """By how much the device's clock is behind, from the exchange with the least delay; None before an answer."""
        self.delay_ms: float | None = None
        """The least delay of an exchange; None before an answer."""
        self._every = every
        self._due = 0.0
        """When the next request is due, in seconds of the steady clock."""
        self._last: dict[str, float] | None = None
        """``t0`` and ``t3`` of the last exchange, for the next request; None after a welcome."""

    def begin(self, now: float) -> Sequence[Effect]:
        """After a welcome: forget a request of an earlier connection, which gets no answer any more, and send one."""
        self.asked = self._last = None
        self._due = now
        return self.go_on(now)

    def go_on(self, now: float) -> Sequence[Effect]:
        """Send a request if one is due."""
        if self.asked is not None or now < self._due:
            return ()
        self._due = now + self._every
        self.asked = int(self.own.at(now))
        request = {"type": "time", "t0": self.asked}
        if self._last is not None:
            request["last"] = self._last
        return (Send(orjson.dumps(request)),)

    def answered(self, message: dict[str, Any], now: float) -> str | None:
        """Take the gateway's answer. Returns what is wrong with it, or None."""
        t0, t1, t2, t3 = message["t0"], message["t1"], message["t2"], int(self.own.at(now))
        if t0 != self.asked:
            return f"tells the time for {t0}, asked was {self.asked}"
        if t2 < t1:
            return f"answers at {t2} what came at {t1}"
        self._last, self.asked = {"t0": t0, "t3": t3}, None
        delay = (t3 - t0) - (t2 - t1)
        if self.delay_ms is None or delay <= self.delay_ms:
            self.delay_ms, self.offset_ms = delay, ((t1 - t0) + (t2 - t3)) / 2
        return None
