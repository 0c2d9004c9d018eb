"""How far a device's clock is off, from what the device says of its time.

The offset is what has to be added to the device's time to get the gateway's, as in RFC 5905 section 8.

Rules that hold here:

* A sample is an interval that contains the offset, because no message arrives before it was sent. A moment that the
  device read before a message of its own arrived here is an upper bound; one that it read after a message of the
  gateway arrived there is a lower bound. With all four times of an exchange it is Cristian's interval: its middle is
  the offset of RFC 5905, and half of it is the largest error that an asymmetric line can cause.
* The known interval is what all samples allow, each widened by the drift of clocks for the time since. So it is never
  worse than the best of them, which RFC 5905's clock filter looks for, and takes the memory of one.
* A sample that contradicts the others is of a clock that was set: it counts alone from then on.
* A correction stays the same as long as it may be right. So times are moved evenly, and a reading that is sent again is
  moved as before.
* The known interval is of one boot: after a restart the device may have another clock.
"""

from __future__ import annotations

from dataclasses import dataclass

DRIFT_PER_NS = 10_000
"""One part in so many: 100 ppm, which crystals without compensation keep to."""
RESOLUTION_NS = 1_000_000
"""Devices count milliseconds, and may have cut them off or rounded."""
MIN_WRONG_NS = 1_000_000_000
"""A clock that is off by less is not wrong enough to move times that may be right."""
USUAL_WAY_NS = 500_000_000
"""A message seldom takes longer; assumed where nothing bounds the time that it took."""


@dataclass(frozen=True, slots=True)
class Sample:
    """At ``at_ns`` of the gateway the offset was from ``low_ns`` to ``high_ns``.

    ``exchanged``: the lower bound comes from the device, which said when an answer arrived.
    """

    at_ns: int
    low_ns: int
    high_ns: int
    exchanged: bool = False

    def after(self, now_ns: int) -> Sample:
        """What it says about another moment."""
        slack = abs(now_ns - self.at_ns) // DRIFT_PER_NS
        return Sample(now_ns, self.low_ns - slack, self.high_ns + slack, self.exchanged)


@dataclass(frozen=True, slots=True)
class Estimate:
    """The offset in ns, which is not further off than ``uncertainty_ns``; ``at_ns`` is when the device last told."""

    offset_ns: int
    uncertainty_ns: int
    at_ns: int


class DeviceClock:
    """What is known of one device's clock in one boot. An effect, too: keep it for the device's next connection."""

    __slots__ = ("_correction_ns", "_known", "boot")

    def __init__(self, boot: str) -> None:
        self.boot = boot
        self._known: Sample | None = None
        """The interval that all samples allow; None before the first."""
        self._correction_ns: int | None = None
        """The correction that is in use; None before the first."""

    def note(self, sample: Sample) -> None:
        """The device told its time. A sample that contradicts itself comes of a clock that was set meanwhile."""
        if sample.low_ns > sample.high_ns:
            self._known = None
        elif self._known is None:
            self._known = sample
        else:
            self._known = both(self._known, sample)

    def estimate(self, now_ns: int) -> Estimate | None:
        """The offset at ``now_ns``; None while nothing is known."""
        known = self._known
        if known is None:
            return None
        now = known.after(now_ns)
        half = (now.high_ns - now.low_ns) // 2
        offset = now.high_ns - (half if now.exchanged else min(half, USUAL_WAY_NS))
        return Estimate(offset, max(now.high_ns - offset, offset - now.low_ns), known.at_ns)

    def correction(self, now_ns: int) -> int | None:
        """What to add to the device's times, in ns; None where its clock is not known, or may be right."""
        estimate = self.estimate(now_ns)
        if self._known is None or estimate is None:
            return None
        now = self._known.after(now_ns)
        if now.low_ns <= 0 <= now.high_ns:
            return None
        if self._correction_ns is None or not now.low_ns <= self._correction_ns <= now.high_ns:
            self._correction_ns = estimate.offset_ns
        return self._correction_ns

    def wrong(self, now_ns: int) -> Sample | None:
        """The interval of a clock that is wrong beyond doubt, else None.

        Its bounds are further from 0 than from the middle of the interval, and than a second.
        """
        if self._known is None:
            return None
        now = self._known.after(now_ns)
        least = max(now.low_ns, -now.high_ns)
        return now if least > max(MIN_WRONG_NS, (now.high_ns - now.low_ns) // 2) else None


def both(older: Sample, newer: Sample) -> Sample:
    """What both allow at the time of the newer one; the newer one if they contradict each other."""
    older = older.after(newer.at_ns)
    low = max(older, newer, key=lambda sample: sample.low_ns)
    high_ns = min(older.high_ns, newer.high_ns)
    return Sample(newer.at_ns, low.low_ns, high_ns, low.exchanged) if low.low_ns <= high_ns else newer
