"""One device's connection as a state machine: events in, effects out. No socket, no clock.

::

    UNKNOWN --credentials good--> READY --any close--> CLOSED
       |    hello with a token: ask the runner to check it              ^
       +---- anything else, or no credentials in time ------------------+
       |                                                                |
       +-- hello without a token, where that is allowed --> PENDING ----+
                                     PENDING --approved--> READY

`gateway.devices.session_runner` is the runner: it calls the methods, which are events, and carries out the effects that
they return, in order. Rules that hold here:

* UNKNOWN accepts nothing but a hello with a token, or one without where devices may ask for approval. Nothing of an
  unauthenticated connection reaches the ledger. PENDING waits for an operator, and is like UNKNOWN otherwise.
* CLOSED accepts nothing and sends nothing. A session closes once.
* A device that names no ``boot`` gets the session's id as its boot. Otherwise numbers that restart with the device
  would be taken for duplicates. A hello begins the sequence anew, as a new connection does.
* Every message with readings or a number yields one `Entry` for the ledger, also a refused or repeated one. Every
  message that cannot be accepted is answered.
* A number at or below `Sequence.accepted` is a duplicate: it is not stored again, but acknowledged. All sessions of a
  device share the sequence, so a message in flight on an older connection is a duplicate on a newer one.
* After a throttle nothing above ``from_seq`` is accepted before ``from_seq`` itself. Messages in flight must not
  overtake those that the device has to send again.
* Readings are refused one by one (`reject`), whole messages by an `error`. An error is a strike; more strikes within a
  minute than allowed close the connection.
* A device that sends no numbers, or wants no acks, does not send messages again: a message that cannot be accepted is
  refused for good. If only the rate is too high, the message is accepted, and the runner stops reading this device for
  a while (`Rest`).
* An ack follows a commit (`durable`) or a delivery (`stored`) that the runner reports, and says what the ledger says by
  then. Receiving a message never causes an ack. An ack may wait for more messages that it can cover, but not longer
  than the welcome says, nor until after a close that the session decides on.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from gateway.errors import MessageError
from gateway.ledger import NO_SEQ, READINGS, Entry
from gateway.protocol.device_clock import DeviceClock
from gateway.protocol.flow_control import FlowControl
from gateway.protocol.messages import (
    MAX_SEQ,
    Ack,
    AckLater,
    Authenticate,
    Close,
    CloseCode,
    Code,
    Enrol,
    Hello,
    Readings,
    Rest,
    TimeRequest,
    all_of,
    verdicts,
)
from gateway.protocol.rate_limits import BACKLOG_NS, is_backlog
from gateway.protocol.subprotocols import JSON
from gateway.protocol.time_exchange import Exchange
from gateway.time_units import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Sequence as Several

    from gateway.ledger import Account, Sequence
    from gateway.protocol.encoder import Encoder
    from gateway.protocol.messages import Answers, Effects, OneOrMoreEffects
    from gateway.protocol.rate_limits import Allowance, Lane, Rates
    from gateway.protocol.subprotocols import Subprotocol

MAX_REASON_BYTES = 123
"""The longest reason that fits into a close frame (RFC 6455 section 5.5)."""
MIN_RESTS = 4
"""A `Rest` lasts a quarter of the ping interval at most: a device that is not read for longer may reconnect."""
STRIKE_WINDOW_NS = 60_000_000_000
"""The minute in which strikes are counted."""
ORDINARY_MEMBERS = 3
"""Members of an ordinary message: ``seq``, ``ts`` and ``values``."""
LATER: Effects = (AckLater(),)
"""The one effect of a commit whose ack may wait; made once."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of a session, from the configuration: what the welcome says, and how many strikes a device has."""

    ping_interval_ms: int
    """The time between two pings of the gateway."""
    timeout_ms: int
    """The connection is closed when nothing has come from the device for so long."""
    max_message_bytes: int
    max_unacked: int
    """Numbered messages that may be in flight without an ack."""
    strikes_per_minute: int
    """Messages in a minute that may be refused whole; one more closes the connection."""
    ack_delay_ms: int
    """An ack waits so long at most for more messages that it can cover; 0: it does not wait."""
    enrol: bool = False
    """Whether a device without a token may ask for approval."""


class CloseReason(Enum):
    """Why the gateway closes a session: the code of docs/reference/protocol.md, "Close codes", and a short sentence.

    Reasons whose sentence depends on the moment have a method of `Session` instead: `Session.credentials_refused`,
    `Session.busy` and `Session.not_utf8`.
    """

    CREDENTIALS_LATE = CloseCode.CREDENTIALS, "no credentials in time"
    CLAIM_TAKEN = CloseCode.CREDENTIALS, "another device asks with this claim; ask with a new one"
    NOT_APPROVED = CloseCode.CREDENTIALS, "an operator has refused this device"
    APPROVAL_EXPIRED = CloseCode.TRY_AGAIN_LATER, "nobody has approved of this device in time, ask again"
    APPROVAL_QUEUE_FULL = CloseCode.TRY_AGAIN_LATER, "too many devices wait to be approved, try again later"
    PUSHED_OUT = CloseCode.TRY_AGAIN_LATER, "too many connections without credentials, try again later"
    ONLY_TEXT = CloseCode.UNSUPPORTED, "only text messages are understood"
    ONLY_BINARY = CloseCode.UNSUPPORTED, "only binary messages are understood"
    TOO_BIG = CloseCode.TOO_BIG, "a message has at most {terms.max_message_bytes} bytes"
    KEEPALIVE_EXPIRED = CloseCode.KEEPALIVE, "nothing came for {terms.timeout_ms} ms"
    MESSAGE_LATE = CloseCode.KEEPALIVE, "a message was begun and not ended in time"
    TOO_MANY_STRIKES = (
        CloseCode.POLICY,
        "more than {terms.strikes_per_minute} messages in a minute could not be taken",
    )
    RATE_IGNORED = CloseCode.RATE_IGNORED, "kept sending messages that a throttle had told to wait"
    REPLACED = CloseCode.REPLACED, "a newer connection of this device took over"
    REVOKED = CloseCode.POLICY, "the device's credentials were revoked"
    RESTARTING = CloseCode.RESTART, "the gateway restarts, connect again"
    FAILED = CloseCode.INTERNAL, "internal error"

    def __init__(self, code: CloseCode, sentence: str) -> None:
        self.code = code
        self.sentence = sentence


class SessionState(Enum):
    """How far a session is; the diagram is at the head of the module."""

    UNKNOWN = auto()
    PENDING = auto()
    READY = auto()
    CLOSED = auto()


_READY = SessionState.READY  # a member is slow to look up in its class before Python 3.12
_DURABLE = Ack.DURABLE


class Session:
    """The state machine of one connection."""

    __slots__ = (
        "_account", "_allowance", "_answers", "_clock", "_device", "_encoder", "_exchange", "_flow", "_greeted_ns",
        "_opened_ns", "_own_sequence", "_session", "_state", "_strikes", "_terms", "ack", "boot", "info", "late",
        "subprotocol",
    )  # fmt: skip

    resends = True
    """Whether a throttle can tell the device from which number on to send again."""

    _account: Account
    """The device's part of the ledger. This and the following ones without a value are set by `welcome`."""
    _allowance: Allowance
    """What the device may still send, over all its connections."""
    _encoder: Encoder
    """Turns readings into line protocol by the rules of the device's profile."""
    _clock: DeviceClock | None
    """The offset of the device's clock; None if the device never asked for the time."""
    _flow: FlowControl
    """Which numbered messages may come next, wait for an ack, or have to be sent again."""
    _own_sequence: Sequence
    """The sequence of this connection, for a device that names no boot."""
    _greeted_ns: int
    """When the welcome was sent, in ns since 1970."""
    _opened_ns: int
    """When the handshake was answered, in ns since 1970."""

    def __init__(self, device_id: str, session_id: str, terms: Terms, subprotocol: Subprotocol = JSON) -> None:
        self._device = device_id
        self._session = session_id
        self._terms = terms
        """The terms of now; `renew` replaces them after a change of the configuration."""
        self.subprotocol = subprotocol
        self._answers: Answers = subprotocol.answers
        """Makes the messages to the device, as text or as CBOR."""
        self._state = SessionState.UNKNOWN
        """Where in the diagram at the head of the module the session is."""
        self.boot = session_id
        """The device's boot, as its last hello named it; the session's id if it has named none."""
        self.ack = Ack.DURABLE
        """The level of acks that the last hello asked for."""
        self.info: dict[str, Any] = {}
        """The ``info`` of the last hello that had one: what the device says about itself."""
        self.late = False
        """Whether the last message with readings was backlog."""
        self._strikes: deque[int] | None = None
        """When the strikes of the last minute came, in ns since 1970; None before the first."""
        self._exchange: Exchange | None = None
        """The exchange of times with the device; None before its first request."""

    @property
    def open(self) -> bool:
        """Whether anything can still be sent."""
        return self._state is not SessionState.CLOSED

    # Before the welcome

    def _before_welcome(self, data: bytes) -> Effects:
        if self._state is SessionState.CLOSED:
            return ()
        try:
            message = self.subprotocol.interpret(self.subprotocol.parse(data))
        except MessageError as error:
            # The reason is logged, so it holds nothing that an unauthenticated client has sent.
            problem = error.expected or f"expected a hello with a token: {error.code}"
            return self._close(CloseCode.CREDENTIALS, problem)
        if not isinstance(message, Hello) or not (message.token or self._may_enrol):
            return self._close(CloseCode.CREDENTIALS, "expected a hello with a token")
        self._introduce(message)
        return (Enrol(message.claim, message.secret) if message.token is None else Authenticate(message.token),)

    @property
    def _may_enrol(self) -> bool:
        return self._terms.enrol and self._state is SessionState.UNKNOWN

    def _introduce(self, hello: Hello) -> None:
        """Take what a hello says; what it leaves out stays as it was."""
        self.boot = hello.boot or self.boot
        self.ack = hello.ack or self.ack
        self.info = hello.info if hello.info is not None else self.info

    def pending(self, claim: str, expires_in_ms: int) -> Effects:
        """The device waits for the approval of an operator, who compares the claim."""
        if self._state is not SessionState.UNKNOWN:
            return ()
        self._state = SessionState.PENDING
        return (self._answers.pending(claim, expires_in_ms),)

    def enrolled(self, token: str) -> Effects:
        """The operator has approved; `welcome` follows. No effect unless the session is PENDING."""
        return (self._answers.token(token),) if self._state is SessionState.PENDING else ()

    def welcome(
        self,
        account: Account,
        encoder: Encoder,
        allowance: Allowance,
        now_ns: int,
        clock: DeviceClock | None = None,
        *,
        opened_ns: int | None = None,
    ) -> Effects:
        """The credentials are good.

        ``allowance`` is the device's over all its connections, ``clock`` what earlier connections told of its clock.
        ``opened_ns`` is when the handshake was answered, if that was before ``now_ns``.
        """
        if self._state not in {SessionState.UNKNOWN, SessionState.PENDING}:
            return ()
        self._state = SessionState.READY
        self._account = account
        self._allowance = allowance
        self._encoder = encoder
        self._clock = clock
        self._greeted_ns = now_ns
        self._opened_ns = now_ns if opened_ns is None else opened_ns
        self._flow = FlowControl(self._terms.max_unacked, self._answers)
        self._own_sequence = self._flow.sequence
        return self._greet(now_ns)

    def _greet(self, now_ns: int) -> Effects:
        named = self.boot != self._session
        self._flow.restart(self._account.sequence(self.boot) if named else self._own_sequence, self.ack)
        if self._clock is not None:
            self._use_clock(self._clock)
        terms, last_seq = self._terms, self._flow.safe_seq
        return (
            self._answers.welcome(
                session=self._session,
                server_time=now_ns // NS_PER_MS,
                boot=self.boot,
                last_seq=None if last_seq == NO_SEQ else last_seq,
                ack=self.ack,
                ack_delay_ms=terms.ack_delay_ms,
                keepalive={"ping_interval_ms": terms.ping_interval_ms, "timeout_ms": terms.timeout_ms},
                limits={
                    "max_message_bytes": terms.max_message_bytes,
                    "max_unacked": terms.max_unacked,
                    **self._allowance.rates.told(),
                },
            ),
        )

    def _use_clock(self, clock: DeviceClock) -> None:
        """Use the known offset if it is of this boot, which the device may have named only now."""
        if clock.boot == self._session:
            clock.boot = self.boot
        self._encoder.clock = clock if clock.boot == self.boot else None

    def renew(self, terms: Terms, encoder: Encoder | None = None, rates: Rates | None = None) -> None:
        """The configuration has changed. No new welcome is needed: a throttle names the limit."""
        self._terms = terms
        if self._state is SessionState.READY and encoder is not None and rates is not None:
            self._allowance.renew(rates)
            encoder.follow(self._encoder)
            self._encoder = encoder
            self._flow.allow(terms.max_unacked)

    # Messages of the device

    def receive(self, data: bytes, now_ns: int, *, room: bool = True) -> OneOrMoreEffects:
        """One message, nothing of it checked yet. ``room``: the spool accepts readings."""
        size = len(data)
        if size > self._terms.max_message_bytes:
            return self.close(CloseReason.TOO_BIG)
        if self._state is not _READY:
            return self._before_welcome(data)
        try:
            encoder = self._encoder
            if encoder.shape is not None and self.subprotocol is JSON:
                rows = encoder.recognised(data, now_ns)
                if rows is not None:
                    return self._readings(rows, size, now_ns, room=room)
            value = self.subprotocol.parse(data)
            if room and value.__class__ is dict and (entry := self._ordinary(value, size, now_ns)) is not None:
                return entry
            message = self.subprotocol.interpret(value)
            if isinstance(message, Readings):
                return self._readings(message, size, now_ns, room=room)
            if isinstance(message, Hello):
                self._introduce(message)
                return self._greet(now_ns) + self._charge(0, size, now_ns)
            if isinstance(message, TimeRequest):
                message.arrived_ns = now_ns
            return (message, *self._charge(0, size, now_ns))
        except MessageError as error:
            return self._error(error, now_ns) + self._charge(error.readings, size, now_ns)

    def _ordinary(self, value: dict[str, Any], size: int, now_ns: int) -> Entry | None:
        """The entry of an ordinary message: one reading in the common form, new, and within all limits.

        None for any other message. `_readings` makes the same entry of all of them, by a longer way.
        """
        seq, flow = value.get("seq"), self._flow
        if seq.__class__ is not int or seq > MAX_SEQ or not flow.ready(seq):
            return None
        point = self._encoder.ordinary(value, ORDINARY_MEMBERS, now_ns)
        if point is None:
            return None
        line, time_ns = point
        self.late = late = now_ns - time_ns >= BACKLOG_NS
        lane = self._allowance.backlog if late else self._allowance.live
        if lane.left <= 0 or lane.left_bytes <= 0 or now_ns >= lane.look_ns:
            lane = self._allowance.lane(now_ns, backlog=late)
            if not lane.look(now_ns):
                return None
        lane.left -= 1
        lane.left_bytes -= size
        gaps, latest = flow.take(seq), value["values"]
        return Entry(
            self._device, self.boot, seq, 1, 0, 0, gaps, line, b"", READINGS, now_ns, latest, time_ns, flow.sequence
        )

    def _readings(self, message: Readings, size: int, now_ns: int, *, room: bool) -> Effects:
        seq, flow, gaps = message.seq, self._flow, 0
        if seq != NO_SEQ:
            if seq <= flow.sequence.accepted:
                return self._repeated(message, size, now_ns)
            held = flow.hold(seq, now_ns, room=room)
            if held is not None:
                return self._unless_ignored(held)
        if not room:
            return self._lost(message, now_ns) + self._charge(0, size, now_ns)
        encoded = self._encoder.encode(message, now_ns)
        self.late = is_backlog(encoded.time_ns, now_ns) or (seq != NO_SEQ and flow.resent(seq))
        lane = self._allowance.lane(now_ns, backlog=self.late)
        rest: Effects = ()
        if seq != NO_SEQ and self._comes_again:
            excess = lane.excess(encoded.received, size, now_ns)
            if excess is not None:
                encoded.unlearn()
                self._allowance.note(excess, now_ns)
                return self._unless_ignored(flow.exceeds(excess, seq, now_ns))
            lane.spend(encoded.received, size)
        else:
            rest = self._spend(lane, encoded.received, size, now_ns)
        if seq != NO_SEQ:
            gaps = self._take(seq)
        elif not encoded.received:
            return rest
        entry = encoded.entry(now_ns, self.boot, seq, gaps)
        entry.sequence = flow.sequence
        return (entry, self._answers.reject(seq, encoded.rejects), *rest) if encoded.rejects else (entry, *rest)

    @property
    def _comes_again(self) -> bool:
        """Whether the device sends a numbered message again that is not accepted."""
        return self.resends and self.ack is not Ack.NONE

    def _charge(self, readings: int, size: int, now_ns: int) -> Effects:
        """Charge a message that has no place in the sequence: it was as much work as one that has."""
        if self._state is not SessionState.READY:
            return ()
        return self._spend(self._allowance.lane(now_ns, backlog=False), readings, size, now_ns)

    def _spend(self, lane: Lane, readings: int, size: int, now_ns: int) -> Effects:
        """Charge a message that would not come again. While there is a debt, the device is not read."""
        lane.spend(readings, size)
        excess = lane.excess(readings, size, now_ns)
        if excess is None:
            return ()
        self._allowance.note(excess, now_ns)
        return (Rest(min(excess.wait_ms, max(1, self._terms.ping_interval_ms // MIN_RESTS)), excess.limit),)

    def _entry(self, seq: int, now_ns: int) -> Entry:
        return Entry(self._device, self.boot, seq, arrived_ns=now_ns, sequence=self._flow.sequence)

    def _take(self, seq: int) -> int:
        """Count a new message; how many numbers it skipped.

        A boot is remembered from its first number on. The boots that connections have only until their hello must not
        push out those that are used.
        """
        if self._flow.sequence.accepted == NO_SEQ:
            self._account.keep(self.boot, self._flow.sequence)
        return self._flow.take(seq)

    def _repeated(self, message: Readings, size: int, now_ns: int) -> Effects:
        """A duplicate. Its reject is sent again, because the first one may never have arrived."""
        self.late = True
        encoded = self._encoder.encode(message, now_ns)
        encoded.unlearn()
        self._flow.count()
        entry = self._entry(message.seq, now_ns)
        entry.duplicate = encoded.received
        rest = self._spend(self._allowance.lane(now_ns, backlog=True), encoded.received, size, now_ns)
        again: Effects = (self._answers.reject(message.seq, encoded.rejects),) if encoded.rejects else ()
        return (entry, *again, *rest)

    def _lost(self, message: Readings, now_ns: int) -> Effects:
        """The spool is full, and the device will not send this message again: its readings are lost."""
        encoded = self._encoder.encode(message, now_ns)
        encoded.unlearn()
        readings = message.count if encoded.received else 0
        if not readings and message.seq == NO_SEQ:
            return ()
        gaps = 0 if message.seq == NO_SEQ else self._take(message.seq)
        text = "the gateway has no room for more readings"
        faults = [{"index": i, "code": Code.SPOOL_FULL, "message": text} for i in range(readings)]
        entry = self._entry(message.seq, now_ns)
        entry.rejected, entry.gaps, entry.verdicts = readings, gaps, verdicts(faults)
        return (entry, self._answers.reject(message.seq, faults)) if faults else (entry,)

    def _error(self, error: MessageError, now_ns: int) -> Effects:
        """A message that is refused whole. Its number, if it has one, is used up all the same."""
        if error.code == Code.NOT_UTF8:
            return self.not_utf8(error.message)
        seq = NO_SEQ if error.seq is None else error.seq
        entry = self._entry(seq, now_ns)
        if seq != NO_SEQ and seq <= self._flow.sequence.accepted:
            self._flow.count()
            entry.duplicate = error.readings
        else:
            if seq != NO_SEQ:
                held = self._flow.hold(seq, now_ns, room=True)
                if held is not None:
                    return self._unless_ignored(held)
                entry.gaps = self._take(seq)
            entry.rejected = error.readings
            entry.verdicts = verdicts([{"code": error.code, "message": error.message}])
        answer = self._answers.error(seq, error.code, error.message)
        effects: Effects = (entry, answer) if seq != NO_SEQ or error.readings else (answer,)
        return effects + self._strike(now_ns)

    def _strike(self, now_ns: int) -> Effects:
        if self._strikes is None:
            self._strikes = deque()
        strikes = self._strikes
        strikes.append(now_ns)
        while not now_ns - STRIKE_WINDOW_NS < strikes[0] <= now_ns:  # also those of before the clock was set back
            strikes.popleft()
        allowed = self._terms.strikes_per_minute
        if len(strikes) <= allowed:
            return ()
        return self.close(CloseReason.TOO_MANY_STRIKES)

    def _unless_ignored(self, held: Effects) -> Effects:
        if self._flow.ignoring:
            return self.close(CloseReason.RATE_IGNORED)
        return held

    # Commits and deliveries

    def durable(self, numbered: int) -> OneOrMoreEffects:
        """A commit with the next ``numbered`` numbered messages of this session is on disk, and in the ledger."""
        if self._state is not _READY:
            return ()
        sole = self._flow.committed_sole(numbered)
        if sole != NO_SEQ:
            return self._answers.ack(sole)
        own = self._flow.committed(numbered)
        return self._owe(numbered) if own and self.ack is _DURABLE else ()

    def stored(self, numbered: int) -> OneOrMoreEffects:
        """The database has ``numbered`` more numbered messages of this device and boot; the ledger has counted them."""
        if self._state is not SessionState.READY:
            return ()
        self._flow.stored(numbered)
        return self._owe(numbered) if numbered and self.ack is Ack.STORED else ()

    def dropped(self, numbered: int) -> Effects:
        """A full spool discarded ``numbered`` messages of this device and boot: the database will never have them."""
        if self._state is not SessionState.READY or self.ack is not Ack.STORED or not numbered:
            return ()
        self._flow.stored(numbered)
        problem = (
            f"{numbered} messages that waited for the database were discarded: the gateway's disk share is used up"
        )
        return (self._answers.error(NO_SEQ, Code.SPOOL_FULL, problem),)

    def refused(self, readings: int) -> Effects:
        """The database refused ``readings`` readings of this device for good; `stored` follows for their messages."""
        if self._state is not SessionState.READY or self.ack is not Ack.STORED:
            return ()
        problem = (
            f"the database refused {readings} readings that had been taken; the gateway keeps them for its operator"
        )
        return (self._answers.error(NO_SEQ, Code.WRONG_TYPE, problem),)

    def _owe(self, numbered: int) -> OneOrMoreEffects:
        urgent = self._flow.owe(numbered)
        return self.acknowledge() if urgent or not self._terms.ack_delay_ms else LATER

    def acknowledge(self) -> OneOrMoreEffects:
        """The delay of an `AckLater` is over."""
        if self._state is not _READY or not self._flow.pay():
            return ()
        seq = self._flow.safe_seq
        return () if seq == NO_SEQ else self._answers.ack(seq)

    def kept_waiting(self) -> Effects:
        """The runner has not read this device for a second. It is going to read what the device has sent."""
        tells = self._state is SessionState.READY and self.ack is not Ack.NONE
        return self._flow.slow_down() if tells else ()

    def append_failed(self, entries: Several[Entry], retry_after_ms: int) -> Effects:
        """These entries of the session did not reach the disk; the ledger has been rolled back."""
        if self._state is not SessionState.READY:
            return ()
        own = [entry for entry in entries if entry.seq != NO_SEQ and entry.boot == self.boot]
        self._flow.failed(len(own), sum(entry.seq != NO_SEQ for entry in entries) - len(own))
        awaited = own if self.ack is not Ack.NONE else []
        gone = sum(entry.lines for entry in entries) - sum(entry.lines for entry in awaited)
        effects: Effects = ()
        if gone:
            text = f"the gateway's disk failed: {gone} readings that will not be sent again are lost"
            effects = (self._answers.error(NO_SEQ, Code.SPOOL_FULL, text),)
        missing = [entry for entry in awaited if entry.seq > self._flow.sequence.durable]
        if missing:
            missing.sort(key=lambda entry: entry.seq)
            return effects + self._flow.fall_back(missing[0], missing[-1], retry_after_ms)
        if awaited and self.ack is Ack.DURABLE:
            self._flow.owe(len(awaited))
            return effects + all_of(self.acknowledge())
        return effects

    # Time, commands and settings

    def tell_time(self, request: TimeRequest, now_ns: int) -> Effects:
        """The answer to a time request, sent at ``now_ns``, and the offset of the device's clock as it is known now."""
        if self._state is not SessionState.READY:
            return ()
        if self._exchange is None:
            self._exchange = Exchange(self._opened_ns, self._greeted_ns)
        clock = self._encoder.clock
        if clock is None:
            clock = self._clock = self._encoder.clock = DeviceClock(self.boot)
        clock.note(self._exchange.sample(request))
        self._exchange.answered(request, now_ns)
        return self._answers.time(request.t0, request.arrived_ns, now_ns), clock

    def command(self, command_id: str, name: str, params: bytes, expires_in_ms: int) -> Effects:
        """Send a command of an operator; no effect unless the session is READY."""
        return (
            (self._answers.command(command_id, name, params, expires_in_ms),)
            if self._state is SessionState.READY
            else ()
        )

    def settings(self, version: int, desired: bytes) -> Effects:
        """Send the settings that the device should have; no effect unless the session is READY."""
        return (self._answers.settings(version, desired),) if self._state is SessionState.READY else ()

    def refuse(self, code: Code, problem: str, now_ns: int) -> Effects:
        """The runner could not use a result or reported settings of the device."""
        if self._state is not SessionState.READY:
            return ()
        return (self._answers.error(NO_SEQ, code, problem), *self._strike(now_ns))

    # Ends

    def receive_other(self) -> Effects:
        """A binary message came in a text subprotocol, or a text message in a binary one."""
        return self.close(CloseReason.ONLY_BINARY if self.subprotocol.binary else CloseReason.ONLY_TEXT)

    def credentials_refused(self, seconds: int = 0) -> Effects:
        """The token is wrong or the device unknown: one answer for both. The device may try again after ``seconds``."""
        wait = f", again and again; wait {seconds} s" if seconds else ""
        return self._close(CloseCode.CREDENTIALS, f"unknown device or wrong token{wait}")

    def not_utf8(self, problem: str = "a text message is not UTF-8") -> Effects:
        """A text message is not UTF-8."""
        return self._close(CloseCode.NOT_UTF8, problem)

    def busy(self, reason: str) -> Effects:
        """The gateway cannot serve this device now."""
        return self._close(CloseCode.TRY_AGAIN_LATER, reason)

    def draining(self, reconnect_after_ms: int) -> Effects:
        """The gateway is about to stop. `CloseReason.RESTARTING` follows when everything accepted so far is on disk."""
        return (self._answers.drain(reconnect_after_ms),) if self._state is SessionState.READY else ()

    def close(self, reason: CloseReason) -> Effects:
        """End the session; an ack that is owed goes out first."""
        return self._close(reason.code, reason.sentence.format(terms=self._terms))

    def _close(self, code: CloseCode, sentence: str) -> Effects:
        owed = all_of(self.acknowledge())
        if self._state is SessionState.CLOSED:
            return owed
        self._state = SessionState.CLOSED
        return (*owed, Close(code, sentence.encode()[:MAX_REASON_BYTES].decode(errors="ignore")))
