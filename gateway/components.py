"""Every part of one gateway, built once from its configuration and handed to those that need it.

`gateway.app` starts and stops them, `gateway.reconfiguration` changes them when the configuration is read again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.api.routes import Services, application
from gateway.config.active_config import ActiveConfig
from gateway.config.tls import owners_of_authorities
from gateway.delivery.dead_letters import DeadLetters
from gateway.delivery.forwarder import Forwarder
from gateway.delivery.message_trace import TraceFiles
from gateway.delivery.replay import Replay
from gateway.delivery.sink import ActiveSink
from gateway.delivery.write_log import WriteLog
from gateway.devices.accounting import Accounting
from gateway.devices.acks import Acks
from gateway.devices.authentication import Authentication
from gateway.devices.backpressure import Backpressure
from gateway.devices.commands import Commands
from gateway.devices.connection_limits import places
from gateway.devices.connections import Connections
from gateway.devices.device_list import DeviceIds, DeviceList
from gateway.devices.enrolment import Enrolment
from gateway.devices.failed_credentials import FailedCredentials
from gateway.devices.fleet import Fleet
from gateway.devices.keepalive import Keepalive
from gateway.devices.presence import Presence
from gateway.devices.problems import Problems
from gateway.devices.profiles import Profiles
from gateway.devices.readings_by_request import ReadingsByRequest
from gateway.devices.revocation import Revocation
from gateway.devices.session_runner import SessionServices
from gateway.devices.settings import SettingsExchange
from gateway.devices.unauthenticated import UnauthenticatedConnections
from gateway.errors import GatewayError
from gateway.http.access import Access
from gateway.http.certificate_expiry import CertificateExpiry, read_ends
from gateway.http.client_address import TrustedProxies
from gateway.http.client_certificates import Authorities
from gateway.http.connect_rates import ConnectRates
from gateway.http.connection_bounds import ConnectionBounds
from gateway.http.listener import Listener
from gateway.http.login_cookies import SECRET_FILE, load_secret
from gateway.live.feed import LiveFeed
from gateway.live.readiness import Readiness
from gateway.live.status import Status
from gateway.metrics import Metrics
from gateway.page.files import PageFiles
from gateway.process.threads import BoundedThreads
from gateway.protocol.field_rules import Rulebook
from gateway.protocol.field_types import FieldTypes, declared_by
from gateway.protocol.series_budgets import Budgets
from gateway.sinks import make_sink
from gateway.spool.files import Files
from gateway.spool.queue import SpoolQueue
from gateway.state import checkpoint, file_names
from gateway.state.command_log import CommandLog
from gateway.state.device_settings import DeviceSettingsStore
from gateway.state.enrolments import Enrolments
from gateway.state.field_types import FieldTypeStore
from gateway.state.registry import Registry
from gateway.state.sqlite_file import open_naming_file

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from gateway.config import Config
    from gateway.process.clock import WallClock

CLIENT_THREADS = 4
"""Threads that make the blocking calls of HTTP clients: on the database, or on the disk."""
MAX_WAITING_CALLS = 32
"""Calls that may wait for one of those threads."""


class Components:
    """Build all parts and recover them from their files, except the spool; nothing runs yet. Needs the running loop.

    Raises:
        GatewayError: a file or a certificate cannot be used; the text says which.
    """

    def __init__(self, config: Config, clock: WallClock, tls: ssl.SSLContext | None) -> None:
        self.active = ActiveConfig(config)
        self.clock = clock
        _make_directory("state.directory", config.state.directory)
        _make_directory("spool.directory", config.spool.directory)
        clock.newest_ns = _newest(config.spool.directory)
        self.metrics = Metrics()
        self._load_state(config)
        self._build_spool(config)
        self._build_delivery(config)
        self._build_devices(config)
        self._build_page_and_api(config)
        self._build_listener(config, tls)

    def _load_state(self, config: Config) -> None:
        """What the files of the state directory hold."""
        state = config.state.directory
        self.registry = Registry(state / file_names.REGISTRY)
        self.dead_letters = open_naming_file("dead letters", DeadLetters, state / file_names.DEAD_LETTERS)
        self.ledger = checkpoint.load(state / file_names.LEDGER)
        self.field_types = FieldTypes(declared_by(config.profiles.values()))
        self.field_type_store = open_naming_file("field types", FieldTypeStore, state / file_names.FIELD_TYPES)
        self.command_log = open_naming_file("commands", CommandLog, state / file_names.COMMANDS)
        self.enrolment_store = open_naming_file("enrolments", Enrolments, state / file_names.ENROLMENTS)
        self.write_log = WriteLog(state / file_names.WRITE_LOG)

    def _build_spool(self, config: Config) -> None:
        """The spool, and what listens to its commits."""
        self.fleet = Fleet(self.ledger)
        self.acks = Acks(config.server.ack_delay, self.metrics.ack.observe)
        files = Files()
        self.accounting = Accounting(
            self.ledger,
            self.fleet,
            self.metrics,
            self.dead_letters,
            self.write_log,
            self.field_types,
            config.state.directory / file_names.LEDGER,
            files,
            acks=self.acks,
        )
        self.spool = SpoolQueue(
            config.spool.directory,
            commit_interval=config.spool.commit_interval,
            segment_bytes=config.spool.segment_bytes,
            max_bytes=config.spool.max_bytes,
            when_full=config.spool.when_full,
            keep_delivered=config.spool.keep_delivered,
            min_free=config.spool.min_free,
            listener=self.accounting,
            files=files,
        )

    def _build_delivery(self, config: Config) -> None:
        """From the spool to the database."""
        self.active_sink = ActiveSink(make_sink(config))
        self.forwarder = Forwarder(
            self.spool,
            self.active_sink.current,
            self.dead_letters,
            max_readings=config.batch.max_readings,
            max_age=config.batch.max_age,
            max_in_flight=config.batch.max_in_flight,
            listener=self.accounting,
        )

    def _build_devices(self, config: Config) -> None:
        """What serves the sockets of devices."""
        metrics, connection, allowed = self.metrics, self.fleet.connection, places()
        self.rulebook = Rulebook(self.field_types, Budgets(config.limits.series_per_day))
        self.profiles = Profiles(self.active, self.rulebook)
        self.authorities = Authorities(owners_of_authorities(config))
        self.revocation = Revocation(self.active, self.registry, self.authorities, self.profiles, self.fleet)
        self.enrolment = Enrolment(
            self.enrolment_store,
            self.registry,
            lambda result: metrics.enrolments.labels(result).inc(),
            self.revocation.credentials_changed,
            limit=allowed.pending_approval,
        )
        self.authentication = Authentication(
            self.active, self.registry, self.authorities, self.profiles, self.enrolment
        )
        self.failures = FailedCredentials()
        self.unauthenticated = UnauthenticatedConnections(allowed.unauthenticated)
        self.connections = Connections(self.active, self.fleet, metrics, allowed.devices)
        self.backpressure = Backpressure(self.spool, metrics.reads_paused.inc)
        self.commands = Commands(self.command_log, connection, lambda ended: metrics.commands.labels(ended.value).inc())
        self.device_settings = open_naming_file(
            "settings",
            lambda path: SettingsExchange(DeviceSettingsStore(path), connection),
            config.state.directory / file_names.DEVICE_SETTINGS,
        )
        self.problems = Problems()
        self.keepalive = Keepalive(
            self.connections,
            ping_interval=config.keepalive.ping_interval,
            timeout=config.keepalive.timeout,
            credentials_timeout=config.auth.timeout,
            message_timeout=config.keepalive.message_timeout,
        )
        self.session_services = SessionServices(
            active=self.active,
            clock=self.clock,
            metrics=metrics,
            spool=self.spool,
            fleet=self.fleet,
            presence=Presence(self.fleet, self.spool.append),
            connections=self.connections,
            profiles=self.profiles,
            authentication=self.authentication,
            failures=self.failures,
            unauthenticated=self.unauthenticated,
            enrolment=self.enrolment,
            acks=self.acks,
            backpressure=self.backpressure,
            commands=self.commands,
            settings=self.device_settings,
            problems=self.problems,
        )

    def _build_page_and_api(self, config: Config) -> None:
        """What serves people: the page, the HTTP API and the live feed."""
        state = config.state.directory
        self.device_ids = DeviceIds(self.registry.devices.ids, self.fleet.known)
        self.threads = BoundedThreads(CLIENT_THREADS, "client-call", MAX_WAITING_CALLS)
        self.certificate_expiry = CertificateExpiry(read_ends(config))
        self.readiness = Readiness(
            self.active,
            self.clock,
            self.spool,
            self.forwarder,
            self.active_sink,
            self.connections,
            self.certificate_expiry,
        )
        self.status = Status(
            active=self.active,
            metrics=self.metrics,
            ledger=self.ledger,
            device_ids=self.device_ids,
            spool=self.spool,
            forwarder=self.forwarder,
            active_sink=self.active_sink,
            dead_letters=self.dead_letters,
            threads=self.threads,
        )
        self.feed = LiveFeed(self.fleet, self.metrics, self.status.totals)
        self.access = Access(load_secret(state / SECRET_FILE))
        self.connection_bounds = ConnectionBounds(lambda why: self.metrics.requests_cut.labels(why).inc())
        self.connect_rates = ConnectRates(
            config.server.connects_per_second,
            config.server.connect_burst,
            refused=self.metrics.connections_total.labels("too_often").inc,
        )
        self.services = Services(
            access=self.access,
            active=self.active,
            active_sink=self.active_sink,
            authentication=self.authentication,
            authorities=self.authorities,
            command_log=self.command_log,
            commands=self.commands,
            connect_rates=self.connect_rates,
            connection_bounds=self.connection_bounds,
            connections=self.connections,
            dead_letters=self.dead_letters,
            device_settings=self.device_settings,
            device_list=DeviceList(self.device_ids, self.fleet),
            enrolment=self.enrolment,
            failures=self.failures,
            feed=self.feed,
            fleet=self.fleet,
            forwarder=self.forwarder,
            metrics=self.metrics,
            page_files=PageFiles(),
            problems=self.problems,
            profiles=self.profiles,
            readiness=self.readiness,
            readings=ReadingsByRequest(
                clock=self.clock,
                connections=self.connections,
                fleet=self.fleet,
                metrics=self.metrics,
                problems=self.problems,
                profiles=self.profiles,
                spool=self.spool,
            ),
            records=TraceFiles(config.spool.directory, state / file_names.WRITE_LOG, self.dead_letters, known=True),
            registry=self.registry,
            replay=Replay(self.dead_letters, self.active_sink),
            revocation=self.revocation,
            session_services=self.session_services,
            status=self.status,
            threads=self.threads,
            write_log=self.write_log,
        )

    def _build_listener(self, config: Config, tls: ssl.SSLContext | None) -> None:
        """The HTTP server of the one port; `gateway.app` gives it its sockets."""
        self.listener = Listener(
            application(self.services),
            on_turned_away=self.metrics.connections_total.labels("too_many").inc,
            proxies=TrustedProxies(config.server.trusted_proxies),
            ssl_options=tls,
            on_tls_handshake=self.authorities.handshake_done,
            may_connect=self.connect_rates.allow,
            bounds=self.connection_bounds,
        )


def _make_directory(setting: str, path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "is no directory" if isinstance(error, FileExistsError) else f"cannot be made: {error.strerror}"
        raise GatewayError(f"{setting}: {path} {reason}") from error


def _newest(directory: Path) -> int:
    """When a file there was written last, in ns since 1970; 0 if there is none."""
    return max((path.stat().st_mtime_ns for path in directory.iterdir() if path.is_file()), default=0)
