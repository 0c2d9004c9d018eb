"""The clock by which readings are deleted: one that was set far forward is not believed for a day.

A board whose clock jumps to 2038 would otherwise delete its whole history for being too old. Whoever sets it right
within the day loses nothing; a clock that was slow and is right now delays deletion by a day.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from gateway.time_units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable

FAR_NS = 3600 * NS_PER_S
DOUBTED_NS = 86_400 * NS_PER_S
PLAUSIBLE_NS = 1_735_689_600 * NS_PER_S
"""2025-01-01: a clock before it was never set, and any change of it is for the better."""


class RetentionClock:
    """Now, in ns since 1970. May be asked by any thread."""

    def __init__(
        self, wall_ns: Callable[[], int] = time.time_ns, monotonic_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._wall_ns = wall_ns
        self._monotonic_ns = monotonic_ns
        self._lock = threading.Lock()
        self._offset_ns = wall_ns() - monotonic_ns()
        self._doubted_since: int | None = None

    def __call__(self) -> int:
        """The machine's clock, or what it would say had nobody set it."""
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
