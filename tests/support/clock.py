"""A clock that a test sets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Clock:
    """Called, it tells ``now``."""

    now: float = 1000.0

    def __call__(self) -> float:
        """The time, in the unit of whoever asks."""
        return self.now
