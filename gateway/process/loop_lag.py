"""The event loop's lag, kept long enough to be seen: a loop that is blocked cannot be asked while it is."""

from __future__ import annotations

SPAN = 15.0
"""Seconds; what happened stays visible for one to two of them, so that who asks every 15 s sees it."""


class LoopLag:
    """The longest delay of late, in seconds; moments are those of the event loop's clock."""

    def __init__(self) -> None:
        self._begun = 0.0
        self._before = self._worst = 0.0

    def note(self, seconds: float, now: float) -> None:
        """A timer ran so much too late."""
        self._turn(now)
        self._worst = max(self._worst, seconds)

    def worst(self, now: float) -> float:
        """The longest of the last 15 to 30 s."""
        self._turn(now)
        return max(self._before, self._worst)

    def _turn(self, now: float) -> None:
        if now - self._begun >= SPAN:
            self._before = self._worst if now - self._begun < 2 * SPAN else 0.0
            self._worst, self._begun = 0.0, now
