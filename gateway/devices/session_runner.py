"""Runs the protocol session of one device on its WebSocket, from the handshake to what the device leaves behind.

Rules that hold here:

* The session decides (`gateway.protocol.session`), this file acts: messages in, effects out, no rule of the protocol.
* Nothing here waits. An entry joins the spool's next commit; its ack comes back through `SessionRunner.durable`.
* An unknown device and a wrong token get the same answer.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.devices.enrolment import EnrolmentRefused
from gateway.devices.settings import TOO_FAST
from gateway.errors import SpoolFull
from gateway.ledger import NO_SEQ, Entry
from gateway.protocol.counted_session import CountedSession
from gateway.protocol.device_clock import DeviceClock
from gateway.protocol.messages import (
    Ack,
    AckLater,
    Authenticate,
    Close,
    CloseCode,
    Code,
    Enrol,
    Refusal,
    Rest,
    Send,
    Throttle,
    TimeRequest,
    all_of,
)
from gateway.protocol.reports import Reported, Result
from gateway.protocol.session import CloseReason, Session
from gateway.protocol.subprotocols import JSON, SENML, SUBPROTOCOLS
from gateway.protocol.value_text import cut
from gateway.time_units import NS_PER_MS
from gateway.websocket.handler import BINARY, TEXT, StreamHandler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.config.active_config import ActiveConfig
    from gateway.devices.acks import Acks
    from gateway.devices.authentication import Authentication
    from gateway.devices.backpressure import Backpressure
    from gateway.devices.commands import Commands
    from gateway.devices.connections import Connections
    from gateway.devices.device_view import DeviceView
    from gateway.devices.enrolment import Enrolment
    from gateway.devices.failed_credentials import FailedCredentials
    from gateway.devices.fleet import Fleet
    from gateway.devices.presence import Presence
    from gateway.devices.problems import Problems
    from gateway.devices.profiles import Profiles
    from gateway.devices.settings import SettingsExchange
    from gateway.devices.unauthenticated import UnauthenticatedConnections
    from gateway.http.client_certificates import Chain
    from gateway.metrics import Metrics
    from gateway.process.clock import WallClock
    from gateway.protocol.messages import Effect, Effects, OneOrMoreEffects
    from gateway.spool.queue import SpoolQueue
    from gateway.state.command_log import Command
    from gateway.state.enrolments import EnrolmentRequest
    from gateway.state.registered_device import Device
    from gateway.websocket.handler import Write

log = logging.getLogger(__name__)

UNAUTHENTICATED_BYTES = 16 * 1024
"""Longest message of a device that is not authenticated: a hello."""
UNREMARKABLE = frozenset({1000, CloseCode.GOING_AWAY, CloseCode.RESTART})
"""Close codes that are not logged one by one: a restart would write a line for every device."""
FAREWELL = 0.1
"""Seconds between the close frame that tells a silent device why it is closed and the end of its socket."""
FULL = "too many connections, try again later"
FLAPPING = {
    "code": "flapping",
    "message": "connections keep taking over from each other: no new one for a minute; two devices with one id?",
}
"""The problem that an operator sees of a device that has connected too often."""
REASONS: dict[int | None, str] = {
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
"""The reason of `gateway_disconnects_total` and of ``device_status`` for each close code of the gateway."""


@dataclass(frozen=True, slots=True)
class SessionServices:
    """What the sessions of all devices use; built once, so that a connection holds one reference to it."""

    active: ActiveConfig
    clock: WallClock
    metrics: Metrics
    spool: SpoolQueue
    fleet: Fleet
    presence: Presence
    connections: Connections
    profiles: Profiles
    authentication: Authentication
    failures: FailedCredentials
    unauthenticated: UnauthenticatedConnections
    enrolment: Enrolment
    acks: Acks
    backpressure: Backpressure
    commands: Commands
    settings: SettingsExchange
    problems: Problems


class SessionRunner(StreamHandler):
    """The connection of one device; implements `gateway.devices.device_connection.DeviceConnection`.

    The request that opens it is judged by `gateway.api.device_socket.DeviceSocket`, which sets ``device_id``,
    ``session_id``, ``remote``, ``device``, ``chain`` and ``handshake_ns`` before the handshake.
    """

    # Tornado's handler fills its dictionary so far that a dozen keys more cost every idle device 1.4 KB.
    __slots__ = (
        "authenticated", "binary", "chain", "device", "device_id", "handshake_ns", "opened_at", "paused", "pinged_at",
        "profile", "remote", "request_pending", "services", "session", "session_id", "view",
    )  # fmt: skip

    device_id: str
    session_id: str
    remote: str
    profile: str
    opened_at: float
    device: Device | None
    chain: Chain
    handshake_ns: int
    """When the request was accepted, in ns since 1970: the device's clock is compared with it."""

    def prepare_session(self, services: SessionServices) -> None:
        """Take what all sessions share; there is no session yet."""
        self.services = services
        self.session: Session | None = None
        """The protocol's state machine; None before `open` and after `on_close`."""
        self.view: DeviceView | None = None
        """The state of the device in the fleet; None until it is welcomed."""
        self.authenticated = False
        self.binary = False
        """Whether messages are binary, as the subprotocol says."""
        self.paused = False
        self.pinged_at = 0.0
        self.request_pending: EnrolmentRequest | None = None
        """The request for approval that this connection waits for; None if it waits for none."""

    # From the handshake to the welcome

    @property
    def max_message_size(self) -> int:
        """What Tornado takes as the limit of a connection; `_admit` raises it."""
        longest = self.services.active.config.server.max_message_bytes
        return longest if self.device is not None else min(longest, UNAUTHENTICATED_BYTES)

    @property
    def record_timeout(self) -> float:
        """Seconds for which the bytes of one TLS record count as life: as many as those of a message may take."""
        return self.services.active.config.keepalive.message_timeout

    def open(self, *_args: str, **_kwargs: str) -> None:
        """The handshake is done: start the session, or close and say why."""
        services = self.services
        if services.clock.wrong is not None:
            self._turn_away("clock", "the gateway's clock is not set, try again later")
            return
        if self.device is not None and services.connections.full(self.device_id):
            self._turn_away("too_many", FULL)
            return
        subprotocol = SUBPROTOCOLS.get(self.selected_subprotocol or "", JSON)
        self.binary = subprotocol.binary
        kind = CountedSession if subprotocol.counted else Session
        self.session = kind(self.device_id, self.session_id, services.profiles.terms, subprotocol)
        self.opened_at = self.last_byte_at
        services.connections.opened(self)
        if self.device is not None:
            self._welcome(self.session, self.device)
        else:
            services.unauthenticated.add(self)

    def _turn_away(self, result: str, reason: str) -> None:
        self.services.metrics.connections_total.labels(result).inc()
        self.close(CloseCode.TRY_AGAIN_LATER, reason)

    def _welcome(self, session: Session, device: Device) -> None:
        services, now = self.services, time.time_ns()
        self.authenticated = True
        busy = services.fleet.busy(self.device_id, now)
        if busy is not None:
            services.metrics.connections_total.labels("busy").inc()
            self._run(session.busy(busy))
            return
        self.device, self.profile = device, device.profile
        services.metrics.connections_total.labels("accepted").inc()
        self.view = services.presence.connected(self.device_id, self, now)
        services.connections.welcomed()
        if self.view.fought_over(now):
            services.problems.told(self.device_id, [FLAPPING], None, now)
        encoder = services.profiles.encoder(device)
        if session.subprotocol is SENML:
            encoder.units = self.view.tell_units()
        allowance = services.profiles.allowance(self.view, device)
        self._run(
            session.welcome(self.view.account, encoder, allowance, now, self.view.clock, opened_ns=self.handshake_ns)
        )
        services.settings.connected(self.device_id)
        services.commands.connected(self.device_id)
        if session.ack is Ack.STORED:  # asked for by a hello that came before an operator approved
            self._await_stored()

    def _authenticate(self, session: Session, token: str) -> None:
        services = self.services
        device = services.authentication.authenticate(self.device_id, token)
        if device is None:
            seconds = services.failures.wrong(self.remote, self.device_id)
            services.metrics.connections_total.labels("backed_off" if seconds else "unauthorized").inc()
            self._run(session.credentials_refused(math.ceil(seconds)))
        else:
            services.failures.right(self.remote, self.device_id)
            self._admit(session, device)

    def _admit(self, session: Session, device: Device) -> None:
        """Welcome a device that was authenticated by a message."""
        services = self.services
        if self.request_pending is not None:
            services.enrolment.admitted(self, self.request_pending)
            self.request_pending = None
        services.unauthenticated.forget(self)
        if services.connections.full(self.device_id):
            services.metrics.connections_total.labels("too_many").inc()
            self._run(session.busy(FULL))
            return
        self.set_max_message_size(services.active.config.server.max_message_bytes)
        self._welcome(session, device)

    def _enrol(self, session: Session, enrol: Enrol) -> None:
        services = self.services
        request = services.enrolment.ask(self, enrol, services.active.config.auth.enrol_expiry)
        if isinstance(request, EnrolmentRefused):
            self._run(session.close(request.why))
        else:
            self.request_pending = request
            services.unauthenticated.forget(self)  # it has a place among the devices that wait for approval now
            self._run(session.pending(request.claim, max(0, request.expires_ns - time.time_ns()) // NS_PER_MS))

    def enrolled(self, device: Device, token: str) -> None:
        """An operator has approved: tell the device its token and welcome it."""
        if self.session is not None and self.request_pending is not None:
            self._run(self.session.enrolled(token))
            self._admit(self.session, device)

    # Messages of the device, and what the session makes of them

    @property
    def late(self) -> bool:
        """Whether the device sends backlog."""
        return self.session is not None and self.session.late

    @property
    def info(self) -> dict[str, Any]:
        """What the device said about itself in its hello."""
        return {} if self.session is None else self.session.info

    @property
    def awaits_approval(self) -> bool:
        """Whether the device waits for an operator's approval."""
        return self.request_pending is not None

    def on_text(self, data: bytes, *, binary: bool = False) -> None:
        """One message of the device, nothing of it checked yet."""
        session = self.session
        if session is not None:
            if binary is not self.binary:
                self._run(session.receive_other())
                return
            services = self.services
            spool = services.spool
            outcome = session.receive(data, time.time_ns(), room=spool.room and services.clock.wrong is None)
            if spool.scarce:
                services.backpressure.took(self, len(data))
            if outcome.__class__ is Entry:
                self._store(outcome)
                return
            self._run(outcome)  # after the pause: a close has to be able to read on
            if session.ack is Ack.STORED:
                self._await_stored()

    def on_binary(self, data: bytes) -> None:
        """One binary message of the device."""
        self.on_text(data, binary=True)

    def _await_stored(self) -> None:
        # A hello may ask for acks of level "stored" before the device is welcomed, so before it is known to be itself.
        if self.view is not None and self.view.connection is self:
            self.services.fleet.awaiting.add(self.device_id)

    def _run(self, outcome: OneOrMoreEffects) -> None:
        for effect in all_of(outcome):
            if isinstance(effect, Entry):
                self._store(effect)
            elif isinstance(effect, Send):
                self._write(self._answer(effect))
                if effect.__class__ is not Send:
                    self._note(effect)
            elif isinstance(effect, AckLater):
                self.services.acks.owe(self)
            elif isinstance(effect, Close):
                self._close(effect)
            elif self.session is not None:
                self._do(self.session, effect)

    def _do(self, session: Session, effect: Effect) -> None:
        """Act on an effect that is rare."""
        services = self.services
        if isinstance(effect, Rest):
            services.metrics.rests.labels(effect.limit).inc()
            services.backpressure.pause_for(self, effect.ms / 1000)
        elif isinstance(effect, Result):
            self._take_result(session, effect)
        elif isinstance(effect, TimeRequest):
            services.metrics.time_requests.inc()
            self._run(session.tell_time(effect, time.time_ns()))
        elif isinstance(effect, DeviceClock) and self.view is not None:
            self.view.clock = effect
        elif isinstance(effect, Reported) and not services.settings.reported(self.device_id, effect):
            self.refuse_report(TOO_FAST)
        elif isinstance(effect, Authenticate):
            self._authenticate(session, effect.token)
        elif isinstance(effect, Enrol):
            self._enrol(session, effect)

    def _take_result(self, session: Session, result: Result) -> None:
        if not self.services.commands.answered(self.device_id, result):
            problem = f"no command {cut(result.id)} waits for a result"
            self._run(session.refuse(Code.UNKNOWN_COMMAND, problem, time.time_ns()))

    def _note(self, sent: Send) -> None:
        """Keep the faults that an authenticated device was told, and count throttles."""
        if isinstance(sent, Throttle):
            self.services.metrics.throttles.labels(sent.limit).inc()
        elif isinstance(sent, Refusal) and self.authenticated:
            seq = None if sent.seq == NO_SEQ else sent.seq
            self.services.problems.told(self.device_id, sent.errors, seq, time.time_ns())

    def _store(self, entry: Entry) -> None:
        try:
            self.services.spool.append(entry, self)
        except SpoolFull:
            self.append_failed([entry], 1000)

    # Commits and deliveries

    def durable(self, numbered: int) -> Write | None:
        """A commit is on disk with ``numbered`` numbered messages of this session; the ack to write, if one is due."""
        return None if self.session is None else self._answer(self.session.durable(numbered))

    def acknowledge(self) -> Write | None:
        """The delay of an ack is over: the ack to write; None if none is due any more."""
        return None if self.session is None else self._answer(self.session.acknowledge())

    def _answer(self, outcome: OneOrMoreEffects) -> Write | None:
        if isinstance(outcome, Send):
            connection = self.ws_connection
            return None if connection is None else connection.prepare(BINARY if self.binary else TEXT, outcome.data)
        self._run(outcome)
        return None

    def stored(self, boot: str, messages: int) -> None:
        """The database has ``messages`` more of this device's numbered messages of ``boot``."""
        if self.session is not None and self.session.boot == boot:
            self._run(self.session.stored(messages))

    def dropped(self, boot: str, messages: int) -> None:
        """A full spool discarded ``messages`` of this device's numbered messages of ``boot``."""
        if self.session is not None and self.session.boot == boot:
            self._run(self.session.dropped(messages))

    def refused(self, readings: int) -> None:
        """The database refused ``readings`` of this device's readings for good."""
        if self.session is not None:
            self._run(self.session.refused(readings))

    def append_failed(self, entries: Sequence[Entry], retry_after_ms: int) -> None:
        """These entries did not become durable: the device has to send them again."""
        if self.session is not None:
            self._run(self.session.append_failed(entries, retry_after_ms))

    def tell_paused(self) -> None:
        """The gateway has not read this device for a while."""
        if self.session is not None:
            self._run(self.session.kept_waiting())

    # What goes down to the device

    def command(self, command: Command, expires_in_ms: int) -> bool:
        """Send a command; False if nothing can be sent any more."""
        if self.session is None:
            return False
        return self._tell(self.session.command(command.id, command.name, command.params, expires_in_ms))

    def send_settings(self, version: int, desired: bytes) -> bool:
        """Send the desired settings; False if nothing can be sent any more."""
        return self.session is not None and self._tell(self.session.settings(version, desired))

    def refuse_report(self, problem: str) -> None:
        """Tell the device that settings it reported were not kept."""
        if self.session is not None:
            self._run(self.session.refuse(Code.BAD_MESSAGE, problem, time.time_ns()))

    def _tell(self, effects: Effects) -> bool:
        self._run(effects)
        return bool(effects)

    def renew(self) -> None:
        """Go by the configuration that is in force now."""
        profiles = self.services.profiles
        if self.session is not None:
            if self.device is None:
                self.session.renew(profiles.terms)
            else:
                self.session.renew(profiles.terms, profiles.encoder(self.device), profiles.rates(self.device))

    # Ends

    def _close(self, close: Close) -> None:
        if close.code not in UNREMARKABLE:
            fields = {"device": self.device_id, "session": self.session_id, "code": int(close.code)}
            log.info("device %s: closing %d, %s", self.device_id, close.code, close.reason, extra=fields)
        # A silent peer will not answer the close either, and an unauthenticated one must not keep its place meanwhile.
        brief = close.code == CloseCode.KEEPALIVE or (
            close.code == CloseCode.TRY_AGAIN_LATER and not self.authenticated
        )
        self.close(close.code, close.reason, timeout=FAREWELL if brief else None)

    def _end(self, reason: CloseReason) -> None:
        if self.session is not None:
            self._run(self.session.close(reason))

    def replace(self) -> None:
        """A newer connection of this device took over; what this one has sent before still counts."""
        if self.paused:
            self.deliver_backlog()
        self._end(CloseReason.REPLACED)

    def expire(self) -> None:
        """Nothing came within the time-out."""
        self._end(CloseReason.KEEPALIVE_EXPIRED)

    def message_late(self) -> None:
        """A message was begun, and its end did not come in time."""
        self._end(CloseReason.MESSAGE_LATE)

    def credentials_late(self) -> None:
        """The device did not prove in time who it is."""
        self._end(CloseReason.CREDENTIALS_LATE)

    def enrolment_ended(self, why: CloseReason) -> None:
        """The device was not approved: close in this way."""
        self._end(why)

    def close_to_make_room(self) -> None:
        """Too many connections are unauthenticated, and this one has been so for longest."""
        if self.session is not None and self.session.open:
            self._end(CloseReason.PUSHED_OUT)
        else:
            self.abort()

    def revoke(self) -> None:
        """The device's credentials are good no longer."""
        self._end(CloseReason.REVOKED)

    def drain(self, reconnect_after_ms: int) -> None:
        """Stop reading, and tell the device when to reconnect."""
        self.pause_reading()
        if self.session is not None:
            self._run(self.session.draining(reconnect_after_ms))

    def restart(self) -> None:
        """The gateway is about to stop."""
        self._end(CloseReason.RESTARTING)

    def on_close(self) -> None:
        """The connection has closed: forget it everywhere, and record that the device left."""
        if self.session is None:
            return
        services, self.session = self.services, None
        services.backpressure.forget(self)
        services.unauthenticated.forget(self)
        services.connections.closed(self, welcomed=self.view is not None)
        if self.request_pending is not None:
            services.enrolment.left(self, self.request_pending)
        reason = REASONS.get(self.close_code, str(self.close_cause))
        services.metrics.disconnects.labels(reason).inc()
        if self.view is not None:
            services.presence.disconnected(self.device_id, self, reason, time.time_ns())
            services.commands.disconnected(self.device_id, self)
