"""Reading the configuration again while the gateway runs (SIGHUP).

Rules that hold here:

* All or nothing: everything that can fail is done before anything is changed. A file that is refused leaves the
  settings in force, and `/readyz` and the log say so until a good one is read.
* `gateway.config.reload_plan` decides which settings change now and which need a restart.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from gateway.config.reload_plan import plan
from gateway.errors import ConfigError, GatewayError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.config import Config
    from gateway.config.active_config import ActiveConfig
    from gateway.config.reload_plan import ConfigChange

log = logging.getLogger(__name__)

P = TypeVar("P")


class ConfigSource(Protocol):
    """Where the configuration comes from."""

    def read(self) -> Config:
        """What it says now.

        Raises:
            ConfigError: with every problem.
        """
        ...

    def changed(self, config: Config) -> None:
        """``config`` comes into force now."""
        ...


class Reloadable(Protocol[P]):
    """The parts that a reload changes."""

    active: ActiveConfig

    def prepare(self, change: ConfigChange) -> P:
        """Do what can fail, and change nothing. Blocks. Raises GatewayError or OSError."""
        ...

    async def apply(self, prepared: P) -> None:
        """Bring the change into force."""
        ...

    async def close(self) -> None:
        """End what an earlier change has left under way."""
        ...


class Reloader(Generic[P]):
    """Reloads as often as it is asked to, one after the other. ``count`` gets ``applied`` or ``refused`` each time."""

    def __init__(self, parts: Reloadable[P], source: ConfigSource, count: Callable[[str], None]) -> None:
        self._parts = parts
        self._source = source
        self._count = count
        self._requested = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="reload")

    def request(self) -> None:
        """Read the configuration again, soon."""
        self._requested.set()

    async def close(self) -> None:
        """Reload no more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._parts.close()

    async def _run(self) -> None:
        while True:
            await self._requested.wait()
            self._requested.clear()
            try:
                await self._reload()
            except Exception:
                log.exception("the configuration could not be reloaded")

    async def _reload(self) -> None:
        active = self._parts.active
        try:
            found = plan(active.config, await asyncio.to_thread(self._source.read))
            prepared = await asyncio.to_thread(self._parts.prepare, found)
        except (GatewayError, OSError) as error:
            self._refuse(error.problems if isinstance(error, ConfigError) else (str(error),))
            return
        active.refused, active.waiting = (), found.waiting
        self._source.changed(found.config)  # first, so that the log masks the new secrets before they are used
        await self._parts.apply(prepared)
        self._count("applied")
        _report(found)

    def _refuse(self, problems: tuple[str, ...]) -> None:
        self._parts.active.refused = problems
        self._count("refused")
        for problem in problems:
            log.error("the new configuration was refused, the old one stays in force: %s", problem)


def _report(found: ConfigChange) -> None:
    log.info("the configuration was read again; changed: %s", ", ".join(found.live) or "nothing but files it names")
    if found.waiting:
        log.warning("settings that changed and need a restart: %s", ", ".join(found.waiting))
