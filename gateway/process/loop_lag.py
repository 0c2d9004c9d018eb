"""How late the timers of the event loop run, kept long enough to be seen: a blocked loop cannot be asked meanwhile."""

from __future__ import annotations

SPAN = 15.0
"""Seconds; a delay stays visible for one to two spans, so that a scrape every 15 s sees it."""


class LoopLag:
    """The longest recent delay, in seconds. Moments are on the event loop's clock."""

    def __init__(self) -> None:
        self._begun = 0.0
        """When the present span began."""
        self._before = self._worst = 0.0
        """The longest delay of the span before, and of the present one."""

    def note(self, seconds: float, now: float) -> None:
        """A timer ran so many seconds late."""
        self._roll(now)
        self._worst = max(self._worst, seconds)

    def worst(self, now: float) -> float:
        """The longest of the last 15 to 30 s."""
        self._roll(now)
        return max(self._before, self._worst)

    def _roll(self, now: float) -> None:
        if now - self._begun >= SPAN:
            self._before = self._worst if now - self._begun < 2 * SPAN else 0.0
            self._worst, self._begun = 0.0, now
