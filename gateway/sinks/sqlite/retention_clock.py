"""The clock by which old readings are deleted: a jump far forward is not believed for a day.

Otherwise a board whose clock jumps to 2038 would delete its whole history as too old. If the clock is set right within
the day, nothing is lost. If it was slow and is right after the jump, deletion is a day late.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from gateway.time_units import NS_PER_DAY, NS_PER_HOUR, NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable

FAR_NS = NS_PER_HOUR
"""A jump forward by more is doubted."""
DOUBTED_NS = NS_PER_DAY
"""So long is a jump doubted."""
PLAUSIBLE_NS = 1_735_689_600 * NS_PER_S
"""2025-01-01: a clock before it was never set, so that a jump from there is no mistake."""


class RetentionClock:
    """Now, in ns since 1970. May be called from any thread."""

    def __init__(
        self, wall_ns: Callable[[], int] = time.time_ns, monotonic_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._wall_ns = wall_ns
        self._monotonic_ns = monotonic_ns
        # Guards the two below.
        self._lock = threading.Lock()
        # What the believed time is ahead of the monotonic clock.
        self._offset_ns = wall_ns() - monotonic_ns()
        # When (monotonic ns) a jump was first seen; None while the machine's clock is believed.
        self._doubted_since: int | None = None

    def __call__(self) -> int:
        """The machine's clock, or while a jump is doubted, the time without that jump."""
        with self._lock:
            wall, monotonic = self._wall_ns(), self._monotonic_ns()
            undisturbed = monotonic + self._offset_ns
            if wall - undisturbed > FAR_NS and undisturbed > PLAUSIBLE_NS:
                if self._doubted_since is None:
                    self._doubted_since = monotonic
                if monotonic - self._doubted_since < DOUBTED_NS:
                    return undisturbed
            self._offset_ns, self._doubted_since = wall - monotonic, None
            return wall
