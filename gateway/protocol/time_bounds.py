"""Which times of readings a profile accepts, relative to their arrival, and whether the others are corrected.

Rules that hold here:

* If all times of a message are within the bounds, it is stored as it was sent, whatever is known of the clock: times of
  a device that has just set its clock must not be made wrong again.
* Only a time by the device's clock (``ts``, ``t0``) is ever corrected, and only if the clock is known to be wrong. A
  time that is outside afterwards, or cannot be corrected, is refused: a profile that corrects stores nothing outside.
* The bound must not tear apart times of one clock. So if one time of a message is outside and the clock is wrong beyond
  doubt, all of them are corrected. In a block one time outside is enough. Exception: a time that even the
  smallest possible correction would put after its arrival was read after the clock was set, and stays.
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
"""The field with the time that the device sent, where a corrected one is stored."""
ANY_AGE_NS = MAX_NS - MIN_NS
"""The bound of a profile that has none for the age."""


@dataclass(frozen=True, slots=True)
class TimeBounds:
    """A profile's bounds in ns, and whether it corrects times outside of them. ``text`` names them in errors."""

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
    """Judges the times of a message that arrived at ``now_ns``, by the bounds and by what is known of the clock."""

    bounds: TimeBounds
    clock: DeviceClock | None
    now_ns: int
    together: Sample | None = None
    """The offset of the clock, if all its times in this message are corrected; set by `look`."""
    corrected: int = 0
    """Readings that are stored with another time than they came with."""

    def holds(self, time_ns: int) -> bool:
        """Whether a time is within the bounds."""
        return -self.bounds.behind_ns <= time_ns - self.now_ns <= self.bounds.ahead_ns

    def correction(self) -> int:
        """What to add to times by the device's clock that are outside, in ns; 0 if it is not known."""
        known = self.clock.correction(self.now_ns) if self.bounds.corrects and self.clock is not None else None
        return known or 0

    def look(self, times: Iterable[int]) -> None:
        """See all times of the message by the device's clock, before the first one is settled."""
        wrong = self.clock.wrong(self.now_ns) if self.bounds.corrects and self.clock is not None else None
        if wrong is not None and not all(map(self.holds, times)):
            self.together = wrong

    def settle(self, time_ns: int, value: Any, key: str, *, by_clock: bool) -> tuple[int, int]:
        """The time to store, and what was added to the one that was sent. ``by_clock``: it is by the device's clock.

        Raises:
            ReadingError: ``timestamp_out_of_range``.
        """
        wrong = self.together if by_clock else None
        if self.holds(time_ns) and (wrong is None or time_ns + wrong.low_ns > self.now_ns):
            return time_ns, 0
        added = self.correction() if by_clock else 0
        return self.checked(time_ns + added, added, value, key), added

    def checked(self, time_ns: int, added: int, value: Any, key: str) -> int:
        """``time_ns``, which includes the correction ``added``, if it may be stored.

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
