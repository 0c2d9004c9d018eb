"""When the next write may start: one backoff for all writers of a database.

Rules that hold here:

* One failure stops all writers. While the database fails, one batch at a time tests whether it is back, and only the
  result of that test counts. Writes that were already under way when the failure became known neither lengthen the
  wait nor end it.
* Retries never end: the delay grows up to a bound; the number of attempts has no bound.
* The next write never starts before the database's own Retry-After is over, up to a bound.

Full jitter after "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.delivery.write_result import OperatorNeeded, RetryLater

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_EXPONENT = 32
"""The largest n in ``first`` * 2**n. Beyond it the delay would exceed every sensible ``max_delay`` anyway."""


@dataclass(frozen=True, slots=True)
class BackoffBounds:
    """Delays in seconds.

    After failure n (the first is 0), the wait is between 0 and ``first`` * 2**n, at most ``max_delay``. A Retry-After
    is followed up to ``max_retry_after``. While an operator has to act, the wait is ``operator_needed``.
    """

    first: float = 0.5
    max_delay: float = 30.0
    max_retry_after: float = 300.0
    operator_needed: float = 15.0


class Backoff:
    """Decides when writes may start, from the results of earlier ones."""

    def __init__(self, bounds: BackoffBounds, uniform: Callable[[float, float], float] = random.uniform) -> None:
        # Tests that failed in a row; 0 while the database works.
        self.failures = 0
        # The moment (monotonic seconds) before which nothing is written.
        self.opens_at = 0.0
        # Counts the failures and redirects so far. A write remembers the round in which it started: a result of an
        # earlier round does not tell whether the database works now.
        self.round = 0
        self._bounds = bounds
        self._uniform = uniform

    def admits(self, now: float, in_flight: int) -> bool:
        """Whether another write may start beside those in flight."""
        return self.failures == 0 or (in_flight == 0 and now >= self.opens_at)

    def answered(self, started: int) -> None:
        """The database took or refused a write that started in round ``started``: it works."""
        if started == self.round:
            self.failures = 0

    def restart(self) -> None:
        """Forget all results: writes go to another database from now on."""
        self.failures, self.opens_at = 0, 0.0
        self.round += 1

    def failed(self, result: RetryLater | OperatorNeeded, started: int, now: float) -> float:
        """A write that started in round ``started`` was not taken; returns the seconds until the next may start."""
        current = started == self.round
        if current:
            self.round += 1
            self.failures += 1
            self.opens_at = now
        self.opens_at = max(self.opens_at, now + self._delay(result, current=current))
        return self.opens_at - now

    def _delay(self, result: RetryLater | OperatorNeeded, *, current: bool) -> float:
        bounds = self._bounds
        if isinstance(result, OperatorNeeded):
            return bounds.operator_needed
        if result.after is not None:
            return min(max(result.after, 0.0), bounds.max_retry_after) + self._uniform(0.0, bounds.first)
        if not current:
            return 0.0
        exponent = min(self.failures - 1, MAX_EXPONENT)
        return self._uniform(0.0, min(bounds.max_delay, bounds.first * 2**exponent))
