"""What is looked at again and again while a gateway runs: who may still come in, files that others change, the machine.

Each step has a loop of its own: a file that is locked holds up, and a failure ends, nothing but its own step this time.
Above all a revocation waits for nothing else.
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

EVERY = 0.5


class PeriodicTasks:
    """Does each of ``steps`` every so many seconds; its name is what the log says when it fails."""

    def __init__(self, steps: Mapping[str, Step], every: float = EVERY) -> None:
        self._every = every
        self._tasks = [asyncio.create_task(self._repeat(step, failed)) for failed, step in steps.items()]

    async def _repeat(self, step: Step, failed: str) -> None:
        while True:
            await asyncio.sleep(self._every)
            try:
                await step()
            except Exception:
                log.exception("%s", failed)

    def stop(self) -> None:
        """Begin no step any more."""
        for task in self._tasks:
            task.cancel()
