"""``/v1/status`` and ``/v1/status/history``: how the gateway is doing."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from gateway.api.handler import ViewerHandler
from gateway.live.status import DAY

if TYPE_CHECKING:
    from gateway.devices.fleet import Fleet
    from gateway.live.feed import LiveFeed
    from gateway.live.readiness import Readiness
    from gateway.live.status import Status


class StatusHandler(ViewerHandler):
    """``GET /v1/status``."""

    feed: LiveFeed
    fleet: Fleet
    status: Status
    readiness: Readiness

    async def get(self) -> None:
        """The ``totals`` of the live feed, and the reasons of /readyz."""
        census = self.fleet.census(time.time_ns())
        states = None
        while states is None:
            try:
                next(census)
                await asyncio.sleep(0)
            except StopIteration as end:
                states = end.value
        ready = self.readiness.report()
        reasons = [*ready["blocking"], *ready["warnings"]]
        self.answer(self.status.totals(states, self.feed.viewers) | {"ready": ready["ready"], "reasons": reasons})


class StatusHistoryHandler(ViewerHandler):
    """``GET /v1/status/history?seconds=``."""

    status: Status

    def get(self) -> None:
        """Columns of samples, oldest first; null where something is not known."""
        self.answer(self.status.history(self.number("seconds", 3600, 5, DAY)))
