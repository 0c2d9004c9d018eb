"""``/v1/status`` and ``/v1/status/history``: how the gateway is doing."""

from __future__ import annotations

import asyncio
import time

from gateway.api.handler import ViewerHandler
from gateway.live.readiness import readiness
from gateway.live.status import DAY


class StatusHandler(ViewerHandler):
    """``GET /v1/status``."""

    async def get(self) -> None:
        """What ``totals`` of the live feed says, and the reasons of /readyz."""
        census = self.context.fleet.census(time.time_ns())
        states = None
        while states is None:
            try:
                next(census)
                await asyncio.sleep(0)
            except StopIteration as end:
                states = end.value
        ready = readiness(self.context)
        reasons = [*ready["blocking"], *ready["warnings"]]
        self.answer(self.context.status.totals(states) | {"ready": ready["ready"], "reasons": reasons})


class StatusHistoryHandler(ViewerHandler):
    """``GET /v1/status/history?seconds=``."""

    def get(self) -> None:
        """Columns of samples, oldest first; null where something is not known."""
        self.answer(self.context.status.history(self.number("seconds", 3600, 5, DAY)))
