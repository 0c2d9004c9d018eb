"""How long a device waits before it connects again. Pure: the random numbers are given.

Rules that hold here:

* Full jitter: the moment is anywhere between now and a bound, so that a fleet that lost its gateway at one moment does
  not come back at one moment.
* The bound doubles with every attempt until something was acknowledged: a gateway that welcomes and then closes is no
  better than one that refuses.
* At the end of a run (`hurry`) the bound does not grow: a device that still holds readings has to reconnect within the
  time that is left for them. A delay that the gateway asked for is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

MIN_BOUND, MIN_BUSY_BOUND, MAX_BOUND = 0.5, 4.0, 30.0
"""Seconds: the first bound, the first one after the gateway said that it is busy, and the largest."""
MIN_REPLACED = 30.0
"""Seconds that a device with a rival keeps away: the newest connection wins, so two devices would replace each other
for ever."""
MAX_HURRIED = 1.0
"""Seconds: the bound at the end of a run; `MIN_BUSY_BOUND` if the gateway is busy or the device has a rival."""
_REPLACED = 4409
_OVERLOADED = (1013, 4429)


class Backoff:
    """The delays of one device."""

    __slots__ = ("_attempts", "_code", "_hurried", "_kept", "_rng", "told")

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._attempts = 0
        """Attempts since something was acknowledged."""
        self._hurried = False
        """Whether the run is ending."""
        self._code: int | None = None
        """The code of the last connection that ended; None for no close frame."""
        self._kept = False
        """Whether the gateway asked for the last delay."""
        self.told: float | None = None
        """Seconds that the gateway asked the device to wait; used for one delay. None: it asked for nothing."""

    def reset(self) -> None:
        """Something was acknowledged."""
        self._attempts = 0

    def hurry(self) -> float | None:
        """The run is ending: wait shortly from now on.

        Returns the seconds until an attempt that is waited for already; None if the gateway asked for that delay.
        """
        self._hurried = True
        return None if self._kept else self._drawn()

    def delay(self, code: int | None) -> float:
        """Seconds until the next attempt after a connection that ended with ``code``, None for no close frame."""
        told, self.told = self.told, None
        self._code, self._kept = code, told is not None
        return self._drawn() if told is None else told

    def _drawn(self) -> float:
        code = self._code
        if self._hurried:
            return self._rng.uniform(0.0, MIN_BUSY_BOUND if code in (_REPLACED, *_OVERLOADED) else MAX_HURRIED)
        if code == _REPLACED:
            return self._rng.uniform(MIN_REPLACED, 2 * MIN_REPLACED)
        bound = min(MAX_BOUND, (MIN_BUSY_BOUND if code in _OVERLOADED else MIN_BOUND) * 2 ** min(self._attempts, 10))
        self._attempts += 1
        return self._rng.uniform(0.0, bound)
