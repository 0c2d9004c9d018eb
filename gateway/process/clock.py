"""Whether the machine's clock can be believed.

Rules that hold here:

* A clock before `EARLIEST_NS` was never set: a board without a battery that has booted without a network. Nothing is
  taken then, for the gateway stamps what has no time of its own, and tells its time to devices in the welcome.
* Any other doubt is told and stops nothing: the clock may be right and what it is compared with wrong.
* Nothing else here or elsewhere waits or expires by this clock: timers are monotonic.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gateway.time_units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

EARLIEST_NS = 1_735_689_600 * NS_PER_S
"""2025-01-01: no gateway of this kind ran before."""
JUMP_NS = 2 * NS_PER_S
"""Beyond what is slewed between two looks: somebody set the clock."""
BEHIND_NS = 60 * NS_PER_S
TOLD_NS = 600 * NS_PER_S
"""How long a jump is told after it happened."""


class WallClock:
    """Looked at twice a second (`look`); ``newest_ns`` is the newest moment that was found on the disk at the start."""

    def __init__(
        self, wall_ns: Callable[[], int] = time.time_ns, monotonic_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._wall_ns = wall_ns
        self._monotonic_ns = monotonic_ns
        self._offset_ns = wall_ns() - monotonic_ns()
        self._jumped: tuple[int, int] | None = None
        self.newest_ns = 0
        self.jumps = 0
        self.wrong: str | None = None
        """Why nothing is taken; None while the clock is good enough."""
        self.look()

    def look(self) -> None:
        """Compare the clock with what it was, and with when it cannot be."""
        wall, monotonic = self._wall_ns(), self._monotonic_ns()
        before, self._offset_ns = self._offset_ns, wall - monotonic
        by = self._offset_ns - before
        if abs(by) > JUMP_NS:
            self.jumps += 1
            self._jumped = monotonic, by
            log.warning("the machine's clock jumped by %+.1f s, to %s", by / NS_PER_S, _text(wall))
        never_set = wall < EARLIEST_NS
        if never_set and self.wrong is None:
            log.error("the machine's clock says %s and was never set: no readings are taken until it is", _text(wall))
        elif self.wrong is not None and not never_set:
            log.info("the machine's clock is set, to %s", _text(wall))
        self.wrong = f"the machine's clock says {_text(wall)} and was never set" if never_set else None

    def warnings(self) -> Iterator[str]:
        """What an operator should know."""
        wall = self._wall_ns()
        if self.wrong is None and wall < self.newest_ns - BEHIND_NS:
            yield (
                f"the machine's clock says {_text(wall)}, but the spool was written at {_text(self.newest_ns)}: "
                "one of the two is wrong, and readings without a time get this one"
            )
        if self._jumped is not None:
            at, by = self._jumped
            ago = self._monotonic_ns() - at
            if ago < TOLD_NS:
                yield f"the machine's clock jumped by {by / NS_PER_S:+.1f} s {ago / NS_PER_S:.0f} s ago"


def _text(moment_ns: int) -> str:
    return datetime.fromtimestamp(moment_ns // NS_PER_S, UTC).isoformat().replace("+00:00", "Z")
