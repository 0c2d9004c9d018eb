"""A gateway in this process: its parts started from database to socket, and stopped the other way round."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from gateway.api.routes import application
from gateway.components import Parts
from gateway.config.tls import server_context
from gateway.devices.drain import let_go
from gateway.http.client_address import Proxies
from gateway.http.connection_bounds import PlainConnections
from gateway.http.listener import Listener, listening_sockets
from gateway.live.readiness import readiness
from gateway.process.clock import WallClock
from gateway.process.file_limit import shortage
from gateway.process.periodic import Upkeep
from gateway.process.reload import Reloader
from gateway.state import command_log, enrolments, file_names
from gateway.state.sqlite_file import naming

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Sequence

    from gateway.config import Config
    from gateway.process.reload import ConfigSource

log = logging.getLogger(__name__)

DELIVERY_GRACE = 5.0
"""Seconds that writes under way at a stop have to finish; what does not is written again after the start."""
GUESSABLE = 16


class Gateway:
    """One gateway in this process. `start` on a running loop, `stop` once; ``url`` is known in between."""

    def __init__(self, config: Config, clock: WallClock | None = None) -> None:
        self.config = config
        self.clock = clock or WallClock()
        self.url = ""

    async def start(self, inherited: Sequence[socket.socket] = ()) -> None:
        """Recover the spool, connect delivery, and listen: on the sockets ``inherited``, if there are any.

        Raises:
            GatewayError: something needed cannot be used, or the address not be listened on; its text says what.
        """
        config = self.config
        tls = server_context(config)
        listening = listening_sockets(config.server.listen, inherited)
        self.parts = parts = Parts(config, self.clock)
        self._warn()
        recovery = await asyncio.to_thread(parts.spool.open, parts.ledger.committed_to, parts.ledger.delivered_to)
        log.info("spool %s: %s", config.spool.directory, recovery)
        self._resume()
        parts.context.directory.ids()  # to sort them takes a moment, which nobody minds yet
        await self._refresh_types()
        with naming("dead letters", config.state.directory / file_names.DEAD_LETTERS):
            await parts.bookkeeper.begin(recovery.cursor, parts.spool.status().oldest_ns)
        parts.spool.start()
        self._delivering = asyncio.create_task(parts.forwarder.run(), name="forwarder")
        await parts.spool.look_at_disk()
        self._keeping = self._upkeep()
        parts.keepalive.start()
        parts.context.status.start()
        self._serve(listening, tls)

    def _resume(self) -> None:
        """Go on with what was open, now that no other gateway has the spool: of one that runs, it is under way."""
        state = self.config.state.directory
        with naming("commands", state / command_log.NAME):
            self.parts.downlink.recover()
        with naming("enrolments", state / enrolments.NAME):
            self.parts.context.enrolling.recover()

    def _warn(self) -> None:
        config, auth = self.config, self.config.auth
        for name, token in (("admin_token", auth.admin_token), ("viewer_token", auth.viewer_token)):
            if token is not None and len(token.get_secret_value()) < GUESSABLE:
                log.warning("auth.%s is shorter than %d characters and may be guessed", name, GUESSABLE)
        few = shortage(self.parts.context.devices_allowed, config.server.max_connections)
        for problem in (*self.clock.warnings(), few):
            if problem is not None:
                log.warning("%s", problem)

    def _serve(self, listening: list[socket.socket], tls: ssl.SSLContext | None) -> None:
        parts = self.parts
        parts.context.plain = PlainConnections(lambda why: parts.metrics.requests_cut.labels(why).inc())
        self._server = Listener(
            application(parts.context),
            turned_away=parts.metrics.connections_total.labels("too_many").inc,
            proxies=Proxies(self.config.server.trusted_proxies),
            ssl_options=tls,
            shaken=lambda sock: parts.context.authorities.shaken(sock),  # noqa: PLW0108 - a reload brings others
            may_connect=parts.context.may_connect,
            plain=parts.context.plain,
        )
        host, port = listening[0].getsockname()[:2]
        self._server.add_sockets(listening)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
        log.info("listening on %s, readings go to %s", self.url, parts.sink.name)

    def _upkeep(self) -> Upkeep:
        parts = self.parts
        access, enrolling = parts.context.access, parts.context.enrolling

        async def log_in_again() -> None:
            access.enforce(parts.context.config.auth)

        return Upkeep(
            {
                "the registry could not be read again; what is known of the devices stays in force": self._revoke,
                "viewers whose login has ended could not be sent away": log_in_again,
                "enrolments could not be settled; they will be": enrolling.settle,
                "the log of writes could not be written": partial(asyncio.to_thread, parts.writes.flush),
                "field types could not be exchanged": self._refresh_types,
                "what became of dead letters could not be counted; it will be": parts.bookkeeper.settle,
                "the machine could not be looked at; what was known of it stays in force": self._look_at_machine,
            }
        )

    async def _look_at_machine(self) -> None:
        """The room on its disk, its clock, and how long its certificates are good."""
        self.clock.look()
        self.parts.context.expiry.tell()
        await self.parts.spool.look_at_disk()

    async def _revoke(self) -> None:
        for device in await asyncio.to_thread(self.parts.registry.refresh):
            self.parts.context.credentials_changed(device)

    async def _refresh_types(self) -> None:
        kept = await asyncio.to_thread(self.parts.type_store.refresh, *self.parts.types.take_changes())
        if kept is not None:
            self.parts.types.replace(kept)

    async def stop(self) -> None:
        """Take nothing more, finish the commit under way, acknowledge it, and let the devices go."""
        parts = self.parts
        log.info("stopping: %d devices connected", parts.metrics.connections.devices)
        parts.context.draining = True
        self._server.stop()
        parts.keepalive.stop()
        parts.context.status.stop()
        parts.context.live.close()
        parts.backpressure.stop()
        self._keeping.stop()
        await let_go(parts.context)
        await parts.forwarder.stop(DELIVERY_GRACE)
        await self._delivering
        await parts.spool.close()
        await self._server.close_all_connections()
        parts.context.questions.close()
        await parts.downlink.close()
        await parts.settings.close()
        parts.context.sink.close()
        parts.writes.flush()
        await self._refresh_types()
        parts.type_store.close()
        parts.dead_letters.close()
        await parts.context.enrolling.settle()
        parts.context.enrolling.close()
        parts.registry.close()
        log.info("stopped")

    def summary(self) -> str:
        """How it stands, in a line."""
        parts = self.parts
        blocking = readiness(parts.context)["blocking"]
        status = parts.spool.status()
        trouble = f"; takes no readings: {'; '.join(blocking)}" if blocking else ""
        return f"{parts.metrics.connections.devices} devices, {status.readings_pending} readings wait{trouble}"

    def reloader(self, source: ConfigSource) -> Reloader:
        """What brings the configuration of ``source`` into force, again and again."""
        return Reloader(self.parts.context, self._server, self.parts.types, source)
