"""A gateway in this process: starts its parts from database to socket, and stops them in the opposite order."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from gateway.components import Components
from gateway.config.tls import server_context
from gateway.devices.connection_limits import shortage
from gateway.gauges import show_now
from gateway.http.listener import listening_sockets
from gateway.process.clock import WallClock
from gateway.process.periodic import PeriodicTasks
from gateway.process.reload import Reloader
from gateway.reconfiguration import Reconfiguration
from gateway.state import file_names
from gateway.state.sqlite_file import errors_name_file

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from gateway.config import Config
    from gateway.process.reload import ConfigSource
    from gateway.reconfiguration import Prepared

log = logging.getLogger(__name__)

DELIVERY_GRACE = 5.0
"""Seconds that writes under way at a stop have to finish. What does not finish is written again after the start."""
MIN_TOKEN_LENGTH = 16
"""Characters; a shorter admin or viewer token is worth a warning."""


class Gateway:
    """One gateway in this process. `start` on a running loop, `stop` once; ``url`` is known in between."""

    def __init__(self, config: Config, clock: WallClock | None = None) -> None:
        self.config = config
        self.clock = clock or WallClock()
        self.url = ""
        """Where the gateway listens; empty before `start` returned."""

    async def start(self, inherited: Sequence[socket.socket] = ()) -> None:
        """Recover the spool, connect delivery, and listen: on the sockets ``inherited``, if there are any.

        Raises:
            GatewayError: a file, a certificate or the address cannot be used; the text says which.
        """
        config = self.config
        tls = server_context(config)
        listening = listening_sockets(config.server.listen, inherited)
        self.parts = parts = Components(config, self.clock, tls)
        show_now(parts)
        self._warn()
        recovery = await asyncio.to_thread(parts.spool.open, parts.ledger.committed_to, parts.ledger.delivered_to)
        log.info("spool %s: %s", config.spool.directory, recovery)
        self._resume()
        parts.device_ids.ids()  # now, while no device waits: sorting them takes a moment
        await self._exchange_field_types()
        with errors_name_file("dead letters", config.state.directory / file_names.DEAD_LETTERS):
            await parts.accounting.begin(recovery.cursor, parts.spool.status().oldest_ns)
        parts.spool.start()
        self._delivering = asyncio.create_task(parts.forwarder.run(), name="forwarder")
        await parts.spool.look_at_disk()
        self._upkeep = self._start_upkeep()
        parts.keepalive.start()
        parts.status.start()
        self._listen(listening)

    def _resume(self) -> None:
        """Continue open commands and enrolments. Only with the spool locked: before, another gateway may use them."""
        state = self.config.state.directory
        with errors_name_file("commands", state / file_names.COMMANDS):
            self.parts.commands.recover()
        with errors_name_file("enrolments", state / file_names.ENROLMENTS):
            self.parts.enrolment.recover()

    def _warn(self) -> None:
        config, auth = self.config, self.config.auth
        for name, token in (("admin_token", auth.admin_token), ("viewer_token", auth.viewer_token)):
            if token is not None and len(token.get_secret_value()) < MIN_TOKEN_LENGTH:
                log.warning("auth.%s is shorter than %d characters and may be guessed", name, MIN_TOKEN_LENGTH)
        few = shortage(self.parts.connections.devices_allowed, config.server.max_connections)
        for problem in (*self.clock.warnings(), few):
            if problem is not None:
                log.warning("%s", problem)

    def _listen(self, listening: list[socket.socket]) -> None:
        parts = self.parts
        host, port = listening[0].getsockname()[:2]
        parts.listener.add_sockets(listening)
        scheme = "http" if self.config.server.tls.certificate is None else "https"
        self.url = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
        log.info("listening on %s, readings go to %s", self.url, parts.active_sink.current.name)

    def _start_upkeep(self) -> PeriodicTasks:
        parts = self.parts

        async def end_logins() -> None:
            parts.access.enforce(parts.active.config.auth)

        return PeriodicTasks(
            {
                "the registry could not be read again; what is known of the devices stays in force": self._revoke,
                "viewers whose login has ended could not be sent away": end_logins,
                "enrolments could not be settled; they will be": parts.enrolment.settle,
                "the log of writes could not be written": partial(asyncio.to_thread, parts.write_log.flush),
                "field types could not be exchanged": self._exchange_field_types,
                "what became of dead letters could not be counted; it will be": parts.accounting.settle,
                "the machine could not be looked at; what was known of it stays in force": self._look_at_machine,
            }
        )

    async def _look_at_machine(self) -> None:
        """Check the free space of the disk, the clock, and how long the certificates are valid."""
        self.clock.look()
        self.parts.certificate_expiry.log_warnings()
        await self.parts.spool.look_at_disk()

    async def _revoke(self) -> None:
        for device in await asyncio.to_thread(self.parts.registry.refresh):
            self.parts.revocation.credentials_changed(device)

    async def _exchange_field_types(self) -> None:
        types = self.parts.field_types
        kept = await asyncio.to_thread(self.parts.field_type_store.refresh, *types.take_changes())
        if kept is not None:
            types.replace(kept)

    async def stop(self) -> None:
        """Accept nothing more, finish the commit under way, acknowledge it, and close the devices' connections."""
        parts = self.parts
        log.info("stopping: %d devices connected", parts.metrics.connections.devices)
        parts.connections.draining = True
        parts.listener.stop()
        parts.keepalive.stop()
        parts.status.stop()
        parts.feed.close()
        parts.backpressure.stop()
        self._upkeep.stop()
        await parts.connections.drain(parts.spool.flush)
        await parts.forwarder.stop(DELIVERY_GRACE)
        await self._delivering
        await parts.spool.close()
        await parts.listener.close_all_connections()
        parts.threads.close()
        await parts.commands.close()
        await parts.device_settings.close()
        parts.active_sink.current.close()
        parts.write_log.flush()
        await self._exchange_field_types()
        parts.field_type_store.close()
        parts.dead_letters.close()
        await parts.enrolment.settle()
        parts.enrolment.close()
        parts.registry.close()
        log.info("stopped")

    @property
    def commit_seconds(self) -> float:
        """For how long a commit has been under way; 0.0 without one."""
        return self.parts.spool.commit_seconds

    def summary(self) -> str:
        """The state of the gateway in one line."""
        parts = self.parts
        blocking, status = parts.readiness.blocking(), parts.spool.status()
        trouble = f"; takes no readings: {'; '.join(blocking)}" if blocking else ""
        return f"{parts.metrics.connections.devices} devices, {status.readings_pending} readings wait{trouble}"

    def reloader(self, source: ConfigSource) -> Reloader[Prepared]:
        """The function that reads the configuration of ``source`` again and brings it into force."""
        reloads = self.parts.metrics.reloads
        return Reloader(Reconfiguration(self.parts), source, lambda result: reloads.labels(result).inc())
