"""The route table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tornado.web import Application, RequestHandler, url

from gateway.api import commands as commanding
from gateway.api import dead_letters as letters
from gateway.api import enrolments as approving
from gateway.api import health as ops
from gateway.api import readings as api
from gateway.api import registry as registering
from gateway.api.device_socket import DeviceSocket
from gateway.api.handler import NotFound
from gateway.api.live import LiveHandler
from gateway.api.login import SessionHandler
from gateway.api.page import FileHandler
from gateway.api.query import QueryHandler, SeriesHandler
from gateway.api.settings import SettingsHandler
from gateway.api.status import StatusHandler, StatusHistoryHandler
from gateway.api.why import WhyHandler

if TYPE_CHECKING:
    from gateway.devices.context import Context


PAGES: dict[str, type[RequestHandler]] = {r"/": FileHandler, r"/static/(.*)": FileHandler}
PATHS: dict[str, type[RequestHandler]] = {
    r"/v1/session": SessionHandler,
    r"/v1/devices/([^/]+)/stream": DeviceSocket,
    r"/v1/devices/([^/]+)/readings": api.ReadingsHandler,
    r"/v1/devices/([^/]+)/token": registering.TokenHandler,
    r"/v1/devices/([^/]+)/commands": commanding.CommandsHandler,
    r"/v1/devices/([^/]+)/commands/([^/]+)": commanding.CommandHandler,
    r"/v1/devices/([^/]+)/settings": SettingsHandler,
    r"/v1/devices": registering.RegisteringHandler,
    r"/v1/devices/([^/]+)": registering.RevokingHandler,
    r"/v1/enrolments": approving.EnrolmentsHandler,
    r"/v1/enrolments/([^/]+)/approve": approving.ApprovingHandler,
    r"/v1/enrolments/([^/]+)/refuse": approving.RefusingHandler,
    r"/v1/dead-letters": letters.DeadLettersHandler,
    r"/v1/dead-letters/replay": letters.ReplayHandler,
    r"/v1/live": LiveHandler,
    r"/v1/status": StatusHandler,
    r"/v1/status/history": StatusHistoryHandler,
    r"/v1/query": QueryHandler,
    r"/v1/series": SeriesHandler,
    r"/v1/why/([^/]+)": WhyHandler,
    r"/healthz": ops.HealthHandler,
    r"/readyz": ops.ReadyHandler,
    r"/metrics": ops.MetricsHandler,
}


def application(context: Context) -> Application:
    """All paths of the gateway's one port."""
    return Application(
        [url(path, handler, {"context": context}) for path, handler in {**PAGES, **PATHS}.items()],
        default_handler_class=NotFound,
        log_function=lambda _handler: None,
        websocket_max_message_size=context.config.server.max_message_bytes,
    )
