"""The route table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tornado.web import Application, RequestHandler, url

from gateway.server import api, approving, commanding, letters, ops, registering
from gateway.server.device_socket import DeviceSocket
from gateway.server.history import WhyHandler
from gateway.server.login import SessionHandler
from gateway.server.pages import FileHandler
from gateway.server.query import QueryHandler, SeriesHandler
from gateway.server.requests import NotFound
from gateway.server.settings import SettingsHandler
from gateway.server.status import StatusHandler, StatusHistoryHandler
from gateway.server.watching import LiveHandler

if TYPE_CHECKING:
    from gateway.server.context import Context


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
