"""The route table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tornado.web import Application, RequestHandler, url

from gateway.server import api, devices, ops
from gateway.server.device_socket import DeviceSocket
from gateway.server.history import WhyHandler
from gateway.server.login import SessionHandler
from gateway.server.pages import FileHandler
from gateway.server.requests import NotFound

if TYPE_CHECKING:
    from gateway.server.context import Context


PATHS: dict[str, type[RequestHandler]] = {
    r"/": FileHandler,
    r"/static/(.*)": FileHandler,
    r"/v1/session": SessionHandler,
    r"/v1/devices/([^/]+)/stream": DeviceSocket,
    r"/v1/devices/([^/]+)/readings": api.ReadingsHandler,
    r"/v1/devices": devices.DevicesHandler,
    r"/v1/devices/([^/]+)": devices.DeviceHandler,
    r"/v1/query": api.QueryHandler,
    r"/v1/why/([^/]+)": WhyHandler,
    r"/healthz": ops.HealthHandler,
    r"/readyz": ops.ReadyHandler,
    r"/metrics": ops.MetricsHandler,
}


def application(context: Context) -> Application:
    """All paths of the gateway's one port."""
    return Application(
        [url(path, handler, {"context": context}) for path, handler in PATHS.items()],
        default_handler_class=NotFound,
        log_function=lambda _handler: None,
        websocket_max_message_size=context.config.server.max_message_bytes,
    )
