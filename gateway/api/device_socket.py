"""``GET /v1/devices/{id}/stream``: whether a request may become the WebSocket of a device."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from gateway.api.handler import FOREIGN_ORIGIN, JsonErrors
from gateway.config.names import DEVICE_ID
from gateway.devices.session_runner import SessionRunner
from gateway.http.access import bearer_token, origin_allowed, token_among, without_token
from gateway.http.client_address import came_through_proxy
from gateway.protocol.subprotocols import SUBPROTOCOLS
from gateway.websocket.handshake import VERSION, missing_for_upgrade, offered_subprotocols

if TYPE_CHECKING:
    from gateway.devices.session_runner import SessionServices
    from gateway.http.client_certificates import Authorities
    from gateway.http.connect_rates import ConnectRates


class DeviceSocket(JsonErrors, SessionRunner):
    """Judges the request; `SessionRunner` has the connection after that."""

    __slots__ = ("authorities", "connect_rates")

    authorities: Authorities
    connect_rates: ConnectRates
    session_services: SessionServices

    def initialize(
        self, session_services: SessionServices, authorities: Authorities, connect_rates: ConnectRates
    ) -> None:
        """Take what all device sockets share."""
        self.authorities = authorities
        self.connect_rates = connect_rates
        self.prepare_session(session_services)

    async def get(self, device_id: str) -> None:
        """Refuse a request that can never become a session, in words; else shake hands."""
        services = self.services
        self.device_id = device_id
        self.session_id = secrets.token_hex(8)
        self.remote = self.request.remote_ip or "?"
        headers, results = self.request.headers, services.metrics.connections_total
        if came_through_proxy(headers) and not self.connect_rates.allow(self.remote):
            self.set_header("Retry-After", "1")
            return self.refuse(429, "too_often", "this address connects too often, try again later")
        if not DEVICE_ID.fullmatch(device_id):
            return self.refuse(400, "bad_device_id", "a device id is 1 to 128 of A-Z a-z 0-9 . _ : -")
        if problem := missing_for_upgrade(headers):
            self.set_header("Upgrade", "websocket")
            self.set_header("Sec-WebSocket-Version", VERSION)
            return self.refuse(426, "upgrade_required", problem)
        if not origin_allowed(self.request, services.active.config):
            results.labels("bad_origin").inc()
            return self.refuse(403, "bad_origin", FOREIGN_ORIGIN)
        subprotocols = offered_subprotocols(headers)
        offered = without_token(subprotocols)
        if offered and SUBPROTOCOLS.keys().isdisjoint(offered):
            results.labels("bad_subprotocol").inc()
            known = list(SUBPROTOCOLS)
            return self.refuse(400, "unknown_subprotocol", f"this gateway speaks {', '.join(known)}", known=known)
        token = bearer_token(self.request) or token_among(subprotocols)
        self.device = None
        if services.connections.draining:
            return self.refuse(503, "restarting", "the gateway is shutting down")
        shown = self.authorities.certificate(self.request)
        self.chain = () if shown is None else shown.chain
        if token is not None or shown is not None or not services.authentication.needs_token:
            self.device = services.authentication.authenticate(device_id, token, shown)
            if self.device is None:
                backed_off = self.refuse_credentials(services.failures, device_id)
                return results.labels("backed_off" if backed_off else "unauthorized").inc()
            services.failures.right(self.remote, device_id)
        elif self.refuse_for_now(services.failures, device_id):
            return results.labels("backed_off").inc()
        self.handshake_ns = time.time_ns()
        await super().get(device_id)
        return None

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """Echo the first protocol that is known here, and never a credential (RFC 6455 section 4.2.2)."""
        return next((name for name in subprotocols if name in SUBPROTOCOLS), None)

    def check_origin(self, origin: str) -> bool:
        """Tornado's question, which `get` has answered."""
        return True
