"""What a session says, done on the connection of its device.

Rules that hold here:

* The session decides, this file does: messages in, effects out, no protocol rule below.
* Nothing here waits. An entry goes to the spool's next commit; its ack comes back through `SessionShell.durable`.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, cast

from gateway.api.handler import JsonErrors
from gateway.devices.settings import TOO_FAST
from gateway.errors import SpoolFull
from gateway.ledger import NO_SEQ, Entry
from gateway.protocol.device_clock import DeviceClock
from gateway.protocol.endings import Endings
from gateway.protocol.messages import (
    Ack,
    AckLater,
    Close,
    CloseCode,
    Code,
    Refusal,
    Reported,
    Rest,
    Result,
    Send,
    Throttle,
    TimeRequest,
    all_of,
)
from gateway.protocol.shown import cut
from gateway.websocket.handler import BINARY, TEXT, StreamHandler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.devices.context import Context
    from gateway.devices.device_connection import Connection
    from gateway.devices.device_state import DeviceView
    from gateway.protocol.endings import Ending
    from gateway.protocol.messages import Effect, Effects, Outcome
    from gateway.protocol.session import Session
    from gateway.state.command_log import Command
    from gateway.websocket.handler import Write

log = logging.getLogger(__name__)

UNREMARKABLE = frozenset({1000, CloseCode.GOING_AWAY, CloseCode.RESTART})
"""Closes that are not logged one by one: a restart would write a line for every device."""
FAREWELL = 0.1
"""Seconds for the close that tells a stale device why, before its socket goes."""


class SessionShell(JsonErrors, StreamHandler):
    """A device's connection once there is a session on it; the base of `gateway.api.device_socket.DeviceSocket`."""

    # Tornado's handler fills its dictionary so far that a dozen keys more cost every idle device 1.4 KB.
    __slots__ = ("authenticated", "binary", "context", "device_id", "paused", "session", "session_id", "view")

    device_id: str
    session_id: str

    def initialize(self, context: Context) -> None:
        """Take what all requests share."""
        self.context = context
        self.session: Session | None = None
        self.view: DeviceView | None = None
        self.authenticated = False
        self.binary = False
        self.paused = False

    @property
    def late(self) -> bool:
        """Whether the device catches up."""
        return self.session is not None and self.session.late

    @property
    def record_timeout(self) -> float:
        """Seconds for which the bytes of one TLS record are life: as many as those of a message may take."""
        return self.context.config.keepalive.message_timeout

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
        if self.view is not None and self.view.connection is cast("Connection", self):
            self.context.fleet.awaiting.add(self.device_id)

    def on_binary(self, data: bytes) -> None:
        """One binary message of the device."""
        self.on_text(data, binary=True)

    def _run(self, outcome: Outcome) -> None:
        for effect in all_of(outcome):
            if isinstance(effect, Entry):
                self._store(effect)
            elif isinstance(effect, Send):
                self._write(self._answer(effect))
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
        if isinstance(effect, Rest):
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

    def durable(self, numbered: int) -> Write | None:
        """A commit with ``numbered`` of this session's messages is on disk; the ack, if that is what it leads to."""
        return None if self.session is None else self._answer(self.session.durable(numbered))

    def acknowledge(self) -> Write | None:
        """An ack that was put off is due."""
        return None if self.session is None else self._answer(self.session.acknowledge())

    def _answer(self, outcome: Outcome) -> Write | None:
        if isinstance(outcome, Send):
            connection = self.ws_connection
            return None if connection is None else connection.prepare(BINARY if self.binary else TEXT, outcome.data)
        self._run(outcome)
        return None

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

    def refused(self, readings: int) -> None:
        """The database refused so many of this device's readings for good."""
        if self.session is not None:
            self._run(self.session.refused(readings))

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

    def message_late(self) -> None:
        """A message was begun, and its end did not come in time."""
        self._end(Endings.message_late)

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

    def revoke(self) -> None:
        """The device's credentials no longer count."""
        self._end(Endings.revoked)
