"""A device's WebSocket from its request to its end: who may have one, who it is, and what is left behind.

Rules that hold here:

* Between the two its session is run by `gateway.devices.session_runner`.
* The same answer for an unknown device and a wrong token.
"""

from __future__ import annotations

import math
import secrets
import time
from typing import TYPE_CHECKING, Any

from gateway.config.names import DEVICE_ID
from gateway.devices.enrolment import Refused
from gateway.devices.session_runner import SessionShell
from gateway.http.access import bearer_token, page_may_send
from gateway.http.client_address import came_through_proxy
from gateway.protocol.counting import CountingSession
from gateway.protocol.endings import Endings
from gateway.protocol.messages import (
    Ack,
    Authenticate,
    CloseCode,
    Enrol,
)
from gateway.protocol.session import Session
from gateway.protocol.subprotocols import JSON, SENML, SUBPROTOCOLS
from gateway.time_units import NS_PER_MS
from gateway.websocket.handshake import VERSION, lacking, offered_subprotocols, offered_token

if TYPE_CHECKING:
    from gateway.devices.context import Context
    from gateway.protocol.endings import Ending
    from gateway.protocol.messages import Effect
    from gateway.state.enrolments import Request
    from gateway.state.registry_layout import Device

STRANGER_BYTES = 16 * 1024
"""Longest message before the credentials are good: a hello."""
FULL = "too many connections, try again later"
FLAPPING = {
    "code": "flapping",
    "message": "connections keep taking over from each other: no new one for a minute; two devices with one id?",
}
"""What an operator sees of a device that has connected too often."""
ENDINGS: dict[int | None, str] = {
    CloseCode.UNSUPPORTED: "binary",
    CloseCode.NOT_UTF8: "not_utf8",
    CloseCode.POLICY: "policy",
    CloseCode.RESTART: "restart",
    CloseCode.TRY_AGAIN_LATER: "busy",
    CloseCode.CREDENTIALS: "credentials",
    CloseCode.KEEPALIVE: "keepalive",
    CloseCode.REPLACED: "replaced",
    CloseCode.RATE_IGNORED: "rate_limit",
}
"""How `gateway_disconnects_total` and ``device_status`` call the closes that the gateway decides on."""


class DeviceSocket(SessionShell):
    """``GET /v1/devices/{id}/stream``."""

    __slots__ = ("chain", "device", "held", "opened_at", "pinged_at", "profile", "remote", "shaken_ns")

    def initialize(self, context: Context) -> None:
        """Take what all requests share."""
        super().initialize(context)
        self.held: Request | None = None
        self.pinged_at = 0.0

    @property
    def info(self) -> dict[str, Any]:
        """What the device told about itself in its hello."""
        return {} if self.session is None else self.session.info

    async def get(self, device_id: str) -> None:
        """Refuse a request that can never become a session, in words; else shake hands."""
        self.device_id = device_id
        self.session_id = secrets.token_hex(8)
        self.remote = self.request.remote_ip or "?"
        headers = self.request.headers
        if came_through_proxy(headers) and not self.context.may_connect(self.remote):
            self.set_header("Retry-After", "1")
            return self.refuse(429, "too_often", "this address connects too often, try again later")
        if not DEVICE_ID.fullmatch(device_id):
            return self.refuse(400, "bad_device_id", "a device id is 1 to 128 of A-Z a-z 0-9 . _ : -")
        if problem := lacking(headers):
            self.set_header("Upgrade", "websocket")
            self.set_header("Sec-WebSocket-Version", VERSION)
            return self.refuse(426, "upgrade_required", problem)
        if not page_may_send(self.request, self.context.config):
            self.context.metrics.connections_total.labels("bad_origin").inc()
            return self.refuse(403, "bad_origin", "server.allowed_origins does not name the page this comes from")
        offered = offered_subprotocols(headers)
        if offered and SUBPROTOCOLS.keys().isdisjoint(offered):
            self.context.metrics.connections_total.labels("bad_subprotocol").inc()
            known = list(SUBPROTOCOLS)
            return self.refuse(400, "unknown_subprotocol", f"this gateway speaks {', '.join(known)}", known=known)
        token = bearer_token(self.request) or offered_token(headers)
        self.device: Device | None = None
        if self.context.draining:
            return self.refuse(503, "restarting", "the gateway is shutting down")
        shown = self.context.authorities.certificate(self.request)
        self.chain = () if shown is None else shown.chain
        if token is not None or shown is not None or not self.context.needs_token:
            self.device = self.context.authenticate(device_id, token, shown)
            if self.device is None:
                waits = self.refuse_credentials(self.context, device_id)
                self.context.metrics.connections_total.labels("backed_off" if waits else "unauthorized").inc()
                return None
            self.context.failures.right(self.remote, device_id)
        elif self.refuse_for_now(self.context, device_id):
            return self.context.metrics.connections_total.labels("backed_off").inc()
        self.shaken_ns = time.time_ns()
        await super().get(device_id)
        return None

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """Echo the first protocol that is spoken here, and never a credential (RFC 6455 section 4.2.2)."""
        return next((name for name in subprotocols if name in SUBPROTOCOLS), None)

    def check_origin(self, origin: str) -> bool:
        """Tornado's own question, which `get` has answered."""
        return True

    @property
    def max_message_size(self) -> int:
        """What Tornado takes as the limit of a connection; `_authenticate` raises it."""
        longest = self.context.config.server.max_message_bytes
        return longest if self.device is not None else min(longest, STRANGER_BYTES)

    def open(self, *_args: str, **_kwargs: str) -> None:
        """The handshake is done: start the session, or say why not."""
        context = self.context
        if context.clock.wrong is not None:
            self._turn_away("clock", "the gateway's clock is not set, try again later")
            return
        if self.device is not None and context.full(self.device_id):
            self._turn_away("too_many", FULL)
            return
        chosen = SUBPROTOCOLS.get(self.selected_subprotocol or "", JSON)
        self.binary = chosen.binary
        kind = CountingSession if chosen.counted else Session
        self.session = kind(self.device_id, self.session_id, context.terms, chosen)
        self.opened_at = self.last_byte_at
        context.socket_opened(self)
        if self.device is not None:
            self._welcome(self.session, self.device)
        else:
            context.strangers.add(self)

    def _turn_away(self, result: str, reason: str) -> None:
        self.context.metrics.connections_total.labels(result).inc()
        self.close(CloseCode.TRY_AGAIN_LATER, reason)

    def _welcome(self, session: Session, device: Device) -> None:
        now = time.time_ns()
        self.authenticated = True
        busy = self.context.fleet.busy(self.device_id, now)
        if busy is not None:
            self.context.metrics.connections_total.labels("busy").inc()
            self._run(session.busy(busy))
            return
        self.device, self.profile = device, device.profile
        self.context.metrics.connections_total.labels("accepted").inc()
        self.view = self.context.fleet.connected(self.device_id, self, now)
        self.context.metrics.connections.devices += 1
        if self.view.fought_over(now):
            self.context.problems.told(self.device_id, [FLAPPING], None, now)
        encoder = self.context.encoder(device)
        if session.subprotocol is SENML:
            encoder.units = self.view.tell_units()
        allowance = self.context.allowance(self.view, device)
        self._run(
            session.welcome(self.view.account, encoder, allowance, now, self.view.clock, opened_ns=self.shaken_ns)
        )
        self.context.settings.connected(self.device_id)
        self.context.downlink.connected(self.device_id)
        if session.ack is Ack.STORED:  # of a hello that came before somebody approved
            self._await_stored()

    def _do(self, session: Session, effect: Effect) -> None:
        """What a device seldom asks for; before the welcome, who it is."""
        if isinstance(effect, Authenticate):
            self._authenticate(session, effect.token)
        elif isinstance(effect, Enrol):
            self._ask(session, effect)
        else:
            super()._do(session, effect)

    def _authenticate(self, session: Session, token: str) -> None:
        device = self.context.authenticate(self.device_id, token)
        if device is None:
            seconds = self.context.failures.wrong(self.remote, self.device_id)
            self.context.metrics.connections_total.labels("backed_off" if seconds else "unauthorized").inc()
            self._run(session.credentials_refused(math.ceil(seconds)))
        else:
            self.context.failures.right(self.remote, self.device_id)
            self._admit(session, device)

    def _admit(self, session: Session, device: Device) -> None:
        """Let in a device that has said who it is in a message."""
        if self.held is not None:
            self.context.enrolling.admitted(self, self.held)
            self.held = None
        self.context.strangers.forget(self)
        if self.context.full(self.device_id):
            self.context.metrics.connections_total.labels("too_many").inc()
            self._run(session.busy(FULL))
            return
        self.admit_messages(self.context.config.server.max_message_bytes)
        self._welcome(session, device)

    def _ask(self, session: Session, enrol: Enrol) -> None:
        request = self.context.enrolling.ask(self, enrol, self.context.config.auth.enrol_expiry)
        if isinstance(request, Refused):
            self._run(request.why(session))
        else:
            self.held = request
            self.context.strangers.forget(self)  # who waits for a person has a place among those that do
            self._run(session.held(request.claim, max(0, request.expires_ns - time.time_ns()) // NS_PER_MS))

    def enrolled(self, device: Device, token: str) -> None:
        """An operator has approved: here is the token, and the way is free."""
        if self.session is not None and self.held is not None:
            self._run(self.session.enrolled(token))
            self._admit(self.session, device)

    def not_enrolled(self, why: Ending) -> None:
        """Nobody has approved: end in this way."""
        self._end(why)

    def credentials_late(self) -> None:
        """The device did not say who it is in time."""
        self._end(Endings.credentials_late)

    def crowd_out(self) -> None:
        """Too many have not said who they are, and this one has been at it for longest."""
        if self.session is not None and self.session.open:
            self._end(Endings.crowded_out)
        else:
            self.abort()

    def renew(self) -> None:
        """The configuration has changed."""
        if self.session is not None:
            if self.device is None:
                self.session.renew(self.context.terms)
            else:
                encoder, rates = self.context.encoder(self.device), self.context.rates_of(self.device)
                self.session.renew(self.context.terms, encoder, rates)

    def on_close(self) -> None:
        """The connection is gone: forget it, and record that the device left."""
        if self.session is None:
            return
        self.session = None
        self.context.backpressure.forget(self)
        self.context.strangers.forget(self)
        self.context.socket_closed(self)
        if self.held is not None:
            self.context.enrolling.left(self, self.held)
        reason = ENDINGS.get(self.close_code, str(self.close_cause))
        self.context.metrics.disconnects.labels(reason).inc()
        if self.view is not None:
            self.context.fleet.disconnected(self.device_id, self, reason, time.time_ns())
            self.context.downlink.disconnected(self.device_id, self)
