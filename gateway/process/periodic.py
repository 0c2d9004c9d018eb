"""Tasks that are repeated while the gateway runs: revocations, files that other processes change, the machine.

Each step has a loop of its own. A step that waits for a locked file, or fails, affects no other step, and above all no
revocation.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from typing import Any

    Step = Callable[[], Coroutine[Any, Any, None]]

log = logging.getLogger(__name__)

INTERVAL = 0.5
"""Seconds between two runs of a step."""


class PeriodicTasks:
    """Runs each of ``steps`` every ``interval`` seconds. The name of a step is the log line of its failure."""

    def __init__(self, steps: Mapping[str, Step], interval: float = INTERVAL) -> None:
        self._interval = interval
        self._tasks = [asyncio.create_task(self._repeat(step, failed)) for failed, step in steps.items()]

    async def _repeat(self, step: Step, failed: str) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                await step()
            except Exception:
                log.exception("%s", failed)

    def stop(self) -> None:
        """Cancel all steps."""
        for task in self._tasks:
            task.cancel()
