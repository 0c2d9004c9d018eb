"""Which times of readings a profile takes, seen from their arrival, and what becomes of the others.

Rules that hold here:

* A message all of whose times are within the bounds is stored as it was sent, whatever is known of the clock: a device
  that has just set its clock must not be set wrong again.
* Only a time by the device's clock (``ts``, ``t0``) is ever corrected, and only if the clock is known to be wrong. What
  is outside afterwards, or cannot be corrected, is refused: a profile that corrects stores nothing outside.
* Times that one clock told must not be torn apart at the bound. So where one time of a message is outside and the clock
  is wrong beyond doubt, all of them are corrected; a block is in any case. What would come after its arrival even by
  the least that the clock may be wrong was told by a clock that was set meanwhile, and stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gateway.config.units import format_duration
from gateway.errors import ReadingError
from gateway.protocol.messages import Code
from gateway.protocol.timestamps import MAX_NS, MIN_NS
from gateway.protocol.value_text import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.config.sections import TimestampsSection
    from gateway.protocol.device_clock import DeviceClock, Sample

DEVICE_TIME = "device_time_ms"
"""The field for the time that a device sent, where another one is stored."""
ANY_AGE_NS = MAX_NS - MIN_NS


@dataclass(frozen=True, slots=True)
class TimeBounds:
    """A profile's bounds in ns, and whether it corrects what is outside; ``text`` names them."""

    ahead_ns: int
    behind_ns: int
    corrects: bool
    text: str


@lru_cache(maxsize=256)
def bounds_of(section: TimestampsSection) -> TimeBounds | None:
    """The bounds of a profile; None if it keeps every time."""
    if section.when_outside == "keep":
        return None
    ahead, behind = section.max_future, section.max_age
    before = "" if behind is None else f"{format_duration(behind)} before and "
    text = f"a time at most {before}{format_duration(ahead)} after its arrival"
    behind_ns = ANY_AGE_NS if behind is None else round(behind * 1e9)
    return TimeBounds(round(ahead * 1e9), behind_ns, section.when_outside == "correct", text)


@dataclass(slots=True)
class Vetting:
    """The times of a message that arrived at ``now_ns``, of a device of whose clock this is known."""

    bounds: TimeBounds
    clock: DeviceClock | None
    now_ns: int
    together: Sample | None = None
    """The clock, where all that it told in this message is corrected."""
    corrected: int = 0
    """Readings that are stored with another time than they came with."""

    def holds(self, time_ns: int) -> bool:
        """Whether a time is within the bounds."""
        return -self.bounds.behind_ns <= time_ns - self.now_ns <= self.bounds.ahead_ns

    def correction(self) -> int:
        """What to add to times by the device's clock that are outside, in ns; 0 where that cannot be known."""
        known = self.clock.correction(self.now_ns) if self.bounds.corrects and self.clock is not None else None
        return known or 0

    def look(self, times: Iterable[int]) -> None:
        """Those of the message by the device's clock, before the first one is settled."""
        wrong = self.clock.wrong(self.now_ns) if self.bounds.corrects and self.clock is not None else None
        if wrong is not None and not all(map(self.holds, times)):
            self.together = wrong

    def settle(self, time_ns: int, value: Any, key: str, *, by_clock: bool) -> tuple[int, int]:
        """The time to store, and what was added to the one that came; ``by_clock``: the device's.

        Raises:
            ReadingError: ``timestamp_out_of_range``.
        """
        wrong = self.together if by_clock else None
        if self.holds(time_ns) and (wrong is None or time_ns + wrong.low_ns > self.now_ns):
            return time_ns, 0
        added = self.correction() if by_clock else 0
        return self.checked(time_ns + added, added, value, key), added

    def checked(self, time_ns: int, added: int, value: Any, key: str) -> int:
        """``time_ns``, to which ``added`` was added already, if it may be stored.

        Raises:
            ReadingError: ``timestamp_out_of_range``.
        """
        if self.holds(time_ns) and MIN_NS <= time_ns <= MAX_NS:
            return time_ns
        text = f"expected {self.bounds.text}, got {shown(value)}"
        if added:
            text += f", which is no such time when corrected by {added / 1e9:+.3f} s either"
        elif self.bounds.corrects:
            text += ", and the clock is not known to be wrong"
        raise ReadingError(Code.TIMESTAMP_OUT_OF_RANGE, text, key)
