"""A device's WebSocket: who may have one, then a shell that runs what the session says.

Rules that hold here:

* The session decides, this file does: messages in, effects out, no protocol rule below.
* Nothing here waits. An entry goes to the spool's next commit; its ack comes back through `durable`.
* The same answer for an unknown device and a wrong token.
"""

from __future__ import annotations

import logging
import math
import secrets
import time
from typing import TYPE_CHECKING, Any

from gateway.config.names import DEVICE_ID
from gateway.errors import SpoolFull
from gateway.ledger import NO_SEQ, Entry
from gateway.protocol.counting import CountingSession
from gateway.protocol.device_clock import DeviceClock
from gateway.protocol.endings import Endings
from gateway.protocol.messages import (
    Ack,
    AckLater,
    Authenticate,
    Close,
    CloseCode,
    Code,
    Enrol,
    Refusal,
    Reported,
    Rest,
    Result,
    Send,
    Throttle,
    TimeRequest,
    all_of,
)
from gateway.protocol.session import Session
from gateway.protocol.shown import cut
from gateway.protocol.subprotocols import JSON, SENML, SUBPROTOCOLS
from gateway.server.access import bearer_token, page_may_send
from gateway.server.enrolling import Refused
from gateway.server.handshake import VERSION, lacking, offered_subprotocols, offered_token
from gateway.server.proxies import came_through_proxy
from gateway.server.requests import JsonErrors
from gateway.server.settings import TOO_FAST
from gateway.server.websocket import BINARY, TEXT, StreamHandler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.command_log import Command
    from gateway.enrolments import Request
    from gateway.protocol.endings import Ending
    from gateway.protocol.messages import Effect, Effects, Outcome
    from gateway.registry_layout import Device
    from gateway.server.context import Context
    from gateway.server.fleet import DeviceView
    from gateway.server.websocket import Write

log = logging.getLogger(__name__)

UNREMARKABLE = frozenset({1000, CloseCode.GOING_AWAY, CloseCode.RESTART})
"""Closes that are not logged one by one: a restart would write a line for every device."""
STRANGER_BYTES = 16 * 1024
"""Longest message before the credentials are good: a hello."""
FAREWELL = 0.1
"""Seconds for the close that tells a stale device why, before its socket goes."""
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


class DeviceSocket(JsonErrors, StreamHandler):
    """``GET /v1/devices/{id}/stream``."""

    # Tornado's handler fills its dictionary so far that a dozen keys more cost every idle device 1.4 KB.
    __slots__ = (
        "authenticated",
        "binary",
        "chain",
        "context",
        "device",
        "device_id",
        "held",
        "opened_at",
        "paused",
        "pinged_at",
        "profile",
        "remote",
        "session",
        "session_id",
        "shaken_ns",
        "view",
    )

    def initialize(self, context: Context) -> None:
        """Take what all requests share."""
        self.context = context
        self.session: Session | None = None
        self.view: DeviceView | None = None
        self.held: Request | None = None
        self.authenticated = False
        self.binary = False
        self.pinged_at = 0.0
        self.paused = False

    @property
    def info(self) -> dict[str, Any]:
        """What the device told about itself in its hello."""
        return {} if self.session is None else self.session.info

    @property
    def late(self) -> bool:
        """Whether the device catches up."""
        return self.session is not None and self.session.late

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
        if self.device is not None and context.full:
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
        self.context.admitted += 1
        busy = self.context.fleet.busy(self.device_id, now)
        if busy is not None:
            self.context.metrics.connections_total.labels("busy").inc()
            self._run(session.busy(busy))
            return
        self.device, self.profile = device, device.profile
        self.context.metrics.connections_total.labels("accepted").inc()
        self.view = self.context.fleet.connected(self.device_id, self, now)
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

    def on_text(self, data: bytes, *, binary: bool = False) -> None:
        """One message of the device, nothing of it checked yet."""
        session = self.session
        if session is not None:
            if binary is not self.binary:
                self._run(session.receive_other())
                return
            spool = self.context.spool
            outcome = session.receive(data, time.time_ns(), room=spool.room and self.context.clock.wrong is None)
            if spool.scarce:
                self.context.backpressure.took(self, len(data))
            if outcome.__class__ is Entry:
                self._store(outcome)
                return
            self._run(outcome)  # after the pause: a close has to be able to read on
            if session.ack is Ack.STORED:
                self._await_stored()

    def _await_stored(self) -> None:
        # A hello says so, and may be what has the device welcomed: only then is it known to be this device.
        if self.view is not None and self.view.connection is self:
            self.context.fleet.awaiting.add(self.device_id)

    def on_binary(self, data: bytes) -> None:
        """One binary message of the device."""
        self.on_text(data, binary=True)

    def _run(self, outcome: Outcome) -> None:
        for effect in all_of(outcome):
            if isinstance(effect, Entry):
                self._store(effect)
            elif isinstance(effect, Send):
                self._write(self._said(effect.data))
                if effect.__class__ is not Send:
                    self._note(effect)
            elif isinstance(effect, AckLater):
                self.context.acks.owe(self)
            elif isinstance(effect, Close):
                self._close(effect)
            elif self.session is not None:
                self._do(self.session, effect)

    def _do(self, session: Session, effect: Effect) -> None:
        """What a device seldom asks for."""
        if isinstance(effect, Authenticate):
            self._authenticate(session, effect.token)
        elif isinstance(effect, Enrol):
            self._ask(session, effect)
        elif isinstance(effect, Rest):
            self.context.metrics.rests.labels(effect.limit).inc()
            self.context.backpressure.rest(self, effect.ms / 1000)
        elif isinstance(effect, Result):
            self._take_result(session, effect)
        elif isinstance(effect, TimeRequest):
            self.context.metrics.time_requests.inc()
            self._run(session.tell_time(effect, time.time_ns()))
        elif isinstance(effect, DeviceClock) and self.view is not None:
            self.view.clock = effect
        elif isinstance(effect, Reported) and not self.context.settings.reported(self.device_id, effect):
            self.refuse_report(TOO_FAST)

    def _take_result(self, session: Session, result: Result) -> None:
        if not self.context.downlink.answered(self.device_id, result):
            problem = f"no command {cut(result.id)} waits for a result"
            self._run(session.refuse(Code.UNKNOWN_COMMAND, problem, time.time_ns()))

    def command(self, command: Command, expires_in_ms: int) -> bool:
        """Send a command; whether that was still possible."""
        if self.session is None:
            return False
        return self._tell(self.session.command(command.id, command.name, command.params, expires_in_ms))

    def desire(self, version: int, desired: bytes) -> bool:
        """Send desired settings; whether that was still possible."""
        return self.session is not None and self._tell(self.session.settings(version, desired))

    def refuse_report(self, problem: str) -> None:
        """What the device said of its settings was not kept."""
        if self.session is not None:
            self._run(self.session.refuse(Code.BAD_MESSAGE, problem, time.time_ns()))

    def _tell(self, effects: Effects) -> bool:
        self._run(effects)
        return bool(effects)

    def _note(self, said: Send) -> None:
        """Keep what the device was told is wrong, once it is known that it is this device, and count what holds it."""
        if isinstance(said, Throttle):
            self.context.metrics.throttles.labels(said.limit).inc()
        elif isinstance(said, Refusal) and self.authenticated:
            seq = None if said.seq == NO_SEQ else said.seq
            self.context.problems.told(self.device_id, said.errors, seq, time.time_ns())

    def _store(self, entry: Entry) -> None:
        try:
            self.context.spool.append(entry, self)
        except SpoolFull:
            self.append_failed([entry], 1000)

    def _close(self, close: Close) -> None:
        if close.code not in UNREMARKABLE:
            who = {"device": self.device_id, "session": self.session_id, "code": int(close.code)}
            log.info("device %s: closing %d, %s", self.device_id, close.code, close.reason, extra=who)
        # Whoever says nothing will not answer the close either, and a stranger who is in the way must not stay in it.
        gone = close.code == CloseCode.KEEPALIVE or (close.code == CloseCode.TRY_AGAIN_LATER and not self.authenticated)
        self.close(close.code, close.reason, timeout=FAREWELL if gone else None)

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
        if self.context.full:
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
            self._run(session.held(request.claim, max(0, request.expires_ns - time.time_ns()) // 1_000_000))

    def enrolled(self, device: Device, token: str) -> None:
        """An operator has approved: here is the token, and the way is free."""
        if self.session is not None and self.held is not None:
            self._run(self.session.enrolled(token))
            self._admit(self.session, device)

    def not_enrolled(self, why: Ending) -> None:
        """Nobody has approved: end in this way."""
        self._end(why)

    def durable(self, numbered: int) -> Write | None:
        """A commit with ``numbered`` of this session's messages is on disk; the ack, if that is what it leads to."""
        return None if self.session is None else self._answer(self.session.durable(numbered))

    def acknowledge(self) -> Write | None:
        """An ack that was put off is due."""
        return None if self.session is None else self._answer(self.session.acknowledge())

    def _answer(self, outcome: Outcome) -> Write | None:
        if outcome.__class__ is Send:
            return self._said(outcome.data)
        self._run(outcome)
        return None

    def _said(self, data: bytes) -> Write | None:
        connection = self.ws_connection
        return None if connection is None else connection.prepare(BINARY if self.binary else TEXT, data)

    def tell_paused(self) -> None:
        """The gateway has not read this device for a while."""
        if self.session is not None:
            self._run(self.session.kept_waiting())

    def stored(self, boot: str, messages: int) -> None:
        """The database has ``messages`` more of this device's numbered messages of ``boot``."""
        if self.session is not None and self.session.boot == boot:
            self._run(self.session.stored(messages))

    def dropped(self, boot: str, messages: int) -> None:
        """A full spool discarded ``messages`` of this device's numbered messages of ``boot``."""
        if self.session is not None and self.session.boot == boot:
            self._run(self.session.dropped(messages))

    def append_failed(self, entries: Sequence[Entry], retry_after_ms: int) -> None:
        """These entries were not taken: the device has to send them again."""
        if self.session is not None:
            self._run(self.session.append_failed(entries, retry_after_ms))

    def replace(self) -> None:
        """A newer connection of this device took over; what this one has sent before still counts."""
        if self.paused:
            self.deliver_held()
        self._end(Endings.replaced)

    def expire(self) -> None:
        """Nothing came within the time-out."""
        self._end(Endings.keepalive_expired)

    def credentials_late(self) -> None:
        """The device did not say who it is in time."""
        self._end(Endings.credentials_late)

    def message_late(self) -> None:
        """A message was begun, and its end did not come in time."""
        self._end(Endings.message_late)

    def crowd_out(self) -> None:
        """Too many have not said who they are, and this one has been at it for longest."""
        if self.session is not None and self.session.open:
            self._end(Endings.crowded_out)
        else:
            self.abort()

    def drain(self, reconnect_after_ms: int) -> None:
        """Take no more, and tell the device when to come back."""
        self.pause_reading()
        if self.session is not None:
            self._run(self.session.draining(reconnect_after_ms))

    def restart(self) -> None:
        """The gateway is going down."""
        self._end(Endings.restarting)

    def _end(self, how: Ending) -> None:
        if self.session is not None:
            self._run(how(self.session))

    def renew(self) -> None:
        """The configuration has changed."""
        if self.session is not None:
            if self.device is None:
                self.session.renew(self.context.terms)
            else:
                encoder, rates = self.context.encoder(self.device), self.context.rates_of(self.device)
                self.session.renew(self.context.terms, encoder, rates)

    def revoke(self) -> None:
        """The device's credentials no longer count."""
        self._end(Endings.revoked)

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
