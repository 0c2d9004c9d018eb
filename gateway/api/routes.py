"""The route table: every path of the gateway's one port, and the handler that answers it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from tornado.web import Application, RequestHandler, url

from gateway.api import commands, dead_letters, device, devices, enrolments, health, query, readings, status
from gateway.api.device_socket import DeviceSocket
from gateway.api.handler import NotFound
from gateway.api.live import LiveHandler
from gateway.api.login import LoginHandler
from gateway.api.page import FileHandler
from gateway.api.settings import SettingsHandler
from gateway.api.why import WhyHandler

if TYPE_CHECKING:
    from gateway.config.active_config import ActiveConfig
    from gateway.delivery.dead_letters import DeadLetters
    from gateway.delivery.forwarder import Forwarder
    from gateway.delivery.message_trace import TraceFiles
    from gateway.delivery.replay import Replay
    from gateway.delivery.sink import ActiveSink
    from gateway.delivery.write_log import WriteLog
    from gateway.devices.authentication import Authentication
    from gateway.devices.commands import Commands
    from gateway.devices.connections import Connections
    from gateway.devices.device_list import DeviceList
    from gateway.devices.enrolment import Enrolment
    from gateway.devices.failed_credentials import FailedCredentials
    from gateway.devices.fleet import Fleet
    from gateway.devices.problems import Problems
    from gateway.devices.profiles import Profiles
    from gateway.devices.readings_by_request import ReadingsByRequest
    from gateway.devices.revocation import Revocation
    from gateway.devices.session_runner import SessionServices
    from gateway.devices.settings import SettingsExchange
    from gateway.http.access import Access
    from gateway.http.client_certificates import Authorities
    from gateway.http.connect_rates import ConnectRates
    from gateway.http.connection_bounds import ConnectionBounds
    from gateway.live.feed import LiveFeed
    from gateway.live.readiness import Readiness
    from gateway.live.status import Status
    from gateway.metrics import Metrics
    from gateway.page.files import PageFiles
    from gateway.process.threads import BoundedThreads
    from gateway.state.command_log import CommandLog
    from gateway.state.registry import Registry


@dataclass(frozen=True, slots=True)
class Services:
    """All services that handlers use. A handler gets those that its class names as annotations, and no others."""

    access: Access
    active: ActiveConfig
    active_sink: ActiveSink
    authentication: Authentication
    authorities: Authorities
    command_log: CommandLog
    commands: Commands
    connect_rates: ConnectRates
    connection_bounds: ConnectionBounds
    connections: Connections
    dead_letters: DeadLetters
    device_settings: SettingsExchange
    device_list: DeviceList
    enrolment: Enrolment
    failures: FailedCredentials
    feed: LiveFeed
    fleet: Fleet
    forwarder: Forwarder
    metrics: Metrics
    page_files: PageFiles
    problems: Problems
    profiles: Profiles
    readiness: Readiness
    readings: ReadingsByRequest
    records: TraceFiles
    registry: Registry
    replay: Replay
    revocation: Revocation
    session_services: SessionServices
    status: Status
    threads: BoundedThreads
    write_log: WriteLog


PAGES: dict[str, type[RequestHandler]] = {r"/": FileHandler, r"/static/(.*)": FileHandler}
PATHS: dict[str, type[RequestHandler]] = {
    r"/v1/session": LoginHandler,
    r"/v1/devices/([^/]+)/stream": DeviceSocket,
    r"/v1/devices/([^/]+)/readings": readings.ReadingsHandler,
    r"/v1/devices/([^/]+)/token": device.TokenHandler,
    r"/v1/devices/([^/]+)/commands": commands.CommandsHandler,
    r"/v1/devices/([^/]+)/commands/([^/]+)": commands.CommandHandler,
    r"/v1/devices/([^/]+)/settings": SettingsHandler,
    r"/v1/devices": devices.DevicesHandler,
    r"/v1/devices/([^/]+)": device.DeviceHandler,
    r"/v1/enrolments": enrolments.EnrolmentsHandler,
    r"/v1/enrolments/([^/]+)/approve": enrolments.ApproveHandler,
    r"/v1/enrolments/([^/]+)/refuse": enrolments.RefuseHandler,
    r"/v1/dead-letters": dead_letters.DeadLettersHandler,
    r"/v1/dead-letters/replay": dead_letters.ReplayHandler,
    r"/v1/live": LiveHandler,
    r"/v1/status": status.StatusHandler,
    r"/v1/status/history": status.StatusHistoryHandler,
    r"/v1/query": query.QueryHandler,
    r"/v1/series": query.SeriesHandler,
    r"/v1/why/([^/]+)": WhyHandler,
    r"/healthz": health.HealthHandler,
    r"/readyz": health.ReadyHandler,
    r"/metrics": health.MetricsHandler,
}


def application(services: Services) -> Application:
    """All paths of the gateway's one port."""
    return Application(
        [url(path, handler, _used(handler, services)) for path, handler in {**PAGES, **PATHS}.items()],
        default_handler_class=NotFound,
        log_function=lambda _handler: None,
        websocket_max_message_size=services.active.config.server.max_message_bytes,
    )


def _used(handler: type[RequestHandler], services: Services) -> dict[str, Any]:
    """The services that ``handler`` and its base classes name, by name."""
    named = {name for kind in handler.__mro__ for name in inspect.get_annotations(kind)}
    return {field.name: getattr(services, field.name) for field in fields(services) if field.name in named}
