"""Reading the configuration again under way (SIGHUP), without dropping a device.

Rules that hold here:

* All or nothing: whatever can fail is done before anything is changed. A file that is refused leaves the old one in
  force, and `/readyz` and the log say so until a good one is read.
* `gateway.config.reloading` decides what changes and what waits for a restart.
* The files of TLS are read again though their names are the same: that is how certificates are renewed.
* A database that is left gets an end to the writes under way, and is closed after them.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from gateway.config.reloading import change
from gateway.config.tls import owners_of_authorities, server_context
from gateway.devices.rate_limits import rates_by_profile, terms
from gateway.errors import ConfigError, GatewayError
from gateway.http.certificate_expiry import read_expiry
from gateway.http.client_address import Proxies
from gateway.protocol.types import declared_by
from gateway.sinks import make_sink

if TYPE_CHECKING:
    import ssl

    from gateway.config import Config
    from gateway.config.reloading import Change
    from gateway.delivery.sink import Sink
    from gateway.devices.context import Context
    from gateway.http.listener import Listener
    from gateway.protocol.types import FieldTypes

log = logging.getLogger(__name__)

SLICE = 200
"""Sessions judged and renewed before the event loop has its turn."""
OF_THE_SINK = "sink", "influxdb.", "sqlite."
OF_SESSIONS = "profiles", "limits."


class ConfigSource(Protocol):
    """Where the configuration comes from."""

    def read(self) -> Config:
        """What it says now.

        Raises:
            ConfigError: with every problem.
        """
        ...

    def changed(self, config: Config) -> None:
        """This is in force from now on."""
        ...


class Reloader:
    """Reloads as often as it is asked to, one after the other. ``close`` ends it with what it has not finished."""

    def __init__(
        self,
        context: Context,
        listener: Listener,
        types: FieldTypes,
        source: ConfigSource,
    ) -> None:
        self._context = context
        self._listener = listener
        self._types = types
        self._source = source
        self._asked = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="reload")
        self._retiring: set[asyncio.Task[None]] = set()

    def ask(self) -> None:
        """Read the configuration again, soon."""
        self._asked.set()

    async def close(self) -> None:
        """Reload no more; databases that were left are closed, whatever is under way there."""
        self._task.cancel()
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(self._task, *self._retiring, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            try:
                await self._reload()
            except Exception:
                log.exception("the configuration could not be reloaded")

    async def _reload(self) -> None:
        context, standing = self._context, self._context.standing
        sink: Sink | None = None
        try:
            found = change(context.config, await asyncio.to_thread(self._source.read))
            tls = await asyncio.to_thread(server_context, found.config)
            authorities = context.authorities.renewed(await asyncio.to_thread(owners_of_authorities, found.config))
            expiry = await asyncio.to_thread(read_expiry, found.config)
            if _touches(found, OF_THE_SINK):
                sink = await asyncio.to_thread(make_sink, found.config)
        except (GatewayError, OSError) as error:
            self._refuse(error.problems if isinstance(error, ConfigError) else (str(error),))
            return
        standing.refused, standing.waiting = (), found.waiting
        context.authorities, context.expiry = authorities, expiry
        await self._apply(found, tls, sink)
        context.metrics.reloads.labels("applied").inc()
        _report(found)

    def _refuse(self, problems: tuple[str, ...]) -> None:
        self._context.standing.refused = problems
        self._context.metrics.reloads.labels("refused").inc()
        for problem in problems:
            log.error("the new configuration is refused and the old one in force: %s", problem)

    async def _apply(self, found: Change, tls: ssl.SSLContext | None, sink: Sink | None) -> None:
        context = self._context
        context.config = found.config
        context.terms = terms(found.config)
        context.rulebook.budgets.per_day = found.config.limits.series_per_day
        context.rates = rates_by_profile(found.config)
        self._source.changed(found.config)
        self._listener.renew(tls, Proxies(found.config.server.trusted_proxies))
        if sink is not None:
            self._redirect(sink)
        if "profiles" in found.live:
            self._types.declare(declared_by(found.config.profiles.values()))
        renewed = _touches(found, OF_SESSIONS)
        for number, socket in enumerate(list(context.sockets), 1):
            context.judge(socket)
            if renewed:
                socket.renew()
            if number % SLICE == 0:
                await asyncio.sleep(0)

    def _redirect(self, sink: Sink) -> None:
        before, self._context.sink = self._context.sink, sink
        log.info("readings go to %s from now on; writes under way end at %s", sink.name, before.name)
        task = asyncio.create_task(self._retire(before, sink), name="retire-sink")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _retire(self, before: Sink, sink: Sink) -> None:
        try:
            await self._context.forwarder.redirect(sink)
        finally:
            await asyncio.to_thread(before.close)


def _touches(found: Change, settings: tuple[str, ...]) -> bool:
    return any(name.startswith(settings) for name in found.live)


def _report(found: Change) -> None:
    log.info("the configuration was read again; changed: %s", ", ".join(found.live) or "nothing but files it names")
    if found.waiting:
        log.warning("the configuration has changed where it needs a restart: %s", ", ".join(found.waiting))
