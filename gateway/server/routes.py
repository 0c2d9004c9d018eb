"""The route table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tornado.web import Application, url

from gateway.server import api, ops
from gateway.server.device_socket import DeviceSocket
from gateway.server.requests import NotFound

if TYPE_CHECKING:
    from gateway.server.context import Context


def application(context: Context) -> Application:
    """All paths of the gateway's one port."""
    shared = {"context": context}
    return Application(
        [
            url(r"/v1/devices/([^/]+)/stream", DeviceSocket, shared),
            url(r"/v1/devices/([^/]+)/readings", api.ReadingsHandler, shared),
            url(r"/v1/devices", api.DevicesHandler, shared),
            url(r"/v1/devices/([^/]+)", api.DeviceHandler, shared),
            url(r"/v1/query", api.QueryHandler, shared),
            url(r"/healthz", ops.HealthHandler, shared),
            url(r"/readyz", ops.ReadyHandler, shared),
            url(r"/metrics", ops.MetricsHandler, shared),
        ],
        default_handler_class=NotFound,
        log_function=lambda _handler: None,
        websocket_max_message_size=context.config.server.max_message_bytes,
        websocket_ping_interval=0,
    )
