from __future__ import annotations

import json
from typing import Any

import cbor2
import pytest

from devices_sim.sensors import KINDS, Sensor
from devices_sim.wire import FORMATS, Cbor, Senml

DEVICE = "works:press-1"


def sensor(kind: str) -> Sensor:
    return Sensor(kind, 7, 1_795_000_000_123, 1000)


def resolved(pack: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Fields by time in ns, as RFC 8428 section 4.6 has them."""
    found: dict[int, dict[str, Any]] = {}
    name, time = "", 0.0
    for record in pack:
        name, time = record.get("bn", name), record.get("bt", time)
        (value,) = (record[kind] for kind in ("v", "vs", "vb") if kind in record)
        assert name + record["n"] == f"{DEVICE}:{record['n']}"
        found.setdefault(round((time + record.get("t", 0)) * 1e6) * 1000, {})[record["n"]] = value
    return found


def heard(data: dict[str, Any], waiting: bytes | None = None) -> Any:
    return json.loads(Senml(DEVICE).read(json.dumps(data).encode(), lambda _: waiting))


@pytest.mark.parametrize("kind", KINDS)
def test_a_pack_means_what_the_message_means(kind: str) -> None:
    device = sensor(kind)
    for tick in (0, 19, 86_399):
        pack = json.loads(Senml(DEVICE).write(device.message(5, tick, device.ticks)))
        points = [point for point in device.points(tick, device.ticks) if point is not None]
        assert resolved(pack) == {point.time_ns: dict(point.fields) for point in points}
        units = {record["n"]: record.get("u") for record in pack}
        assert (units.get("temp", "Cel"), units.get("moving")) == ("Cel", None)


@pytest.mark.parametrize("kind", KINDS)
def test_cbor_is_the_same_message(kind: str) -> None:
    message = sensor(kind).message(5, 3, 1)
    assert cbor2.loads(Cbor().write(message)) == json.loads(message)
    assert json.loads(Cbor().read(cbor2.dumps({"type": "ack", "seq": 5}), lambda _: None)) == {"type": "ack", "seq": 5}


def test_packs_are_numbered_by_counting() -> None:
    assert heard({"type": "ack", "seq": 1})["seq"] == 0
    assert heard({"type": "welcome", "last_seq": 4})["last_seq"] == 3
    assert heard({"type": "welcome", "last_seq": None})["last_seq"] is None
    assert heard({"type": "error", "code": "bad_message"}) == {"type": "error", "code": "bad_message"}


def test_a_reading_is_refused_where_one_of_its_records_is() -> None:
    message = sensor("logger").message(3, 0, 5)
    errors = [{"index": index, "code": "out_of_range"} for index in (4, 5, 19)]  # four fields each
    said = heard({"type": "reject", "seq": 4, "errors": errors}, message)
    assert (said["seq"], [error["index"] for error in said["errors"]]) == (3, [1, 4])
    unknown = heard({"type": "reject", "seq": 4, "errors": errors})
    assert [error["index"] for error in unknown["errors"]] == [4, 5, 19]


def test_what_is_no_reading_and_what_is_no_message_goes_as_it_is() -> None:
    hello = b'{"type":"hello","boot":"b1"}'
    assert Senml(DEVICE).write(hello) == hello
    for name, garbage in (("senml", b"{]"), ("senml", b"[1]"), ("cbor", b"\xff"), ("cbor", b"\xc1"), ("json", b"{]")):
        assert FORMATS[name](DEVICE).read(garbage, lambda _: None) == garbage
