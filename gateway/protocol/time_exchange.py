"""The exchange of times on one connection: what a device asks and tells, as bounds of its clock's offset.

Rules that hold here:

* A request came after the handshake had reached the device (RFC 6455 section 4.1), so its ``t0`` was read after the
  handshake was sent. The welcome and the last answer are such bounds only when they have surely arrived: a device may
  ask right after its hello, or again, before it has them. So it tells when it got the answer (``last``), and which one.
* ``last`` counts for the newest answer only. One that names another answer says nothing.
"""

from __future__ import annotations

from typing import Any

from gateway.errors import MessageError
from gateway.protocol.device_clock import RESOLUTION_NS, Sample, both
from gateway.protocol.messages import MAX_SEQ, Code, TimeRequest
from gateway.protocol.timestamps import from_ms, is_number
from gateway.protocol.value_text import kind_of, shown

MAX_TIME_MS = MAX_SEQ
ARRIVED_NS = 10_000_000_000
"""A message that was sent so long ago has arrived."""


def time_request(message: dict[str, Any]) -> TimeRequest:
    """A device asks for the time.

    Raises:
        MessageError: ``bad_message``.
    """
    last = message.get("last")
    if last is not None and last.__class__ is not dict:
        raise MessageError(Code.BAD_MESSAGE, f"last: expected object, got {kind_of(last)}")
    told = None if last is None else (_moment(last, "t0", "last.t0"), _moment(last, "t3", "last.t3"))
    return TimeRequest(_moment(message, "t0", "t0"), told)


def _moment(members: dict[str, Any], key: str, name: str) -> float:
    value: Any = members.get(key)
    if not is_number(value) or not -MAX_TIME_MS <= value <= MAX_TIME_MS:
        raise MessageError(Code.BAD_MESSAGE, f"{name}: expected ms of the device's clock, got {shown(value)}")
    return value  # type: ignore[no-any-return] # a number


class Exchange:
    """The time requests of a connection that was opened at ``opened_ns``, when the handshake was answered, and welcomed
    at ``greeted_ns``."""

    __slots__ = ("_answered", "_greeted_ns", "_heard_ns")

    def __init__(self, opened_ns: int, greeted_ns: int) -> None:
        self._heard_ns = opened_ns
        """When the newest message was sent that has surely reached the device."""
        self._greeted_ns = greeted_ns
        self._answered: tuple[float, int, int] | None = None
        """The newest answer: ``t0`` of its request, when that arrived, when the answer was sent."""

    def sample(self, request: TimeRequest) -> Sample:
        """What a request says about the device's clock."""
        arrived_ns, answered = request.arrived_ns, self._answered
        told = None
        if arrived_ns - self._greeted_ns >= ARRIVED_NS:
            self._heard_ns = max(self._heard_ns, self._greeted_ns)
        if answered is not None:
            if arrived_ns - answered[2] >= ARRIVED_NS:
                self._heard_ns = answered[2]
            if request.last is not None and request.last[0] == answered[0]:
                t0, t3 = request.last
                told = _bounds(t0, answered[1], answered[2], t3, exchanged=True)
        asked = _bounds(request.t0, arrived_ns, self._heard_ns, request.t0)
        return asked if told is None or told.low_ns > told.high_ns else both(told, asked)

    def answered(self, request: TimeRequest, sent_ns: int) -> None:
        """The answer is on its way."""
        self._answered = request.t0, request.arrived_ns, sent_ns


def _bounds(before: float, arrived_ns: int, sent_ns: int, after: float, *, exchanged: bool = False) -> Sample:
    """The device's clock said ``before`` before what arrived here then, and ``after`` after what was sent then."""
    low_ns, high_ns = sent_ns - from_ms(after), arrived_ns - from_ms(before)
    return Sample(arrived_ns, low_ns - RESOLUTION_NS, high_ns + RESOLUTION_NS, exchanged)
