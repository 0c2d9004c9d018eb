"""A session with a ledger, a clock, and a spool and database that commit and deliver when the test says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cbor2
import orjson

from gateway.config.sections import ProfileSection
from gateway.ledger import NO_SEQ, Entry, Ledger
from gateway.protocol.device_clock import DeviceClock
from gateway.protocol.encoder import Encoder
from gateway.protocol.field_rules import Rulebook
from gateway.protocol.field_types import FieldTypes
from gateway.protocol.messages import (
    AckLater,
    Authenticate,
    Close,
    Enrol,
    Rest,
    Send,
    TimeRequest,
    all_of,
)
from gateway.protocol.rate_limits import Allowance, Quota, Rates
from gateway.protocol.reports import Reported, Result
from gateway.protocol.session import Session, Terms
from gateway.protocol.subprotocols import JSON, Subprotocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gateway.protocol.messages import Effect, OneOrMoreEffects

NOW_NS = 1_700_000_000_000_000_000
TERMS = {
    "ping_interval_ms": 20_000,
    "timeout_ms": 30_000,
    "max_message_bytes": 65_536,
    "max_unacked": 1_000,
    "strikes_per_minute": 60,
    "ack_delay_ms": 0,
}
QUOTA = {
    "readings_per_second": 200,
    "burst": 2_000,
    "messages_per_second": 100,
    "message_burst": 1_500,
    "bytes_per_second": 65_536,
    "byte_burst": 1_048_576,
}


def terms(**changed: int) -> Terms:
    """The defaults of the vectors, with some of them replaced."""
    return Terms(**{**TERMS, **changed})


def rates(*, backlog: float = 1.0, **changed: float) -> Rates:
    """The defaults of the vectors, with some of them replaced; the lane for backlog has so many times as much."""
    quota = Quota(**{**QUOTA, **changed})
    return Rates(quota, quota.times(backlog))


def encoder(profile: Mapping[str, Any] | None = None, tags: Mapping[str, str] | None = None) -> Encoder:
    """The encoder of device d1, whose profile is as in config.yaml."""
    return Encoder("d1", ProfileSection.model_validate(profile or {}), tags or {}, Rulebook(FieldTypes()))


class Bench:
    """A session of device d1. Every method returns its effects, in the form of `shown`."""

    def __init__(
        self,
        *,
        ledger: Ledger | None = None,
        profile: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        name: str = "s1",
        subprotocol: Subprotocol = JSON,
        quota: Mapping[str, float] | None = None,
        **changed: int,
    ) -> None:
        self.ledger = ledger or Ledger()
        self.encoder = encoder(profile, tags)
        self.allowance = Allowance(rates(**(quota or {})))
        self.session = Session("d1", name, terms(**changed), subprotocol)
        self.now_ns = NOW_NS
        self.answers_after_ms = 0
        """How long it takes to answer a time request."""
        self.queue: list[Entry] = []
        """Entries that wait for the next commit."""
        self.committed: list[Entry] = []
        """Durable entries that wait for delivery."""
        self.record = 0
        """The id of the last record of the spool."""

    def ready(self, boot: str = "b1", **hello: Any) -> Bench:
        """Welcome the device, and let it name its boot."""
        self.good()
        self.send({"type": "hello", "boot": boot, **hello})
        return self

    def good(self) -> list[Any]:
        account, encoder, allowance = self.ledger.account("d1"), self.encoder, self.allowance
        return self.run(self.session.welcome(account, encoder, allowance, self.now_ns, opened_ns=NOW_NS))

    def send(self, message: Any, *, room: bool = True, after_ms: int = 0) -> list[Any]:
        encode = cbor2.dumps if self.session.subprotocol.binary else orjson.dumps
        return self.send_bytes(encode(message), room=room, after_ms=after_ms)

    def send_bytes(self, data: bytes, *, room: bool = True, after_ms: int = 0) -> list[Any]:
        self.now_ns += after_ms * 1_000_000
        return self.run(self.session.receive(data, self.now_ns, room=room))

    def run(self, outcome: OneOrMoreEffects) -> list[Any]:
        effects = all_of(outcome)
        self.queue += [effect for effect in effects if isinstance(effect, Entry)]
        decode = cbor2.loads if self.session.subprotocol.binary else orjson.loads
        found: list[Any] = []
        for effect in effects:
            if isinstance(effect, TimeRequest):
                self.now_ns += self.answers_after_ms * 1_000_000
                found += self.run(self.session.tell_time(effect, self.now_ns))
            else:
                found.append(self.clock(effect) if isinstance(effect, DeviceClock) else shown(effect, decode))
        return found

    def clock(self, clock: DeviceClock) -> dict[str, Any]:
        estimate = clock.estimate(self.now_ns)
        if estimate is None:
            return {"clock": None}
        offset, uncertainty = estimate.offset_ns / 1_000_000, estimate.uncertainty_ns / 1_000_000
        return {"clock": {"offset_ms": offset, "uncertainty_ms": uncertainty}}

    def commit(self) -> list[Any]:
        entries, self.queue = self.queue, []
        self.record += 1
        self.ledger.committed(self.record, entries)
        self.committed += entries
        return self.run(self.session.durable(numbered(entries)))

    def deliver(self) -> list[Any]:
        entries, self.committed = self.committed, []
        self.ledger.delivered(self.record, entries, {})
        mine = [entry for entry in entries if entry.boot == self.session.boot]
        return self.run(self.session.stored(numbered(mine)))

    def commit_fails(self) -> list[Any]:
        entries, self.queue = self.queue, []
        for entry in entries:
            self.ledger.rolled_back(entry)
        return self.run(self.session.append_failed(entries, 1_000))


def numbered(entries: list[Entry]) -> int:
    return sum(entry.seq != NO_SEQ for entry in entries)


def shown(effect: Effect, decode: Callable[[bytes], Any] = orjson.loads) -> dict[str, Any]:
    """An effect in the form of the steps of the vectors. Empty members of an entry are left out."""
    match effect:
        case Send(data):
            return {"answers": decode(data)}
        case Close(code, reason):
            assert reason
            return {"closes": int(code)}
        case AckLater():
            return {"acks": "later"}
        case Rest(ms, limit):
            return {"rests": {"limit": limit, "ms": ms}}
        case Authenticate(token):
            return {"authenticates": token}
        case Enrol(claim, secret):
            return {"enrols": {"claim": claim, "secret": secret}}
        case Result(command, ok, value, error):
            told = {"value": orjson.loads(value)} if ok else {"error": error}
            return {"result": {"id": command, "ok": ok, **told}}
        case Reported(version, settings):
            return {"reported": {"version": version, "settings": orjson.loads(settings)}}
    assert isinstance(effect, Entry)
    payload = effect.payload
    assert payload.count(b"\n") >= effect.lines
    stored = {
        "boot": effect.boot,
        "seq": None if effect.seq == NO_SEQ else effect.seq,
        "lines": payload.decode().removesuffix("\n").split("\n") if effect.lines else [],
        "duplicate": effect.duplicate,
        "rejected": effect.rejected,
        "gaps": effect.gaps,
    }
    return {"stores": {key: value for key, value in stored.items() if value or (value == 0 and key == "seq")}}
