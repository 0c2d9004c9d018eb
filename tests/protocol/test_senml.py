from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.errors import MessageError
from gateway.protocol import senml
from gateway.protocol.codec import MAX_READINGS
from gateway.protocol.counted_session import CountedSession
from gateway.protocol.subprotocols import SENML
from tests.support.sessions import NOW_NS, Bench, encoder, terms

NS = 10**9


def bench(device: str = "d1", **more: Any) -> Bench:
    made = Bench(subprotocol=SENML, **more)
    made.encoder._device = device
    made.session = CountedSession(device, "s1", terms(), SENML)
    made.good()
    return made


def points(pack: Any, device: str = "d1") -> list[str]:
    """Fields and time of what is stored."""
    [stored, *refused] = bench(device).send(pack)
    assert refused == []
    return [line.partition(" ")[2] for line in stored["stores"]["lines"]]


def rejects(pack: Any, device: str = "d1") -> list[tuple[int, str, str]]:
    """Place, code and field of each refused record."""
    [_, rejected] = bench(device).send(pack)
    return [(fault["index"], fault["code"], fault.get("field", "")) for fault in rejected["answers"]["errors"]]


VECTORS = Path(__file__).parents[1] / "vectors" / "senml" / "rfc8428.json"
CASES = [pytest.param(case, id=case["section"]) for case in json.loads(VECTORS.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("case", CASES)
def test_the_examples_of_the_rfc(case: dict[str, Any]) -> None:
    [stored, *rejected] = bench(case["device"]).send(case["send"])
    assert [line.partition(" ")[2] for line in stored["stores"]["lines"]] == case["stores"]
    faults = [(fault["index"], fault["code"]) for answer in rejected for fault in answer["answers"]["errors"]]
    assert faults == [(index, "bad_name") for index in case["refuses"]]


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ({"n": "temp"}, "temp"),
        ({"n": "room.temp-1"}, "room.temp-1"),
        ({"n": "d1"}, "value"),
        ({"n": "d1:temp"}, "temp"),
        ({"n": "d1/a/b"}, "a/b"),
        ({"n": "d1_temp"}, "temp"),
        ({"bn": "d1", "n": ":temp"}, "temp"),
        ({"bn": "d1:", "u": "Cel"}, "Cel"),
        ({"bn": "d1/"}, "value"),
    ],
)
def test_a_name_below_the_device_is_its_field(name: dict[str, str], field: str) -> None:
    assert points([{**name, "v": 1}]) == [f"{field}=1 {NOW_NS}"]


@pytest.mark.parametrize(
    "name",
    [
        {"n": "d10:temp"},
        {"n": "d2:temp"},
        {"n": "a/b"},
        {"bn": "d2:", "n": "temp"},
        {"bn": "d", "n": "2"},
        {"n": "-temp"},
        {"n": "te mp"},
        {"n": "d1:" + "x" * 65},
        {},
        {"n": "d1:_hidden"},
        {"n": "d1:time"},
    ],
)
def test_any_other_name_is_refused(name: dict[str, str]) -> None:
    assert [code for _, code, _ in rejects([{**name, "v": 1}])] == ["bad_name"]


def test_base_fields_hold_until_they_come_again() -> None:
    pack = [
        {"bn": "d1:", "bt": 1_700_000_000, "bv": 20, "bs": 5, "n": "a", "v": 0.5},
        {"n": "b", "t": 2},
        {"bn": "d1/", "bv": 0, "n": "c", "v": 1, "s": 2},
        {"n": "d", "vs": "x"},
    ]
    assert points(pack) == [
        f"a=20.5,a.sum=5 {NOW_NS}",
        f"b=20,b.sum=5 {NOW_NS + 2 * NS}",
        f"c=1,c.sum=7 {NOW_NS}",
        f'd="x",d.sum=5 {NOW_NS}',
    ]


@pytest.mark.parametrize(
    ("time", "then"),
    [
        ({}, NOW_NS),
        ({"t": 0}, NOW_NS),
        ({"t": -60}, NOW_NS - 60 * NS),
        ({"t": 0.25}, NOW_NS + NS // 4),
        ({"t": 2**28 - 1}, NOW_NS + (2**28 - 1) * NS),
        ({"t": 2**28}, 2**28 * NS),
        ({"bt": 2**28 - 1, "t": 1}, 2**28 * NS),
        ({"bt": 1_700_000_000, "t": -1_700_000_000}, NOW_NS),
    ],
)
def test_times_below_two_to_the_28_are_relative_to_the_arrival(time: dict[str, float], then: int) -> None:
    """RFC 8428 section 4.5.3."""
    assert points([{"n": "a", "v": 1, **time}]) == [f"a=1 {then}"]


@pytest.mark.parametrize("t", [10**10, 10**11, 1.7e12, 1e308, -(10**11), -1e308])
def test_times_that_no_database_can_hold_are_refused(t: float) -> None:
    assert rejects([{"n": "a", "v": 1, "t": t}]) == [(0, "timestamp_out_of_range", "t")]


@pytest.mark.parametrize(
    ("record", "code"),
    [
        (5, "wrong_type"),
        ({"n": "a"}, "wrong_type"),
        ({"n": "a", "v": None}, "wrong_type"),
        ({"n": "a", "v": "1"}, "wrong_type"),
        ({"n": "a", "v": True}, "wrong_type"),
        ({"n": "a", "vb": 1}, "wrong_type"),
        ({"n": "a", "vs": 1}, "wrong_type"),
        ({"n": "a", "vd": "a+b="}, "wrong_type"),
        ({"n": "a", "v": 1, "vs": "x"}, "wrong_type"),
        ({"n": 5, "v": 1}, "wrong_type"),
        ({"n": "a", "v": 1, "t": "now"}, "wrong_type"),
        ({"n": "a", "v": 1, "u": 5}, "wrong_type"),
        ({"n": "a", "v": 1, "u": "x" * 65}, "too_long"),
        ({"n": "a", "v": 1, "u": "x\n"}, "too_long"),
        ({"n": "a", "s": "1"}, "wrong_type"),
        ({"bv": 1e308, "n": "a", "v": 1e308}, "out_of_range"),
        ({"n": "a", "vs": "x" * 1025}, "too_long"),
    ],
)
def test_a_bad_record_is_refused_and_the_next_is_kept(record: Any, code: str) -> None:
    stored, rejected = bench().send([record, {"bv": 0, "n": "b", "v": 2}])
    assert stored["stores"]["lines"] == [f"telemetry,device=d1 b=2 {NOW_NS}"]
    assert [(fault["index"], fault["code"]) for fault in rejected["answers"]["errors"]] == [(0, code)]


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"n": "a", "v": 1, "must_": 1}, "must_"),
        ({"bn": 5}, "bn: expected string"),
        ({"bt": "now"}, "bt: expected number"),
        ({"bver": 11}, "bver: expected at most 10, got 11"),
    ],
)
def test_an_error_that_concerns_the_pack_refuses_it(record: Any, why: str) -> None:
    made = bench()
    _, error = made.send([{"n": "b", "v": 1}, record])
    assert (error["answers"]["code"], error["answers"]["seq"]) == ("bad_message", 1)
    assert error["answers"]["message"].startswith("record 1: ")
    assert why in error["answers"]["message"]


def test_unknown_labels_and_update_times_are_ignored() -> None:
    assert points([{"n": "a", "v": 1, "ut": 60, "x": 5, "bfoo": {}}]) == [f"a=1 {NOW_NS}"]


def test_a_pack_has_a_greatest_size() -> None:
    assert len(senml.interpret([{"n": "a", "v": 1}] * MAX_READINGS).items) == MAX_READINGS  # type: ignore[union-attr]
    with pytest.raises(MessageError, match="at most 5000 records in a pack, got 5001") as refused:
        senml.interpret([{}] * (MAX_READINGS + 1))
    assert refused.value.readings == MAX_READINGS + 1


@pytest.mark.parametrize("message", [{"seq": 1, "ts": 1_700_000_000_000, "values": {"a": 1}}, {}, 5, None, "x"])
def test_a_value_that_is_not_a_pack_is_refused(message: Any) -> None:
    made = bench()
    made.send([{"n": "a", "v": 1}])
    answers = [effect["answers"] for effect in made.send(message) if "answers" in effect]
    assert [answer["code"] for answer in answers] == ["bad_message"]
    assert ("seq" in answers[0]) is not isinstance(message, dict)


def test_units_come_from_accepted_records() -> None:
    made = encoder()
    made.units = {}
    pack = senml.interpret([{"bu": "A", "n": "a", "v": 1}, {"n": "b", "u": "V", "v": 1}, {"n": "c!", "u": "W", "v": 1}])
    made.encode(pack, NOW_NS)  # type: ignore[arg-type]
    assert made.units == {"a": "A", "b": "V"}
    many = senml.interpret([{"n": f"f{n}", "u": "W", "v": 1} for n in range(500)])
    made.encode(many, NOW_NS)  # type: ignore[arg-type]
    assert len(made.units) == senml.MAX_UNITS
    successor = encoder()
    successor.follow(made)
    assert successor.units is made.units


def test_no_two_packs_have_the_same_time() -> None:
    made = bench()
    first, second = (made.send([{"n": "a", "v": n}])[0]["stores"]["lines"][0] for n in range(2))
    assert (first, second) == (f"telemetry,device=d1 a=0 {NOW_NS}", f"telemetry,device=d1 a=1 {NOW_NS + 1}")


def test_text_is_json() -> None:
    [_, error] = bench().send_bytes(b"[{")
    assert error["answers"]["code"] == "malformed_json"
    assert orjson.loads(json.dumps(error["answers"]))["seq"] == 1


def test_a_pack_that_is_not_accepted_teaches_no_types() -> None:
    some = bench()
    pack = senml.interpret([{"n": "a", "vs": "x"}])
    assert isinstance(pack, senml.Pack)
    some.encoder.encode(pack, NOW_NS).unlearn()
    (stored,) = some.send([{"n": "a", "v": 1}])
    assert stored["stores"]["lines"]
