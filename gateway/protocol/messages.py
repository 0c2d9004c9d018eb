"""What goes in and out of a session: messages of the device, effects for the runner, answers as bytes.

Rules that hold here:

* A message class holds what the device sent. Only the form of the message as a whole has been checked (`codec`); its
  readings are judged one by one later (`validation`).
* Effects are everything that a session wants done, in order. It does nothing itself.
* Answers are prebuilt bytes in the encoding of the device's subprotocol (`gateway.protocol.subprotocols`). Their forms
  are in docs/reference/protocol.md, "Messages of the gateway".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any

import orjson

from gateway.ledger import NO_SEQ, Entry
from gateway.protocol.device_clock import DeviceClock
from gateway.time_units import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MAX_SEQ = 2**53
"""The greatest sequence number: a double holds all integers up to it."""
VERDICT_BYTES = 1024
"""Bytes of refusals that are kept with an entry, at most."""


class Ack(StrEnum):
    """When a numbered message is acknowledged."""

    DURABLE = "durable"
    STORED = "stored"
    NONE = "none"


class Code(StrEnum):
    """Why a message or a reading was refused: all codes of `reject` and `error`."""

    MALFORMED_JSON = "malformed_json"
    MALFORMED_CBOR = "malformed_cbor"
    NOT_UTF8 = "not_utf8"
    UNKNOWN_TYPE = "unknown_type"
    BAD_MESSAGE = "bad_message"
    BAD_TIMESTAMP = "bad_timestamp"
    TIMESTAMP_OUT_OF_RANGE = "timestamp_out_of_range"
    BAD_NAME = "bad_name"
    WRONG_TYPE = "wrong_type"
    OUT_OF_RANGE = "out_of_range"
    UNKNOWN_FIELD = "unknown_field"
    UNKNOWN_TAG = "unknown_tag"
    TOO_MANY_FIELDS = "too_many_fields"
    TOO_LONG = "too_long"
    TOO_MANY_SERIES = "too_many_series"
    SPOOL_FULL = "spool_full"
    UNKNOWN_COMMAND = "unknown_command"


class CloseCode(IntEnum):
    """Why a connection ends: RFC 6455 section 7.4.1, its registry at IANA, and this protocol's own from 4400."""

    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED = 1003
    NOT_UTF8 = 1007
    POLICY = 1008
    TOO_BIG = 1009
    INTERNAL = 1011
    RESTART = 1012
    TRY_AGAIN_LATER = 1013
    CREDENTIALS = 4401
    KEEPALIVE = 4408
    REPLACED = 4409
    RATE_IGNORED = 4429


@dataclass(slots=True)
class Hello:
    """Who the device is, and how it speaks; None for what it left out."""

    token: str | None
    boot: str | None
    ack: Ack | None
    info: dict[str, Any] | None
    claim: str | None = None
    secret: str | None = None


@dataclass(slots=True)
class Readings:
    """One or more readings; ``measurement`` and ``tags`` hold for those that name none themselves."""

    seq: int
    items: Sequence[Any]
    measurement: Any = None
    tags: Any = None

    @property
    def count(self) -> int:
        """Readings in the message, empty ones too."""
        return len(self.items)


@dataclass(slots=True, kw_only=True)
class Block(Readings):
    """Samples in columns of ``samples`` values each; ``items`` is empty. One of ``t0`` and ``age_ms`` is not None."""

    t0: Any
    age_ms: Any
    dt: Any
    columns: Mapping[str, Sequence[Any]]
    samples: int

    @property
    def count(self) -> int:
        """Samples in the block."""
        return self.samples


class Report:
    """Base of the messages that the session does not act on. It is an effect, too: pass it to the service it is for."""

    __slots__ = ()


@dataclass(slots=True)
class TimeRequest(Report):
    """A device asks for the time, which it takes to be ``t0`` (ms): call `Session.tell_time`.

    ``last``: ``t0`` of the request before, and when the answer to it arrived by the device's clock.
    """

    t0: float
    last: tuple[float, float] | None
    arrived_ns: int = 0


Message = Hello | Readings | Report


@dataclass(slots=True)
class Send:
    """Send one message: text, or binary where the session's subprotocol is."""

    data: bytes


@dataclass(slots=True)
class Refusal(Send):
    """A ``reject`` or an ``error``; ``errors`` are what it says is wrong with message ``seq``."""

    seq: int
    errors: Sequence[Fault]


@dataclass(slots=True)
class Throttle(Send):
    """A ``throttle``; ``limit`` is the name of what was exceeded."""

    limit: str


@dataclass(frozen=True, slots=True)
class Rest:
    """Do not read this device for ``ms``: it has used up ``limit``, and does not send messages again."""

    ms: int
    limit: str


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection; nothing follows."""

    code: CloseCode
    reason: str


@dataclass(frozen=True, slots=True)
class Authenticate:
    """Check this token, then call `Session.welcome` or `Session.credentials_refused` before anything else."""

    token: str


@dataclass(frozen=True, slots=True)
class Enrol:
    """Ask an operator: call `Session.pending`, and `Session.enrolled` after the approval. None: the device has none."""

    claim: str | None
    secret: str | None


@dataclass(frozen=True, slots=True)
class AckLater:
    """Call `Session.acknowledge` within ``Terms.ack_delay_ms``: one ack may cover more messages by then."""


Effect = Entry | Send | Rest | Close | Authenticate | Enrol | AckLater | Report | DeviceClock
Effects = tuple[Effect, ...]
OneOrMoreEffects = Effects | Entry | Send
"""What an event leads to. Nearly every event leads to one effect, which comes without a tuple around it."""
Fault = dict[str, Any]
"""One refused reading: ``index`` in its message, ``field`` where one is at fault, ``code``, ``message``."""


def all_of(effects: OneOrMoreEffects) -> Effects:
    """The effects, in order, however many there are."""
    return effects if isinstance(effects, tuple) else (effects,)


class Answers:
    """The messages of the gateway. ``encode`` turns the members of a message into bytes."""

    __slots__ = ("_encode",)

    def __init__(self, encode: Callable[[dict[str, Any]], bytes]) -> None:
        self._encode = encode

    def ack(self, seq: int) -> Send:
        """Every message up to ``seq`` is safe or was refused."""
        return Send(self._encode({"type": "ack", "seq": seq}))

    def reject(self, seq: int, errors: Sequence[Fault]) -> Refusal:
        """These readings were refused, the others kept."""
        return Refusal(self._answer("reject", seq, errors=errors).data, seq, errors)

    def error(self, seq: int, code: str, message: str) -> Refusal:
        """The whole message was refused."""
        fault = {"code": code, "message": message}
        return Refusal(self._answer("error", seq, **fault).data, seq, [fault])

    def throttle(self, limit: str, retry_after_ms: int, from_seq: int, **counts: int) -> Throttle:
        """Messages from ``from_seq`` on were not accepted; ``counts`` are ``allowed`` and ``observed`` where known."""
        members = {"limit": limit, **counts, "retry_after_ms": retry_after_ms, "from_seq": from_seq}
        return Throttle(self._answer("throttle", NO_SEQ, **members).data, limit)

    def command(self, command_id: str, name: str, params: bytes, expires_in_ms: int) -> Send:
        """Do this, and answer within the time; ``params`` is JSON."""
        given = orjson.loads(params)
        return self._answer("command", NO_SEQ, id=command_id, name=name, params=given, expires_in_ms=expires_in_ms)

    def settings(self, version: int, desired: bytes) -> Send:
        """The settings the device should have, all of them; ``desired`` is JSON."""
        return self._answer("settings", NO_SEQ, version=version, settings=orjson.loads(desired))

    def time(self, t0: float, arrived_ns: int, sent_ns: int) -> Send:
        """The times at which a request arrived and its answer is sent; ``t0`` is that of the request."""
        t1, t2 = arrived_ns // NS_PER_MS, sent_ns // NS_PER_MS
        return self._answer("time", NO_SEQ, t0=t0, t1=t1, t2=t2)

    def drain(self, reconnect_after_ms: int) -> Send:
        """The gateway is about to close this connection; the device should reconnect after so many ms."""
        return self._answer("drain", NO_SEQ, reconnect_after_ms=reconnect_after_ms)

    def pending(self, claim: str, expires_in_ms: int) -> Send:
        """An operator has to approve of the device first, by comparing the claim."""
        return self._answer("pending", NO_SEQ, claim=claim, expires_in_ms=expires_in_ms)

    def token(self, token: str) -> Send:
        """The device was approved: this is its token from now on."""
        return self._answer("token", NO_SEQ, token=token)

    def welcome(self, **members: Any) -> Send:
        """The session has begun; ``members`` as in "welcome" of docs/reference/protocol.md."""
        return self._answer("welcome", NO_SEQ, **members)

    def _answer(self, kind: str, seq: int, **members: Any) -> Send:
        number = {} if seq == NO_SEQ else {"seq": seq}
        return Send(self._encode({"type": kind, **number, **members}))


class JsonAnswers(Answers):
    """Answers as JSON. The ack, which is sent for every commit, is made without a dictionary."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(orjson.dumps)

    def ack(self, seq: int) -> Send:
        """Every message up to ``seq`` is safe or was refused."""
        return Send(b'{"type":"ack","seq":%d}' % seq)


def verdicts(errors: Sequence[Fault]) -> bytes:
    """The refusals as JSON for the ledger, as many from the first on as fit into `VERDICT_BYTES`."""
    text = orjson.dumps(errors)
    while len(text) > VERDICT_BYTES:
        errors = errors[: len(errors) * VERDICT_BYTES // len(text)]
        text = orjson.dumps(errors)
    # It may wait for a disk, and orjson 3.13 leaves what it wrote in a buffer that may be 60 times as large.
    return bytes(memoryview(text)) if errors else b""
