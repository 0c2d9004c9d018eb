"""How many series each device may begin in a day: a database keeps an index of them, and it only grows.

A series is counted when a device brings a measurement or tags of its own that it has not used that day, and when it
brings a field that no device has before. The ordinary way, the device's own series under names met before, is free.

Rules that hold here:

* What a device used stays counted over its reconnects, for a day from the first; a restart begins anew.
* A refusal names the tag, or ``m``, whose values change most from series to series among those of the reading.
* Kept are hashes, `MOST_KEPT` of all devices together. Beyond it a device may begin `LEAST` a day: many that went mad
  together cannot fill the index either, and what they do refuses hardly anything of the others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from gateway.errors import ReadingError
from gateway.protocol.messages import Code
from gateway.protocol.shown import MAX_SHOWN_NAME, cut

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MEASUREMENT = "m"
PER_DAY = 1000
MOST_KEPT = 250_000
"""Some 100 bytes each."""
LEAST = 10
DAY_NS = 86_400 * 10**9
HOUR_NS = 3600 * 10**9


@dataclass(slots=True)
class _Budget:
    ends_ns: int
    used: set[int] = field(default_factory=set)
    last: dict[str, int] = field(default_factory=dict)
    changes: dict[str, int] = field(default_factory=dict)


class Budgets:
    """The budgets of all devices; ``per_day`` series each."""

    def __init__(self, per_day: int = PER_DAY, most: int = MOST_KEPT) -> None:
        self.per_day = per_day
        self._most = most
        self._budgets: dict[str, _Budget] = {}
        self._kept = 0
        self._cleared_ns = 0
        self.refused = 0
        """Readings refused because of them."""

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
        if len(budget.used) >= self._allowed(now_ns):
            self._refuse(max(named, key=lambda name: budget.changes.get(name, 0)), "its values make one more")
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
                if len(budget.used) >= self._allowed(now_ns):
                    self._refuse(name, "a field that is new is one more")
                self._use(budget, key)

    def _of(self, device: str, now_ns: int) -> _Budget:
        budget = self._budgets.get(device)
        if budget is None or not budget.ends_ns - DAY_NS <= now_ns < budget.ends_ns:  # or the clock was set back
            self._forget(device)
            budget = self._budgets[device] = _Budget(now_ns + DAY_NS)
        return budget

    def _use(self, budget: _Budget, key: int) -> None:
        budget.used.add(key)
        self._kept += 1

    def _allowed(self, now_ns: int) -> int:
        """How many series a device may have begun before the next one is refused."""
        if self._kept >= self._most and not 0 <= now_ns - self._cleared_ns < HOUR_NS:
            self._cleared_ns = now_ns
            for device in [known for known, budget in self._budgets.items() if budget.ends_ns <= now_ns]:
                self._forget(device)
        return self.per_day if self._kept < self._most else min(self.per_day, LEAST)

    def _forget(self, device: str) -> None:
        budget = self._budgets.pop(device, None)
        if budget is not None:
            self._kept -= len(budget.used)

    def _refuse(self, name: str, why: str) -> NoReturn:
        self.refused += 1
        text = f"the device has begun as many series as it may in a day, and {why}"
        raise ReadingError(Code.TOO_MANY_SERIES, text, cut(name, MAX_SHOWN_NAME))
