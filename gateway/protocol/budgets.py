"""How many series each device may begin in a day: a database keeps an index of them, and it only grows.

A series is counted when a device brings a measurement or tags of its own that it has not used that day, and when it
brings a field that no device has before. The ordinary way, the device's own series under names met before, is free.

Rules that hold here:

* What a device used stays counted over its reconnects, for a day from the first; a restart begins anew.
* What a message began stays counted if the message is not taken in the end: sent again it is no other series.
* A refusal names the tag, or ``m``, whose values change most from series to series among those of the reading, and says
  whether it was the device that used up its own, or many devices what they share.
* Kept are hashes. `ASSURED` a day are the device's own whatever others do, so what is kept grows with the number of
  devices. What goes beyond is shared: `MOST_SHARED` of all devices, and when these are used up each of those that go
  beyond has an equal part of as many, of which twice as many are the end. So the largest users are refused first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from gateway.errors import ReadingError
from gateway.protocol.messages import Code
from gateway.protocol.shown import MAX_SHOWN_NAME, cut
from gateway.time_units import NS_PER_DAY, NS_PER_HOUR

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MEASUREMENT = "m"
PER_DAY = 1000
ASSURED = 100
"""Some 100 bytes each, in all a seventh of what is remembered of a device anyway."""
MOST_SHARED = 250_000


@dataclass(slots=True)
class _Budget:
    ends_ns: int
    used: set[int] = field(default_factory=set)
    last: dict[str, int] = field(default_factory=dict)
    changes: dict[str, int] = field(default_factory=dict)

    def holds(self, now_ns: int) -> bool:
        """Whether its day is under way; not if the clock was set back behind it."""
        return self.ends_ns - NS_PER_DAY <= now_ns < self.ends_ns


class Budgets:
    """The budgets of all devices; ``per_day`` series each, and ``most`` of all together beyond those assured."""

    def __init__(self, per_day: int = PER_DAY, most: int = MOST_SHARED) -> None:
        self.per_day = per_day
        self._most = most
        self._budgets: dict[str, _Budget] = {}
        self._kept = 0
        self._shared = 0
        self._sharers = 0
        self._cleared_ns = 0
        self.refused = 0
        """Readings refused because of them."""
        self.refused_shared = 0
        """Those of them that only the share of all devices was too small for."""

    def __len__(self) -> int:
        return self._kept

    def begin_series(self, device: str, measurement: str | None, tags: Mapping[str, str], now_ns: int) -> None:
        """``device`` uses ``measurement`` with ``tags``, as it names them.

        Raises:
            ReadingError: ``too_many_series``.
        """
        budget = self._of(device, now_ns)
        key = hash((measurement, *sorted(tags.items())))
        if key in budget.used:
            return
        named = {MEASUREMENT: measurement, **tags} if measurement is not None else tags
        if not self._allows(budget, now_ns):
            name = max(named, key=lambda name: budget.changes.get(name, 0))
            self._refuse(budget, name, "its values make one more")
        for name, value in named.items():
            if budget.last.get(name) != (now := hash(value)):
                budget.last[name] = now
                budget.changes[name] = budget.changes.get(name, 0) + 1
        self._use(budget, key)

    def begin_fields(self, device: str, measurement: str, names: Iterable[str], now_ns: int) -> None:
        """``device`` is the first to send the fields ``names``.

        Raises:
            ReadingError: ``too_many_series``; fields before the one at fault are counted.
        """
        budget = self._of(device, now_ns)
        for name in names:
            key = hash((measurement, name))
            if key not in budget.used:
                if not self._allows(budget, now_ns):
                    self._refuse(budget, name, "a field that is new is one more")
                self._use(budget, key)

    def _of(self, device: str, now_ns: int) -> _Budget:
        budget = self._budgets.get(device)
        if budget is None or not budget.holds(now_ns):
            self._forget(device)
            if self._kept >= self._most:
                self._clear(now_ns)
            budget = self._budgets[device] = _Budget(now_ns + NS_PER_DAY)
        return budget

    def _use(self, budget: _Budget, key: int) -> None:
        budget.used.add(key)
        self._kept += 1
        beyond = len(budget.used) - ASSURED
        if beyond > 0:
            self._shared += 1
            self._sharers += beyond == 1

    def _allows(self, budget: _Budget, now_ns: int) -> bool:
        """Whether a device may begin one more series."""
        used = len(budget.used)
        if used < min(ASSURED, self.per_day) or used >= self.per_day:
            return used < self.per_day
        if self._shared >= self._most:
            self._clear(now_ns)
        sharers = self._sharers + (used == ASSURED)
        equal = self._shared < 2 * self._most and (used - ASSURED) * sharers < self._most
        return self._shared < self._most or equal

    def _clear(self, now_ns: int) -> None:
        """Forget the devices whose day is over, once an hour."""
        if not 0 <= now_ns - self._cleared_ns < NS_PER_HOUR:
            self._cleared_ns = now_ns
            for device in [known for known, budget in self._budgets.items() if not budget.holds(now_ns)]:
                self._forget(device)

    def _forget(self, device: str) -> None:
        budget = self._budgets.pop(device, None)
        if budget is not None:
            beyond = max(0, len(budget.used) - ASSURED)
            self._kept -= len(budget.used)
            self._shared -= beyond
            self._sharers -= beyond > 0

    def _refuse(self, budget: _Budget, name: str, why: str) -> NoReturn:
        self.refused += 1
        if len(budget.used) >= self.per_day:
            text = f"the device has begun {self.per_day} series, as many as it may in a day, and {why}"
        else:
            self.refused_shared += 1
            text = (
                f"all devices together have begun so many series in a day that none may begin more than its share, "
                f"of which this one has used up {len(budget.used)}, and {why}"
            )
        raise ReadingError(Code.TOO_MANY_SERIES, text, cut(name, MAX_SHOWN_NAME))
