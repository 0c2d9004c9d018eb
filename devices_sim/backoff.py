"""How long a device waits before it connects again. Pure: the random numbers are given.

Full jitter (a moment anywhere between now and the bound), so that a fleet that lost its gateway at one moment does not
come back at one moment. The bound doubles with every attempt until something was acknowledged: a gateway that welcomes
and then closes is no better than one that refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

FIRST, BUSY, MOST = 0.5, 4.0, 30.0
"""Seconds: the first bound, that after the gateway said it is busy, and the largest."""
REPLACED_LEAST = 30.0
"""Seconds a device with a rival keeps away: the newest connection wins, so coming straight back would never end."""
_REPLACED = 4409
_OVERLOADED = (1013, 4429)


class Backoff:
    """The delays of one device; ``told`` (seconds) is what the gateway asked for, and counts once."""

    __slots__ = ("_attempts", "_rng", "told")

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._attempts = 0
        self.told: float | None = None

    def reset(self) -> None:
        """The connection is of use."""
        self._attempts = 0

    def delay(self, code: int | None) -> float:
        """Seconds until the next attempt after a connection that ended with ``code``, None for no close frame."""
        told, self.told = self.told, None
        if told is not None:
            return told
        if code == _REPLACED:
            return self._rng.uniform(REPLACED_LEAST, 2 * REPLACED_LEAST)
        bound = min(MOST, (BUSY if code in _OVERLOADED else FIRST) * 2 ** min(self._attempts, 10))
        self._attempts += 1
        return self._rng.uniform(0.0, bound)
