"""What is fuzzed: functions of bytes that raise when a rule of the gateway does not hold.

Each takes anything at all. What the code under test may answer to it (`MessageError`, ``ValueError`` of a line) is no
finding; any other exception is, and so is every assertion here.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from gateway.errors import MessageError
from gateway.ledger import NO_SEQ, Entry
from gateway.line_protocol import parse_line, split_lines
from gateway.protocol import cbor, senml
from gateway.protocol.counted_session import CountedSession
from gateway.protocol.device_clock import DeviceClock, Sample
from gateway.protocol.messages import Code, Readings, TimeRequest
from gateway.protocol.session import CloseReason
from gateway.protocol.subprotocols import CBOR, JSON, SENML
from gateway.protocol.time_exchange import Exchange
from gateway.protocol.value_text import Foreign
from gateway.spool.log import Log
from gateway.spool.log_reader import LogReader, discover
from gateway.spool.record import Record, decode_run, encode, find_fault
from gateway.spool.segment import SegmentHeader, SegmentWriter
from gateway.websocket.frames import BINARY, CLOSE, TEXT, Frame, FrameParser, Violation, decode_close
from tests.support.faulty_files import FaultyFiles
from tests.support.sessions import NOW_NS, Bench, encoder, terms
from tests.support.streams import unmask

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.protocol.subprotocols import Subprotocol

PROFILE: dict[str, Any] = {
    "allowed_tags": ["line"],
    "fields": {"n": {"type": "int", "min": -5, "max": 5}, "s": {"type": "string"}},
}


AN_HOUR_AHEAD = -3_600_000_000_000
BOUNDS_S = 60, 86_400
"""Ahead and behind."""
SLOW = {"messages_per_second": 0.5, "message_burst": 2, "readings_per_second": 2, "burst": 5}
POLICIES = ("keep", "refuse", "correct")


def _profile(policy: str) -> dict[str, Any]:
    ahead, behind = BOUNDS_S
    return {**PROFILE, "timestamps": {"max_future": f"{ahead}s", "max_age": f"{behind}s", "when_outside": policy}}


def frames(data: bytes) -> None:
    """The frame reader: however the bytes are cut, the same frames come out, none above the limit."""
    head, stream = data[:3].ljust(3, b"\0"), data[3:]
    limit, compression = head[0] * 257, bool(head[1] & 1)
    whole, problem = _read([stream], limit, compression=compression)
    step = head[2] % 16 + 1
    cut = [stream[at : at + step] for at in range(0, len(stream), step)]
    assert _read(cut, limit, compression=compression) == (whole, problem)
    assert sum(len(payload) for _, payload in whole) <= len(stream)
    for kind, payload in whole:
        assert len(payload) <= (limit if kind & 0xF in {TEXT, BINARY} else 125)
        if kind == CLOSE and isinstance(found := decode_close(payload), Violation):
            assert found.code in {1002, 1007}
    sole = FrameParser(limit, unmask, compression=compression).single_text(stream)
    assert sole is None or (whole, problem) == ([(TEXT, sole)], None)


def _read(pieces: Sequence[bytes], limit: int, *, compression: bool) -> tuple[list[Frame], Violation | None]:
    parser = FrameParser(limit, unmask, compression=compression)
    found: list[Frame] = []
    for piece in pieces:
        found += parser.feed(piece)
        while parser.has_more:
            found += parser.next_frames()
    return found, parser.violation


def json(data: bytes) -> None:
    """Messages in JSON."""
    _judge(data, JSON)


def cbor_(data: bytes) -> None:
    """Messages in CBOR, which mean what the same message means in JSON."""
    _judge(data, CBOR)
    try:
        value = cbor.parse(data)
    except MessageError:
        return
    if _foreign(value):
        return
    text, binary = Bench(profile=PROFILE).ready(), Bench(profile=PROFILE, subprotocol=CBOR).ready()
    said = orjson.dumps(value)
    if len(data) <= terms().max_message_bytes and len(said) <= terms().max_message_bytes:
        assert text.send_bytes(said) == binary.send_bytes(data)
        assert text.queue == binary.queue


def _foreign(value: Any) -> bool:
    if isinstance(value, Foreign):
        return True
    assert value.__class__ in {dict, list, str, int, float, bool, type(None)}, value
    members = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(_foreign, members))


def senml_(data: bytes) -> None:
    """SenML packs."""
    _judge(data, SENML)


def _judge(data: bytes, subprotocol: Subprotocol) -> None:
    """What is accepted can be read back from its lines and is within the bounds; every reading is accounted for."""
    policy = POLICIES[sum(data) % 3]
    try:
        message = subprotocol.interpret(subprotocol.parse(data))
        if not isinstance(message, Readings):
            return
        device = encoder(_profile(policy))
        device.units = {}
        device.clock = DeviceClock("b1")
        device.clock.note(Sample(NOW_NS, AN_HOUR_AHEAD, AN_HOUR_AHEAD))
        encoded = device.encode(message, NOW_NS)
    except MessageError as error:
        subprotocol.answers.error(NO_SEQ, Code(error.code), error.message)
        return
    _check_times(encoded.payload, encoded.lines, NOW_NS, policy)
    if subprotocol is JSON and (rows := device.recognised(data, NOW_NS)) is not None:
        assert device.encode(rows, NOW_NS) == device.encode(message, NOW_NS)
    assert encoded.received == encoded.lines + len(encoded.rejects) <= message.count
    for line in split_lines(encoded.payload, encoded.lines):
        _, _, fields, _ = parse_line(line)
        assert all(math.isfinite(value) for value in fields.values() if isinstance(value, float)), line
    assert all(0 <= fault["index"] < message.count and fault["code"] in list(Code) for fault in encoded.rejects)
    subprotocol.answers.reject(0, encoded.rejects)
    assert orjson.dumps(dict(encoded.latest or {}))
    assert len(device.units) <= senml.MAX_UNITS


def _check_times(payload: bytes, lines: int, now_ns: int, policy: str) -> None:
    ahead, behind = BOUNDS_S
    for line in split_lines(payload, lines):
        time_ns = parse_line(line)[3]
        assert policy == "keep" or -behind * 10**9 <= time_ns - now_ns <= ahead * 10**9, line


def session(data: bytes) -> None:
    """A conversation: one byte for the kind of it, then lines, each with what happens first."""
    kind = data[0] if data else 0
    policy = POLICIES[kind // 3 % 3]
    bench = _bench(kind, policy)
    acked: dict[str, int] = {}
    taken: dict[str, int] = {}
    for line in data[1:].split(b"\n\n")[:40]:
        if line[:1] == b"f":
            taken.clear()
        effects = _happen(bench, line[:1], line[1:])
        for entry in bench.queue:
            _check_times(entry.payload, entry.lines, entry.arrived_ns, policy)
        for effect in effects:
            answer, stored = effect.get("answers", {}), effect.get("stores", {})
            if stored.get("lines") and stored.get("seq") is not None:
                assert taken.get(stored["boot"], -1) < stored["seq"], "stored twice"
                taken[stored["boot"]] = stored["seq"]
            if effect.get("authenticates"):
                bench.good()
            if effect.get("enrols"):
                bench.run(bench.session.pending("ABCD-EFGH", 60_000))
            assert effect.get("clock", {"uncertainty_ms": 0})["uncertainty_ms"] >= 0
            if answer.get("type") == "ack":
                boot = bench.session.boot
                assert acked.get(boot, -1) <= answer["seq"] <= bench.session._flow.sequence.accepted
                acked[boot] = answer["seq"]
    bench.commit()
    bench.deliver()
    account = bench.ledger.account("d1")
    assert account.pending == 0, account
    bench.session.close(CloseReason.REVOKED)
    assert not bench.session.open


def _bench(kind: int, policy: str) -> Bench:
    chosen, quota = (JSON, CBOR, SENML)[kind % 3], SLOW if kind // 9 % 2 else None
    bench = Bench(profile=_profile(policy), subprotocol=chosen, quota=quota, max_unacked=3, enrol=True)
    if chosen is SENML:
        bench.session = CountedSession("d1", "s1", terms(max_unacked=3, enrol=True), SENML)
    if kind < 128:
        bench.good()
    return bench


def _happen(bench: Bench, what: bytes, line: bytes) -> list[Any]:
    match what:
        case b"c":
            return bench.commit()
        case b"d":
            return bench.deliver()
        case b"f":
            return bench.commit_fails()
        case b"a":
            return bench.run(bench.session.enrolled("token")) + bench.good()
        case b"k":
            return bench.run(bench.session.kept_waiting())
        case b"w":
            return bench.send_bytes(line, after_ms=15_000)
        case b"r":
            return bench.send_bytes(line, room=False, after_ms=1)
    return bench.send_bytes(line, after_ms=1)


ROUND = struct.Struct(">HHBHB")


def clock(data: bytes) -> None:
    """Exchanges of times with a clock that is off and drifts, over ways of any length: it is off by what is said."""
    offset_ms, drift_ppm = struct.unpack(">qb", data[:9].ljust(9, b"\0"))
    offset_ms, drift_ppm = offset_ms % 4 * 10**12 - 2 * 10**12 + offset_ms % 10**9, drift_ppm % 181 - 90
    exchange, known, last = Exchange(NOW_NS, NOW_NS), DeviceClock("b1"), None

    def true_ns(now_ns: int) -> int:
        return offset_ms * 10**6 - (now_ns - NOW_NS) * drift_ppm // 10**6

    now_ns = NOW_NS
    rest = data[9:]
    for pause, up_ms, answers_ms, down_ms, tells in ROUND.iter_unpack(rest[: len(rest) // ROUND.size * ROUND.size]):
        asked_ns = now_ns + (down_ms % 9000 + pause * 10) * 10**6
        request = TimeRequest((asked_ns - true_ns(asked_ns)) // 10**6, last if tells & 1 else None)
        request.arrived_ns = now_ns = asked_ns + up_ms % 9000 * 10**6
        known.note(exchange.sample(request))
        now_ns += answers_ms * 10**6
        exchange.answered(request, now_ns)
        last = request.t0, (now_ns + down_ms % 9000 * 10**6 - true_ns(now_ns)) // 10**6
        estimate = known.estimate(now_ns)
        assert estimate is not None
        assert abs(estimate.offset_ns - true_ns(now_ns)) <= estimate.uncertainty_ns
        added = known.correction(now_ns)
        assert added is None or abs(added - true_ns(now_ns)) <= 2 * estimate.uncertainty_ns


SPOOL = Path("/spool")
ENTRY = [Entry("d", "b", number, 1, payload=b"m,device=d v=%d %d\n" % (number, number)) for number in range(9)]
EDIT = struct.Struct(">BHB")


def _segments() -> FaultyFiles:
    """Three segments of three records each."""
    disk = FaultyFiles()
    previous, end = 0, 0
    for first in (1, 4, 7):
        writer = SegmentWriter(disk, SPOOL, SegmentHeader(first, previous, end))
        for number in range(first, first + 3):
            writer.append(encode(number, 0, [ENTRY[number - 1]]))
        previous, end = first, len(disk.names_now[SPOOL / writer.path.name].data)
    return disk


def spool(data: bytes) -> None:
    """Recovery: a damaged spool starts, gives back only what was written, in order, and takes more."""
    disk = _segments()
    names = sorted(disk.names_now)
    for op, at, value in EDIT.iter_unpack(data[: len(data) // EDIT.size * EDIT.size][: 32 * EDIT.size]):
        image = disk.names_now[names[op % len(names)]].data
        if op & 0x80:
            del image[at % (len(image) + 1) :]
        elif image:
            image[at % len(image)] = value
    log = Log(disk, SPOOL, 600)
    found = [item for item in log.recover(0, 0) if isinstance(item, Record)]
    assert [item.id for item in found] == sorted({item.id for item in found})
    written = {entry.payload for entry in ENTRY}
    assert {item.payload for item in found} <= written
    assert all(item.entries[0] == ENTRY[item.id - 1] for item in found)
    log.start()
    commit = log.append([Entry("d", "b", 99, 1, payload=b"m v=1 1\n")], 0)
    assert commit.record_id > max((item.id for item in found), default=0)
    reader = LogReader(disk, 0)
    again = [item for item in reader.items(discover(disk, SPOOL)) if isinstance(item, Record)]
    reader.close()
    assert [item.id for item in again] == [*(item.id for item in found), commit.record_id]


def record(data: bytes) -> None:
    """The bytes of records."""
    records, end = decode_run(data, 0, 0)
    assert 0 <= end <= len(data)
    assert sum(item.size for item in records) == end
    if end < len(data):
        problem, needed = find_fault(data, end, 0)
        assert problem
        assert needed >= 0


def lines(data: bytes) -> None:
    """Line protocol: cut and read, or refused by a ValueError."""
    try:
        found = split_lines(data)
    except ValueError:
        return
    assert b"".join(found) == data
    for line in found:
        try:
            measurement, tags, fields, time_ns = parse_line(line)
        except ValueError:
            continue
        assert isinstance(measurement, str)
        assert all(isinstance(text, str) for pair in tags.items() for text in pair)
        assert fields
        assert isinstance(time_ns, int)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "frames": frames,
    "json": json,
    "cbor": cbor_,
    "senml": senml_,
    "session": session,
    "clock": clock,
    "spool": spool,
    "record": record,
    "lines": lines,
}
