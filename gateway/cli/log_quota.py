"""The quota of log lines for each device, so that a broken or hostile device does not fill the disk.

Rules that hold here:

* Lines that are left out are counted. The log says so when this begins, and how many there were when the window ends.
* All devices together have a quota too, which many device ids cannot get around. The table of windows is bounded.
* Lines about no device are counted by the place in the code that they come from, with a far larger quota.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW_SECONDS = 600.0
"""How long the lines of one key are counted together."""
MAX_LINES_PER_DEVICE = 20
"""Lines in a window. About half a megabyte a day at the worst."""
MAX_LINES_OF_ALL_DEVICES = 1000
MAX_LINES_PER_PLACE = 200
MAX_KEYS = 1024
ALL_DEVICES = "all devices"


class Verdict(Enum):
    """Whether a line is written."""

    WRITE = auto()
    WRITE_LAST = auto()
    """It is written, and the following lines are left out."""
    LEAVE_OUT = auto()


@dataclass(slots=True)
class _Window:
    ends: float
    lines: int = 0
    left_out: int = 0


class LogQuota:
    """Counts lines by key. One thread at a time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: OrderedDict[str, _Window] = OrderedDict()
        """One window for each device and each place in the code, the oldest first."""
        self._shared: OrderedDict[str, _Window] = OrderedDict()  # apart, so that many device ids do not push it out

    def of_device(self, device: str) -> Verdict:
        """A line is about ``device``."""
        own = self._count(self._windows, f"device {device}", MAX_LINES_PER_DEVICE)
        if own is Verdict.LEAVE_OUT:
            return own
        shared = self._count(self._shared, ALL_DEVICES, MAX_LINES_OF_ALL_DEVICES)
        return own if shared is Verdict.WRITE else shared

    def of_place(self, place: str) -> Verdict:
        """A line is about no device and comes from ``place``."""
        return self._count(self._windows, place, MAX_LINES_PER_PLACE)

    def take_ended(self) -> list[tuple[str, int]]:
        """The windows that ended since the last call and left out lines: the key, and how many lines."""
        now = self._clock()
        over = []
        for windows in (self._windows, self._shared):
            while windows:
                key, window = next(iter(windows.items()))
                if window.ends > now and len(windows) <= MAX_KEYS:
                    break
                del windows[key]
                if window.left_out:
                    over.append((key, window.left_out))
        return over

    def _count(self, windows: OrderedDict[str, _Window], key: str, most: int) -> Verdict:
        window = windows.get(key)
        if window is None:
            window = windows[key] = _Window(self._clock() + WINDOW_SECONDS)
        if window.lines >= most:
            window.left_out += 1
            return Verdict.LEAVE_OUT
        window.lines += 1
        return Verdict.WRITE_LAST if window.lines == most else Verdict.WRITE
