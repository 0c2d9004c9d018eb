"""The composition root: builds the parts, starts them from database to socket, stops them the other way round."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from gateway import checkpoint, command_log, enrolments, field_types, twins
from gateway.command_log import CommandLog
from gateway.config.tls import owners_of_authorities, server_context
from gateway.delivery import write_log
from gateway.delivery.dead_letters import DeadLetters
from gateway.delivery.forwarder import Forwarder
from gateway.delivery.why import Records
from gateway.delivery.write_log import WriteLog
from gateway.enrolments import Enrolments
from gateway.errors import GatewayError, SpoolFull
from gateway.field_types import FieldTypeStore
from gateway.gauges import show_now
from gateway.metrics import Metrics
from gateway.protocol.budgets import Budgets
from gateway.protocol.fields import Rulebook
from gateway.protocol.session import Terms
from gateway.protocol.types import FieldTypes, declared_by
from gateway.registry import Registry
from gateway.reload import Reloader
from gateway.server.access import Access
from gateway.server.acks import Acks
from gateway.server.backpressure import Backpressure
from gateway.server.bookkeeper import Bookkeeper
from gateway.server.connects import Connects
from gateway.server.context import Context
from gateway.server.credentials import Authorities
from gateway.server.directory import Directory
from gateway.server.downlink import Downlink
from gateway.server.enrolling import Enrolling
from gateway.server.file_limit import places, shortage
from gateway.server.fleet import Fleet
from gateway.server.keepalive import Keepalive
from gateway.server.listener import Listener, listening_sockets
from gateway.server.live import Live
from gateway.server.ops import readiness
from gateway.server.plain import PlainConnections
from gateway.server.proxies import Proxies
from gateway.server.quotas import rates_by_profile
from gateway.server.routes import application
from gateway.server.session import SECRET, load_secret
from gateway.server.settings import SettingsLink
from gateway.server.status import Status
from gateway.server.strangers import Strangers
from gateway.server.upkeep import Upkeep
from gateway.server.wall_clock import WallClock
from gateway.sinks import make_sink
from gateway.spool.files import Files
from gateway.spool.queue import SpoolQueue
from gateway.stores import damaged
from gateway.twins import Twins

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from gateway.config import Config
    from gateway.ledger import Entry
    from gateway.reload import ConfigSource

T = TypeVar("T")

log = logging.getLogger(__name__)

CLOSE_GRACE = 2.0
"""Seconds that devices have to answer the close before their sockets are cut."""
DELIVERY_GRACE = 5.0
"""Seconds that writes under way at a stop have to finish; what does not is written again after the start."""
FIRST_RECONNECT_MS = 2000
"""After so long the first device of a drain comes back: about what a restart takes."""
RECONNECTS_PER_SECOND = 500
"""How many of them come back after that: a handshake costs about a millisecond, and more with TLS."""
GUESSABLE = 16
LETTERS = "dead_letters.db"


class Gateway:
    """One gateway in this process. `start` on a running loop, `stop` once; ``url`` is known in between."""

    def __init__(self, config: Config, clock: WallClock | None = None) -> None:
        self.config = config
        self.clock = clock or WallClock()
        self.metrics = Metrics()
        self.url = ""

    async def start(self, inherited: Sequence[socket.socket] = ()) -> None:
        """Recover the spool, connect delivery, and listen: on the sockets ``inherited``, if there are any.

        Raises:
            GatewayError: something needed cannot be used; its text says what.
            OSError: the address cannot be listened on.
        """
        config = self.config
        tls = server_context(config)
        listening = listening_sockets(config.server.listen, inherited)
        self._build()
        self._warn()
        recovery = await asyncio.to_thread(self.spool.open, self.ledger.committed_to, self.ledger.delivered_to)
        log.info("spool %s: %s", config.spool.directory, recovery)
        self._resume()
        self.context.directory.ids()  # to sort them takes a moment, which nobody minds yet
        await self._refresh_types()
        with _naming("dead letters", config.state.directory / LETTERS):
            await self.bookkeeper.begin(recovery.cursor, self.spool.status().oldest_ns)
        self.spool.start()
        self._delivering = asyncio.create_task(self.forwarder.run(), name="forwarder")
        await self.spool.look_at_disk()
        self._keeping = self._upkeep()
        self.keepalive.start()
        self.context.status.start()
        self._serve(listening, tls)

    def _build(self) -> None:
        files = Files()
        for directory in (self.config.state.directory, self.config.spool.directory):
            directory.mkdir(parents=True, exist_ok=True)
        self.clock.newest_ns = _newest(self.config.spool.directory)
        self._load_state(files)
        self._build_delivery(files)
        self._build_server()
        show_now(self)

    def _load_state(self, files: Files) -> None:
        config, state = self.config, self.config.state.directory
        self.registry = Registry(state / "registry.db")
        self.dead_letters = _opened("dead letters", DeadLetters, state / LETTERS)
        self.ledger = checkpoint.load(state / "ledger.json")
        self.fleet = Fleet(self.ledger, self._record_presence)
        self.types = FieldTypes(declared_by(config.profiles.values()))
        self.type_store = _opened("field types", FieldTypeStore, state / field_types.NAME)
        self.commands = _opened("commands", CommandLog, state / command_log.NAME)
        self.downlink = Downlink(
            self.commands, self.fleet.connection, lambda ended: self.metrics.commands.labels(ended.value).inc()
        )
        self.settings = _opened(
            "settings", lambda path: SettingsLink(Twins(path), self.fleet.connection), state / twins.NAME
        )
        self.writes = WriteLog(state / write_log.NAME)
        self.acks = Acks(config.server.ack_delay, self.metrics.ack.observe)
        self.bookkeeper = Bookkeeper(
            self.ledger,
            self.fleet,
            self.metrics,
            self.dead_letters,
            self.writes,
            self.types,
            state / "ledger.json",
            files,
            acks=self.acks,
        )

    def _build_delivery(self, files: Files) -> None:
        config = self.config
        self.spool = SpoolQueue(
            config.spool.directory,
            commit_interval=config.spool.commit_interval,
            segment_bytes=config.spool.segment_bytes,
            max_bytes=config.spool.max_bytes,
            when_full=config.spool.when_full,
            keep_delivered=config.spool.keep_delivered,
            min_free=config.spool.min_free,
            listener=self.bookkeeper,
            files=files,
        )
        self.backpressure = Backpressure(self.spool, self.metrics.reads_paused.inc)
        self.sink = make_sink(config)
        self.forwarder = Forwarder(
            self.spool,
            self.sink,
            self.dead_letters,
            max_readings=config.batch.max_readings,
            max_age=config.batch.max_age,
            max_in_flight=config.batch.max_in_flight,
            listener=self.bookkeeper,
        )

    def _build_server(self) -> None:
        config, room = self.config, places()
        self.context = Context(
            config=config,
            metrics=self.metrics,
            registry=self.registry,
            ledger=self.ledger,
            fleet=self.fleet,
            acks=self.acks,
            spool=self.spool,
            backpressure=self.backpressure,
            forwarder=self.forwarder,
            sink=self.sink,
            terms=terms(config),
            rates=rates_by_profile(config),
            connects=Connects(config.server.connects_per_second, config.server.connect_burst),
            clock=self.clock,
            devices_allowed=room.devices,
            strangers=Strangers(room.strangers),
            directory=Directory(self.registry.ids, self.fleet.known),
            writes=self.writes,
            rulebook=Rulebook(self.types, Budgets(config.limits.series_per_day)),
            authorities=Authorities(owners_of_authorities(config)),
            access=Access(load_secret(config.state.directory / SECRET)),
            dead_letters=self.dead_letters,
            commands=self.commands,
            downlink=self.downlink,
            settings=self.settings,
            history=Records(
                config.spool.directory, config.state.directory / write_log.NAME, self.dead_letters, known=True
            ),
        )
        self.context.enrolling = self._enrolling(room.held)
        self.context.status = Status(self.context)
        self.context.live = Live(self.fleet, self.metrics, self.context.status.totals)
        self.keepalive = Keepalive(
            self.context.sockets,
            ping_interval=config.keepalive.ping_interval,
            timeout=config.keepalive.timeout,
            credentials_timeout=config.auth.timeout,
            message_timeout=config.keepalive.message_timeout,
        )

    def _enrolling(self, most: int) -> Enrolling:
        return Enrolling(
            _opened("enrolments", Enrolments, self.config.state.directory / enrolments.NAME),
            self.registry,
            lambda result: self.metrics.enrolments.labels(result).inc(),
            self.context.credentials_changed,
            most=most,
        )

    def _resume(self) -> None:
        """Go on with what was open, now that no other gateway has the spool: of one that runs, it is under way."""
        state = self.config.state.directory
        with _naming("commands", state / command_log.NAME):
            self.downlink.recover()
        with _naming("enrolments", state / enrolments.NAME):
            self.context.enrolling.recover()

    def _warn(self) -> None:
        config, auth = self.config, self.config.auth
        for name, token in (("admin_token", auth.admin_token), ("viewer_token", auth.viewer_token)):
            if token is not None and len(token.get_secret_value()) < GUESSABLE:
                log.warning("auth.%s is shorter than %d characters and may be guessed", name, GUESSABLE)
        for problem in (*self.clock.warnings(), shortage(self.context.devices_allowed, config.server.max_connections)):
            if problem is not None:
                log.warning("%s", problem)

    def _serve(self, listening: list[socket.socket], tls: ssl.SSLContext | None) -> None:
        self.context.plain = PlainConnections(lambda why: self.metrics.requests_cut.labels(why).inc())
        self._server = Listener(
            application(self.context),
            turned_away=self.metrics.connections_total.labels("too_many").inc,
            proxies=Proxies(self.config.server.trusted_proxies),
            ssl_options=tls,
            shaken=lambda sock: self.context.authorities.shaken(sock),  # noqa: PLW0108 - a reload brings others
            may_connect=self.context.may_connect,
            plain=self.context.plain,
        )
        host, port = listening[0].getsockname()[:2]
        self._server.add_sockets(listening)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
        log.info("listening on %s, readings go to %s", self.url, self.sink.name)

    def _record_presence(self, entry: Entry) -> None:
        try:
            self.spool.append(entry, None)
        except SpoolFull:
            text = "device %s: the spool is full, its change of presence is not recorded"
            log.warning(text, entry.device, extra={"device": entry.device})

    def _upkeep(self) -> Upkeep:
        access, enrolling = self.context.access, self.context.enrolling

        async def log_in_again() -> None:
            access.enforce(self.context.config.auth)

        return Upkeep(
            {
                "the registry could not be read again; what is known of the devices stays in force": self._revoke,
                "viewers whose login has ended could not be sent away": log_in_again,
                "enrolments could not be settled; they will be": enrolling.settle,
                "the log of writes could not be written": partial(asyncio.to_thread, self.writes.flush),
                "field types could not be exchanged": self._refresh_types,
                "what became of dead letters could not be counted; it will be": self.bookkeeper.settle,
                "the machine could not be looked at; what was known of it stays in force": self._look_at_machine,
            }
        )

    async def _look_at_machine(self) -> None:
        """The room on its disk, its clock."""
        self.clock.look()
        await self.spool.look_at_disk()

    async def _revoke(self) -> None:
        for device in await asyncio.to_thread(self.registry.refresh):
            self.context.credentials_changed(device)

    async def _refresh_types(self) -> None:
        kept = await asyncio.to_thread(self.type_store.refresh, *self.types.take_changes())
        if kept is not None:
            self.types.replace(kept)

    async def stop(self) -> None:
        """Take nothing more, finish the commit under way, acknowledge it, and let the devices go."""
        log.info("stopping: %d devices connected", self.metrics.connections.devices)
        self.context.draining = True
        self._server.stop()
        self.keepalive.stop()
        self.context.status.stop()
        self.context.live.close()
        self.backpressure.stop()
        self._keeping.stop()
        sockets = list(self.context.sockets)
        for n, device in enumerate(sockets):
            device.drain(FIRST_RECONNECT_MS + n * 1000 // RECONNECTS_PER_SECOND)
        await self.spool.flush()
        for device in sockets:
            device.restart()
        await self._devices_gone(CLOSE_GRACE)
        for device in list(self.context.sockets):
            device.abort()
        await self._devices_gone(CLOSE_GRACE)
        await self.spool.flush()
        await self.forwarder.stop(DELIVERY_GRACE)
        await self._delivering
        await self.spool.close()
        await self._server.close_all_connections()
        self.context.questions.close()
        await self.downlink.close()
        await self.settings.close()
        self.context.sink.close()
        self.writes.flush()
        await self._refresh_types()
        self.type_store.close()
        self.dead_letters.close()
        await self.context.enrolling.settle()
        self.context.enrolling.close()
        self.registry.close()
        log.info("stopped")

    def summary(self) -> str:
        """How it stands, in a line."""
        blocking = readiness(self.context)["blocking"]
        status = self.spool.status()
        trouble = f"; takes no readings: {'; '.join(blocking)}" if blocking else ""
        return f"{self.metrics.connections.devices} devices, {status.readings_pending} readings wait{trouble}"

    def reloader(self, source: ConfigSource) -> Reloader:
        """What brings the configuration of ``source`` into force, again and again."""
        return Reloader(self.context, self._server, self.types, source, terms)

    async def _devices_gone(self, seconds: float) -> None:
        if self.context.sockets:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.context.all_gone.wait(), seconds)


def terms(config: Config) -> Terms:
    """What every device is told in ``welcome``."""
    return Terms(
        ping_interval_ms=round(config.keepalive.ping_interval * 1000),
        timeout_ms=round(config.keepalive.timeout * 1000),
        max_message_bytes=config.server.max_message_bytes,
        max_unacked=config.limits.max_unacked,
        strikes_per_minute=config.limits.strikes_per_minute,
        ack_delay_ms=round(config.server.ack_delay * 1000),
        enrol=config.auth.enrol == "approve",
    )


def _newest(directory: Path) -> int:
    """When something there was written last, in ns since 1970; 0 if nothing is there."""
    return max((path.stat().st_mtime_ns for path in directory.iterdir() if path.is_file()), default=0)


def _opened(what: str, store: Callable[[Path], T], path: Path) -> T:
    with _naming(what, path):
        return store(path)


@contextlib.contextmanager
def _naming(what: str, path: Path) -> Iterator[None]:
    """Have an error of a store name its file, and say what to do."""
    try:
        yield
    except sqlite3.Error as error:
        advice = f"; put a copy in its place, or move it away ({path.name}-wal and -shm, too) and go on without it"
        raise GatewayError(f"{what} {path}: {error}{advice if damaged(error) else ''}") from error
