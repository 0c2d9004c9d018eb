"""What delivery tells the operator: its state for /readyz, and few but telling lines in the log.

One line when the database stops taking batches, one when the kind of trouble changes, one a minute while it lasts, one
when it is over. A trouble that comes and goes within seconds does not fill the log.
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
"""Seconds between two lines about a trouble that lasts."""
RELAPSE_INTERVAL = 10.0
"""Seconds between a line about a trouble and the next one about the same after a recovery."""

StateName = Literal["delivering", "retrying", "held"]


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """How delivery is doing ``since`` (seconds since 1970): ``held`` waits for an operator, ``retrying`` for itself."""

    name: StateName
    kind: str
    reason: str
    since: float


class Health:
    """Keeps `state` and writes the log lines. ``waiting`` counts the readings not yet delivered."""

    def __init__(
        self,
        waiting: Callable[[], int],
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._waiting = waiting
        self._wall = wall
        self._monotonic = monotonic
        self._told: dict[str, float] = {}
        self._silent = True
        self._failing_since = 0.0
        self._letters = 0
        self._letters_told: float | None = None
        self.state = DatabaseState("delivering", "", "", wall())

    def failing(self, outcome: RetryLater | OperatorNeeded, delay: float) -> None:
        """The database did not take a batch; the next try is ``delay`` seconds away."""
        now = self._monotonic()
        name: StateName = "held" if isinstance(outcome, OperatorNeeded) else "retrying"
        before = self.state
        if before.name == "delivering":
            self._failing_since, self._silent = now, True
        since = before.since if before.name == name else self._wall()
        self.state = DatabaseState(name, outcome.kind, outcome.reason, since)
        interval = RELAPSE_INTERVAL if before.name == "delivering" else LOG_INTERVAL
        if self._due(f"{name} {outcome.kind}", now, interval):
            self._silent = False
            log.warning(
                "delivery %s (%s): %s; next try in %.1f s, failing for %.0f s, %d readings wait",
                "is held until an operator acts" if name == "held" else "fails",
                outcome.kind,
                outcome.reason,
                delay,
                now - self._failing_since,
                self._waiting(),
            )

    def recovered(self) -> None:
        """The database takes batches again."""
        if self.state.name == "delivering":
            return
        if not self._silent:
            seconds = self._monotonic() - self._failing_since
            log.info("delivery works again after %.1f s, %d readings waited", seconds, self._waiting())
        self.state = DatabaseState("delivering", "", "", self._wall())

    def dead_letter(self, device: str, kind: str, reason: str) -> None:
        """A point was refused for good and kept."""
        self._letters += 1
        now = self._monotonic()
        if self._letters_told is not None and now - self._letters_told < LOG_INTERVAL:
            return
        log.warning(
            "points refused by the database and kept as dead letters: %d; the last one of device %s: %s",
            self._letters,
            device,
            kind,
            extra={"device": device, "code": kind},
        )
        log.debug("in the database's words, which may quote the point: %s", reason)
        self._letters, self._letters_told = 0, now

    def _due(self, trouble: str, now: float, interval: float) -> bool:
        last = self._told.get(trouble)
        if last is not None and now - last < interval:
            return False
        self._told = {key: at for key, at in self._told.items() if now - at < LOG_INTERVAL} | {trouble: now}
        return True
