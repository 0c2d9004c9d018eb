"""How many series each device may begin in a day. A database keeps an index of series, and that only grows.

A series is counted when a device brings a measurement or tags of its own that it has not used that day, and when it
brings a field that no device has sent before. The ordinary case, the device's own series with known names, is free.

Rules that hold here:

* The series that a device has used stay counted over its reconnects, for a day from the first. A restart begins anew.
* A series stays counted if its message is not accepted in the end: sent again, it is the same series.
* A refusal names the tag, or ``m``, whose values change most from series to series among those of the reading. It says
  whether the device has used up its own budget, or all devices together have used up what they share.
* Hashes are kept. `ASSURED` series a day are a device's own, whatever others do, so that memory grows with the number
  of devices. Further ones are shared: `MAX_SHARED` for all devices. When these are used up, each device that goes
  beyond has an equal part of as many, up to twice `MAX_SHARED` in all. So the largest users are refused first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from gateway.errors import ReadingError
from gateway.protocol.messages import Code
from gateway.protocol.value_text import MAX_SHOWN_NAME, cut
from gateway.time_units import NS_PER_DAY, NS_PER_HOUR

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MEASUREMENT = "m"
PER_DAY = 1000
ASSURED = 100
"""Some 100 bytes each: in all a seventh of what is kept of a device anyway."""
MAX_SHARED = 250_000


@dataclass(slots=True)
class _Budget:
    ends_ns: int
    """The end of its day, in ns since 1970."""
    used: set[int] = field(default_factory=set)
    """Hashes of the series that it has begun."""
    last: dict[str, int] = field(default_factory=dict)
    """The hash of the last value of each tag, and of ``m``."""
    changes: dict[str, int] = field(default_factory=dict)
    """How often that value changed from one series to the next."""

    def holds(self, now_ns: int) -> bool:
        """Whether its day is under way; not if the clock was set back behind it."""
        return self.ends_ns - NS_PER_DAY <= now_ns < self.ends_ns


class Budgets:
    """The budgets of all devices: ``per_day`` series each, and ``shared`` of all together beyond the assured ones."""

    def __init__(self, per_day: int = PER_DAY, shared: int = MAX_SHARED) -> None:
        self.per_day = per_day
        self._max_shared = shared
        self._budgets: dict[str, _Budget] = {}
        """By device."""
        self._kept = 0
        """Series of all devices."""
        self._shared = 0
        """Series of all devices beyond the assured ones."""
        self._sharers = 0
        """Devices that have such series."""
        self._cleared_ns = 0
        """When devices were forgotten last whose day was over."""
        self.refused = 0
        """Readings that were refused because a budget was used up."""
        self.refused_shared = 0
        """Those of them for which only the shared budget was too small."""

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
            if self._kept >= self._max_shared:
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
        if self._shared >= self._max_shared:
            self._clear(now_ns)
        sharers = self._sharers + (used == ASSURED)
        equal = self._shared < 2 * self._max_shared and (used - ASSURED) * sharers < self._max_shared
        return self._shared < self._max_shared or equal

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
