"""One device's connection as a state machine: an event in, what to do about it out. No socket, no clock.

::

    UNKNOWN --credentials good--> READY --any close--> CLOSED
       |    hello with a token: ask the shell to check it          ^
       +---- anything else, or no credentials in time -------------+
       |                                                           |
       +-- hello without a token, where that is allowed --> HELD --+
                                     HELD --approved--> READY

Rules that hold here:

* A file for each phase of a connection: `admission`, here what comes in, `confirming`, `endings`.
* CLOSED takes and says nothing.
* Every message with readings or a number yields one `Entry`, refused and repeated ones too, so that the ledger can say
  what became of it. Every message that cannot be taken is answered.
* A number at or below `Sequence.accepted` is a duplicate: not stored again, acknowledged. The sequence is shared by all
  sessions of the device, so what is in flight on an older connection is a duplicate on a newer one.
* After a throttle nothing above ``from_seq`` is taken before ``from_seq`` itself: what was in flight must not overtake
  what has to be sent again. A hello starts afresh, as a new connection does.
* Readings are refused one by one (`reject`), whole messages by an `error`. An error is a strike; more strikes within a
  minute than allowed close the connection.
* Who sends no number, or wants no acknowledgement, does not send again: what cannot be taken is refused for good. Where
  only its rate is too high it is taken, and the shell reads nothing more of it for a while (`Rest`).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from gateway.errors import MessageError
from gateway.ledger import NO_SEQ, READINGS, Entry
from gateway.protocol.admission import Admission
from gateway.protocol.device_clock import DeviceClock
from gateway.protocol.endings import State, Terms
from gateway.protocol.exchange import Exchange
from gateway.protocol.messages import (
    MAX_SEQ,
    Ack,
    CloseCode,
    Code,
    Hello,
    Readings,
    Rest,
    TimeRequest,
    verdicts,
)
from gateway.protocol.rates import BACKLOG_NS, is_backlog
from gateway.protocol.subprotocols import JSON

if TYPE_CHECKING:
    from gateway.protocol.messages import Effects, Outcome
    from gateway.protocol.rates import Lane
    from gateway.protocol.subprotocols import Subprotocol

__all__ = ["Session", "State", "Terms"]

RESTS = 4
"""So many rests at least between two pings: a device that is not read for longer believes that the gateway is gone."""
STRIKE_WINDOW_NS = 60_000_000_000
MEMBERS = 3
"""Of an ordinary message: ``seq``, ``ts`` and ``values``."""
_READY = State.READY  # a member is slow to look up in its class before Python 3.12


class Session(Admission):
    """What one connection of a device means. Methods that return `Effects` are events; the shell runs them in order."""

    __slots__ = ("_strikes", "late")

    resends = True
    """Whether a device can be told from which number on to send again."""

    def __init__(self, device_id: str, session_id: str, terms: Terms, subprotocol: Subprotocol = JSON) -> None:
        super().__init__(device_id, session_id, terms, subprotocol)
        self._strikes: deque[int] | None = None
        self.late = False
        """Whether the last message with readings was backlog."""

    def receive(self, data: bytes, now_ns: int, *, room: bool = True) -> Outcome:
        """One message, nothing of it checked yet; ``room``: the spool takes readings."""
        size = len(data)
        if size > self._terms.max_message_bytes:
            return self.too_big()
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
        """The entry of a message that is as nearly all are: one reading in the common form, new, and not held back.

        None for any other: `_readings` comes to the same end for all of them, by a longer way.
        """
        seq, flow = value.get("seq"), self._flow
        if seq.__class__ is not int or seq > MAX_SEQ or not flow.ready(seq):
            return None
        point = self._encoder.ordinary(value, MEMBERS, now_ns)
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
        """Whether a numbered message that is not taken is sent again."""
        return self.resends and self.ack is not Ack.NONE

    def _charge(self, readings: int, size: int, now_ns: int) -> Effects:
        """A message that has no part in the order of numbers was as much work as one that has."""
        if self._state is not State.READY:
            return ()
        return self._spend(self._allowance.lane(now_ns, backlog=False), readings, size, now_ns)

    def _spend(self, lane: Lane, readings: int, size: int, now_ns: int) -> Effects:
        """Take a message that would not come again, and have no more of them read while there is a debt."""
        lane.spend(readings, size)
        excess = lane.excess(readings, size, now_ns)
        if excess is None:
            return ()
        self._allowance.note(excess, now_ns)
        return (Rest(min(excess.wait_ms, max(1, self._terms.ping_interval_ms // RESTS)), excess.limit),)

    def _entry(self, seq: int, now_ns: int) -> Entry:
        return Entry(self._device, self.boot, seq, arrived_ns=now_ns, sequence=self._flow.sequence)

    def _take(self, seq: int) -> int:
        """Count a new message; how many numbers it skipped. A boot is remembered from its first number on: the many
        that a connection has only until its hello must not push out those that are used."""
        if self._flow.sequence.accepted == NO_SEQ:
            self._account.keep(self.boot, self._flow.sequence)
        return self._flow.take(seq)

    def _repeated(self, message: Readings, size: int, now_ns: int) -> Effects:
        """A duplicate; what was refused in it is said again, because the first reject may never have arrived."""
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
        """The spool is full and the device will not send this again."""
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
        """A message that is refused whole: its number, if it has one, is used up all the same."""
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
        while not now_ns - STRIKE_WINDOW_NS < strikes[0] <= now_ns:  # nor one of a clock that was set back since
            strikes.popleft()
        allowed = self._terms.strikes_per_minute
        if len(strikes) <= allowed:
            return ()
        return self._close(CloseCode.POLICY, f"more than {allowed} messages in a minute could not be taken")

    def _unless_ignored(self, held: Effects) -> Effects:
        if self._flow.ignoring:
            return self._close(CloseCode.RATE_IGNORED, "kept sending messages that a throttle had told to wait")
        return held

    def tell_time(self, request: TimeRequest, now_ns: int) -> Effects:
        """The answer to a time request, sent at ``now_ns``, and what is known of the device's clock now."""
        if self._state is not State.READY:
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
        """Somebody wants the device to do something; nothing if it cannot be told any more."""
        return (self._answers.command(command_id, name, params, expires_in_ms),) if self._state is State.READY else ()

    def settings(self, version: int, desired: bytes) -> Effects:
        """These are the settings the device should have; nothing if it cannot be told any more."""
        return (self._answers.settings(version, desired),) if self._state is State.READY else ()

    def refuse(self, code: Code, problem: str, now_ns: int) -> Effects:
        """The shell could do nothing with a result or with settings that it was handed."""
        if self._state is not State.READY:
            return ()
        return (self._answers.error(NO_SEQ, code, problem), *self._strike(now_ns))
