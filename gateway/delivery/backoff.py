"""When the next write may start: backoff shared by all writers of one database.

Rules that hold here:

* One failure stops all: while the database fails, one batch at a time asks whether it is back, and only its answer
  counts. Writes that were under way when the failure became known neither lengthen the wait nor end it.
* Waiting has no end: the delay grows up to a bound, the number of tries does not.
* The database's own Retry-After is never undercut, up to a bound.

Full jitter after "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.delivery.write_result import OperatorNeeded, RetryLater

if TYPE_CHECKING:
    from collections.abc import Callable

LARGEST_EXPONENT = 32


@dataclass(frozen=True, slots=True)
class BackoffBounds:
    """Delays in seconds.

    The n-th failure waits between 0 and ``first`` * 2**n, at most ``longest``; Retry-After is followed up to
    ``retry_after``; where an operator has to act, the database is asked every ``held``.
    """

    first: float = 0.5
    longest: float = 30.0
    retry_after: float = 300.0
    held: float = 15.0


class Backoff:
    """``failures`` in a row, and ``opens_at``, the moment (monotonic seconds) before which nothing is written."""

    def __init__(self, bounds: BackoffBounds, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self.failures = 0
        self.opens_at = 0.0
        self.round = 0
        self._bounds = bounds
        self._uniform = uniform

    def admits(self, now: float, in_flight: int) -> bool:
        """Whether another write may start beside those in flight."""
        return self.failures == 0 or (in_flight == 0 and now >= self.opens_at)

    def answered(self, started: int) -> None:
        """The database dealt with a write that started in round ``started``."""
        if started == self.round:
            self.failures = 0

    def restart(self) -> None:
        """It is another database from now on, and nothing is known about it."""
        self.failures, self.opens_at = 0, 0.0
        self.round += 1

    def failed(self, outcome: RetryLater | OperatorNeeded, started: int, now: float) -> float:
        """A write that started in round ``started`` was not taken; the seconds until the next one may start."""
        asked = started == self.round
        if asked:
            self.round += 1
            self.failures += 1
            self.opens_at = now
        self.opens_at = max(self.opens_at, now + self._delay(outcome, asked=asked))
        return self.opens_at - now

    def _delay(self, outcome: RetryLater | OperatorNeeded, *, asked: bool) -> float:
        bounds = self._bounds
        if isinstance(outcome, OperatorNeeded):
            return bounds.held
        if outcome.after is not None:
            return min(max(outcome.after, 0.0), bounds.retry_after) + self._uniform(0.0, bounds.first)
        if not asked:
            return 0.0
        exponent = min(self.failures - 1, LARGEST_EXPONENT)
        return self._uniform(0.0, min(bounds.longest, bounds.first * 2**exponent))
