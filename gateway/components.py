"""The parts of one gateway, built from its configuration and handed to each other; `gateway.app` has them run."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from gateway.config.tls import owners_of_authorities
from gateway.delivery.dead_letters import DeadLetters
from gateway.delivery.forwarder import Forwarder
from gateway.delivery.message_trace import TraceFiles
from gateway.delivery.write_log import WriteLog
from gateway.devices.accounting import Bookkeeper
from gateway.devices.acks import Acks
from gateway.devices.backpressure import Backpressure
from gateway.devices.commands import Downlink
from gateway.devices.context import Context
from gateway.devices.directory import Directory
from gateway.devices.enrolment import Enrolling
from gateway.devices.fleet import Fleet
from gateway.devices.keepalive import Keepalive
from gateway.devices.rate_limits import rates_by_profile, terms
from gateway.devices.settings import SettingsLink
from gateway.devices.unauthenticated import Strangers
from gateway.errors import GatewayError, SpoolFull
from gateway.gauges import show_now
from gateway.http.access import Access
from gateway.http.certificate_expiry import read_expiry
from gateway.http.client_certificates import Authorities
from gateway.http.connect_rates import Connects
from gateway.http.login import SECRET, load_secret
from gateway.live.feed import Live
from gateway.live.status import Status
from gateway.metrics import Metrics
from gateway.process.file_limit import places
from gateway.protocol.budgets import Budgets
from gateway.protocol.fields import Rulebook
from gateway.protocol.types import FieldTypes, declared_by
from gateway.sinks import make_sink
from gateway.spool.files import Files
from gateway.spool.queue import SpoolQueue
from gateway.state import checkpoint, command_log, enrolments, field_types, file_names
from gateway.state import device_settings as twins
from gateway.state.command_log import CommandLog
from gateway.state.device_settings import Twins
from gateway.state.enrolments import Enrolments
from gateway.state.field_types import FieldTypeStore
from gateway.state.registry import Registry
from gateway.state.sqlite_file import opened

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.config import Config
    from gateway.ledger import Entry
    from gateway.process.clock import WallClock

log = logging.getLogger(__name__)


class Parts:
    """All parts, recovered from their files but for the spool; nothing runs yet. Needs the running loop.

    Raises:
        GatewayError: a file cannot be used; its text says which.
    """

    def __init__(self, config: Config, clock: WallClock) -> None:
        self.config = config
        self.metrics = Metrics()
        self.clock = clock
        files = Files()
        _make_directory("state.directory", config.state.directory)
        _make_directory("spool.directory", config.spool.directory)
        clock.newest_ns = _newest(config.spool.directory)
        self._load_state(files)
        self._build_delivery(files)
        self._build_server()
        show_now(self)

    def _load_state(self, files: Files) -> None:
        config, state = self.config, self.config.state.directory
        self.registry = Registry(state / file_names.REGISTRY)
        self.dead_letters = opened("dead letters", DeadLetters, state / file_names.DEAD_LETTERS)
        self.ledger = checkpoint.load(state / file_names.LEDGER)
        self.fleet = Fleet(self.ledger, self._record_presence)
        self.types = FieldTypes(declared_by(config.profiles.values()))
        self.type_store = opened("field types", FieldTypeStore, state / field_types.NAME)
        self.commands = opened("commands", CommandLog, state / command_log.NAME)
        self.downlink = Downlink(
            self.commands, self.fleet.connection, lambda ended: self.metrics.commands.labels(ended.value).inc()
        )
        self.settings = opened(
            "settings", lambda path: SettingsLink(Twins(path), self.fleet.connection), state / twins.NAME
        )
        self.writes = WriteLog(state / file_names.WRITE_LOG)
        self.acks = Acks(config.server.ack_delay, self.metrics.ack.observe)
        self.bookkeeper = Bookkeeper(
            self.ledger,
            self.fleet,
            self.metrics,
            self.dead_letters,
            self.writes,
            self.types,
            state / file_names.LEDGER,
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
            directory=Directory(self.registry.devices.ids, self.fleet.known),
            writes=self.writes,
            rulebook=Rulebook(self.types, Budgets(config.limits.series_per_day)),
            authorities=Authorities(owners_of_authorities(config)),
            expiry=read_expiry(config),
            access=Access(load_secret(config.state.directory / SECRET)),
            dead_letters=self.dead_letters,
            commands=self.commands,
            downlink=self.downlink,
            settings=self.settings,
            history=TraceFiles(
                config.spool.directory, config.state.directory / file_names.WRITE_LOG, self.dead_letters, known=True
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
            opened("enrolments", Enrolments, self.config.state.directory / enrolments.NAME),
            self.registry,
            lambda result: self.metrics.enrolments.labels(result).inc(),
            self.context.credentials_changed,
            most=most,
        )

    def _record_presence(self, entry: Entry) -> None:
        try:
            self.spool.append(entry, None)
        except SpoolFull:
            text = "device %s: the spool is full, its change of presence is not recorded"
            log.warning(text, entry.device, extra={"device": entry.device})


def _make_directory(setting: str, path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "is no directory" if isinstance(error, FileExistsError) else f"cannot be made: {error.strerror}"
        raise GatewayError(f"{setting}: {path} {reason}") from error


def _newest(directory: Path) -> int:
    """When something there was written last, in ns since 1970; 0 if nothing is there."""
    return max((path.stat().st_mtime_ns for path in directory.iterdir() if path.is_file()), default=0)
