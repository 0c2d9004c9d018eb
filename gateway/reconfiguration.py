"""What a reload changes in a running gateway, without closing the connection of a device.

Rules that hold here:

* `prepare` does everything that can fail, and changes nothing. `apply` cannot fail.
* The files of TLS are read again though their names are the same: that is how certificates are renewed.
* The writes under way to a database that is no longer used may finish; then its connections are closed.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.config.tls import owners_of_authorities, server_context
from gateway.http.certificate_expiry import read_ends
from gateway.http.client_address import TrustedProxies
from gateway.protocol.field_types import declared_by
from gateway.sinks import make_sink

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from pathlib import Path

    from gateway.components import Components
    from gateway.config.reload_plan import ConfigChange
    from gateway.delivery.sink import Sink

log = logging.getLogger(__name__)

SLICE = 200
"""Logins that are checked and renewed before the event loop serves others."""
SESSION_SETTINGS = "profiles", "limits."


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a change brings into force, read from its files."""

    change: ConfigChange
    tls: ssl.SSLContext | None
    authorities: Mapping[bytes, frozenset[str]]
    certificate_ends: Mapping[Path, float]
    sink: Sink | None
    """The database to write to from now on; None: the same as before."""


class Reconfiguration:
    """Changes ``components``; implements `gateway.process.reload.Reloadable`."""

    def __init__(self, components: Components) -> None:
        self._components = components
        self.active = components.active
        self._retiring: set[asyncio.Task[None]] = set()
        """One task for each database that is no longer used and has writes under way."""

    def prepare(self, change: ConfigChange) -> Prepared:
        """Read everything that the new configuration names. Blocks.

        Raises:
            GatewayError, OSError: a file or the database's client cannot be used; nothing has changed.
        """
        config = change.config
        return Prepared(
            change,
            server_context(config),
            owners_of_authorities(config),
            read_ends(config),
            make_sink(config) if _touches(change, ("sink", f"{config.sink}.")) else None,
        )

    async def apply(self, prepared: Prepared) -> None:
        """Bring the prepared change into force."""
        parts, change = self._components, prepared.change
        config = change.config
        self.active.config = config
        parts.authorities.renew(prepared.authorities)
        parts.certificate_expiry.renew(prepared.certificate_ends)
        parts.profiles.renew()
        parts.listener.renew(prepared.tls, TrustedProxies(config.server.trusted_proxies))
        if prepared.sink is not None:
            self._redirect(prepared.sink)
        if "profiles" in change.live:
            parts.field_types.declare(declared_by(config.profiles.values()))
        renewed = _touches(change, SESSION_SETTINGS)
        for number, socket in enumerate(list(parts.connections), 1):
            parts.revocation.authorities_changed(socket)
            if renewed:
                socket.renew()
            if number % SLICE == 0:
                await asyncio.sleep(0)

    async def close(self) -> None:
        """Close the databases that are no longer used, and cancel the writes under way there."""
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)

    def _redirect(self, sink: Sink) -> None:
        before, self._components.active_sink.current = self._components.active_sink.current, sink
        log.info("readings go to %s from now on; writes under way end at %s", sink.name, before.name)
        task = asyncio.create_task(self._retire(before, sink), name="retire-sink")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _retire(self, before: Sink, sink: Sink) -> None:
        try:
            await self._components.forwarder.redirect(sink)
        finally:
            await asyncio.to_thread(before.close)


def _touches(change: ConfigChange, settings: tuple[str, ...]) -> bool:
    return any(name.startswith(settings) for name in change.live)
