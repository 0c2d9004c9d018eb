"""Tells the operator how delivery works: a state for /readyz, and a few lines in the log.

The log has one line when the database stops taking batches, one when the kind of failure changes, one a minute while
the failure lasts, and one when it is over. A failure that comes and goes within seconds does not fill the log.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gateway.delivery.write_result import OperatorNeeded

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.delivery.write_result import RetryLater

log = logging.getLogger(__name__)

LOG_INTERVAL = 60.0
"""Seconds between two lines about a failure that lasts."""
RELAPSE_INTERVAL = 10.0
"""Seconds between a line about a failure and the next one about the same failure after a recovery."""

StateName = Literal["delivering", "retrying", "held"]


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """Whether the database takes batches, ``since`` a moment in seconds since 1970.

    ``retrying``: it fails, and delivery retries. ``held``: it fails until an operator acts. ``kind`` and ``reason``
    are those of the write's result, empty while ``delivering``.
    """

    name: StateName
    kind: str
    reason: str
    since: float


class Health:
    """Keeps ``state`` and writes the log lines. ``waiting`` counts the readings not yet delivered."""

    def __init__(
        self,
        waiting: Callable[[], int],
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._waiting = waiting
        self._wall = wall
        self._monotonic = monotonic
        # When (monotonic seconds) the last line about each failure was written; keys are state and kind.
        self._logged_at: dict[str, float] = {}
        # Whether the current failure has no log line yet. If it ends so, its end is not logged either.
        self._unlogged = True
        # Monotonic seconds; has a meaning while the state is not "delivering".
        self._failing_since = 0.0
        # Dead letters since the last line about them, and when that was (None: never).
        self._dead_letters = 0
        self._dead_letters_logged_at: float | None = None
        self.state = DatabaseState("delivering", "", "", wall())

    def failing(self, result: RetryLater | OperatorNeeded, delay: float) -> None:
        """The database did not take a batch; the next try is ``delay`` seconds away."""
        now = self._monotonic()
        name: StateName = "held" if isinstance(result, OperatorNeeded) else "retrying"
        before = self.state
        if before.name == "delivering":
            self._failing_since, self._unlogged = now, True
        since = before.since if before.name == name else self._wall()
        self.state = DatabaseState(name, result.kind, result.reason, since)
        interval = RELAPSE_INTERVAL if before.name == "delivering" else LOG_INTERVAL
        if self._log_is_due(f"{name} {result.kind}", now, interval):
            self._unlogged = False
            log.warning(
                "delivery %s (%s): %s; next try in %.1f s, failing for %.0f s, %d readings wait",
                "fails until an operator acts" if name == "held" else "fails",
                result.kind,
                result.reason,
                delay,
                now - self._failing_since,
                self._waiting(),
            )

    def recovered(self) -> None:
        """The database takes batches again."""
        if self.state.name == "delivering":
            return
        if not self._unlogged:
            seconds = self._monotonic() - self._failing_since
            log.info("delivery works again after %.1f s, %d readings waited", seconds, self._waiting())
        self.state = DatabaseState("delivering", "", "", self._wall())

    def dead_letter(self, device: str, kind: str, reason: str) -> None:
        """A point was refused and is kept as a dead letter."""
        self._dead_letters += 1
        now = self._monotonic()
        if self._dead_letters_logged_at is not None and now - self._dead_letters_logged_at < LOG_INTERVAL:
            return
        log.warning(
            "points refused by the database and kept as dead letters: %d; the last one of device %s: %s",
            self._dead_letters,
            device,
            kind,
            extra={"device": device, "code": kind},
        )
        log.debug("the database's reason for the refusal (it may quote the point): %s", reason)
        self._dead_letters, self._dead_letters_logged_at = 0, now

    def _log_is_due(self, failure: str, now: float, interval: float) -> bool:
        last = self._logged_at.get(failure)
        if last is not None and now - last < interval:
            return False
        self._logged_at = {key: at for key, at in self._logged_at.items() if now - at < LOG_INTERVAL} | {failure: now}
        return True
