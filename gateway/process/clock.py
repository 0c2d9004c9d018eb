"""Whether the machine's clock can be believed.

Rules that hold here:

* A clock before `EARLIEST_NS` was never set: a board without a battery that has booted without a network. No readings
  are accepted then, because the gateway stamps readings without a time, and tells devices its time in the welcome.
* Any other doubt is a warning and stops nothing: the clock may be right, and what it is compared with wrong.
* Nothing waits or expires by this clock: timers are monotonic.
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
"""2025-01-01: this gateway did not exist before."""
JUMP_NS = 2 * NS_PER_S
"""A larger change between two looks is no slewing: the clock was set."""
BEHIND_NS = 60 * NS_PER_S
"""How far behind the newest file the clock may be without a warning."""
TOLD_NS = 600 * NS_PER_S
"""How long after a jump there is a warning of it."""


class WallClock:
    """The wall clock, compared with the monotonic one twice a second (`look`)."""

    def __init__(
        self, wall_ns: Callable[[], int] = time.time_ns, monotonic_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._wall_ns = wall_ns
        self._monotonic_ns = monotonic_ns
        self._offset_ns = wall_ns() - monotonic_ns()
        """How far the wall clock was ahead of the monotonic one at the last look."""
        self._jumped: tuple[int, int] | None = None
        """When the clock jumped last, on the monotonic clock, and by how much; both in ns."""
        self.newest_ns = 0
        """When the newest file of the spool was written, as found at the start; 0 if there is none."""
        self.jumps = 0
        """How often the clock has jumped."""
        self.wrong: str | None = None
        """Why no readings are accepted; None while the clock is good enough."""
        self.look()

    def look(self) -> None:
        """Compare the clock with the monotonic one, and with the earliest time that it can show."""
        wall, monotonic = self._wall_ns(), self._monotonic_ns()
        before, self._offset_ns = self._offset_ns, wall - monotonic
        by = self._offset_ns - before
        if abs(by) > JUMP_NS:
            self.jumps += 1
            self._jumped = monotonic, by
            log.warning("the machine's clock jumped by %+.1f s, to %s", by / NS_PER_S, _text(wall))
        never_set = wall < EARLIEST_NS
        if never_set and self.wrong is None:
            log.error(
                "the machine's clock says %s and was never set: no readings are accepted until it is", _text(wall)
            )
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
