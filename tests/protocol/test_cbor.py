from __future__ import annotations

import json
import math
import time
from contextlib import suppress
from itertools import islice
from typing import Any

import cbor2
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import MessageError
from gateway.protocol import cbor
from gateway.protocol.subprotocols import CBOR
from gateway.protocol.value_text import Foreign
from tests.support.collisions import cbor_map, colliding
from tests.support.sessions import Bench

# RFC 8949, appendix A: what the item is, and what the same JSON is.
EXAMPLES: list[tuple[str, Any]] = [
    ("00", 0),
    ("1818", 24),
    ("1b000000e8d4a51000", 10**12),
    ("1bffffffffffffffff", 2**64 - 1),
    ("3bffffffffffffffff", -(2.0**64)),
    ("3903e7", -1000),
    ("f98000", -0.0),
    ("f93e00", 1.5),
    ("fa47c35000", 100000.0),
    ("fb3ff199999999999a", 1.1),
    ("f97c00", Foreign("infinity")),
    ("f97e00", Foreign("NaN")),
    ("f9fc00", Foreign("infinity")),
    ("f4", False),
    ("f6", None),
    ("f7", None),
    ("f0", Foreign("simple value")),
    ("4401020304", Foreign("byte string")),
    ("64f0908591", "\U00010151"),
    ("83010203", [1, 2, 3]),
    ("a26161016162820203", {"a": 1, "b": [2, 3]}),
    ("9fff", []),
    ("9f018202039f0405ffff", [1, [2, 3], [4, 5]]),
    ("bf61610161629f0203ffff", {"a": 1, "b": [2, 3]}),
    ("7f657374726561646d696e67ff", "streaming"),
    ("5f42010243030405ff", Foreign("byte string")),
    ("a1616183f97e00f700", {"a": [Foreign("NaN"), None, 0]}),
]


@pytest.mark.parametrize(("item", "value"), EXAMPLES)
def test_an_item_is_the_value_that_json_would_have(item: str, value: Any) -> None:
    found = cbor.parse(bytes.fromhex(item))
    assert found == value
    assert type(found) is type(value)
    assert math.copysign(1, found) == math.copysign(1, value) if isinstance(value, float) else True


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ("", "premature end"),
        ("0101", "1 bytes behind the item"),
        ("01ff", "1 bytes behind the item"),
        ("ff", "break code"),
        ("1c", "0x1c"),
        ("a10102", "key must be a text string .* not int"),
        ("81a10102", "key must be a text string .* not int"),
        ("a1f6f6", "key must be a text string .* not NoneType"),
        ("a1810102", "key must be a text string .* not tuple"),
        ("a1fb3ff199999999999a02", "key must be a text string .* not float"),
        ("a1a1616101f6", "key must be a text string .* not frozendict"),
        ("bf810102ff", "key must be a text string .* not tuple"),
        ("a2810102", "key must be a text string .* not tuple"),  # before there is another to compare it with
        ("a1a2810102f6", "key must be a text string .* not tuple"),
        ("a1410102", "a key that is no text"),
        ("a2616101616102", "Duplicate map key"),
        ("61ff", "utf-8"),
        ("9bffffffffffffffff", "premature end"),
        ("bbffffffffffffffff", "premature end"),
        ("7bffffffffffffffff", "premature end"),
        ("5b7fffffffffffffff", "premature end"),
        ("81" * cbor.MAX_DEPTH + "8101", "nesting depth"),
        ("a16161" * 20_000, "nesting depth"),
    ],
)
def test_an_invalid_item_is_refused_with_the_reason(item: str, why: str) -> None:
    with pytest.raises(MessageError, match=why) as refused:
        cbor.parse(bytes.fromhex(item))
    assert refused.value.code == "malformed_cbor"
    assert len(refused.value.message) < 150


def test_keys_that_are_hashed_alike_cost_no_more_than_others() -> None:
    def cost(item: bytes) -> float:
        begun = time.process_time()
        with suppress(MessageError):
            cbor.parse(item)
        return time.process_time() - begun

    for number in (1_000, 4_000):
        alike = list(islice(colliding(), number))
        assert len({hash(key) for key in alike}) == 1, "the attack is one"
        others = cbor_map([f"{key:013}" for key in range(number)])
        for item in (cbor_map(alike), b"\xa1" + cbor_map(alike) + b"\x01"):
            assert min(cost(item) for _ in range(3)) < 5 * min(cost(others) for _ in range(3))


def test_as_deep_as_is_allowed_is_read() -> None:
    assert cbor.parse(b"\x81" * (cbor.MAX_DEPTH - 1) + b"\x80")


def tag(number: int) -> bytes:
    return cbor2.dumps(cbor2.CBORTag(number, None))[:-1]


CONTENTS = [bytes.fromhex(item) for item in ("01", "4101", "6161", "80", "820102", "a0")]


@pytest.mark.parametrize("content", CONTENTS)
def test_every_tag_is_refused_also_those_that_the_library_knows(content: bytes) -> None:
    followed = []
    for number in [*range(2048), 43000, 55799, 2**32, 2**64 - 1]:
        try:
            cbor.parse(b"\x81" + tag(number) + content)
            followed.append(number)
        except MessageError as error:
            if "tags are not understood" not in error.message:
                followed.append(number)
    assert followed == []


def test_a_value_that_json_does_not_know_refuses_its_reading_only() -> None:
    bench = Bench(subprotocol=CBOR).ready()
    readings: list[Any] = [
        {"a": math.nan},
        {"a": 1},
        {"a": b"x"},
        {"a": cbor2.undefined, "b": 2},
        {"ts": math.inf, "a": 1},
    ]
    stored, rejected = bench.send({"seq": 1, "readings": readings})
    assert stored["stores"]["rejected"] == 3
    assert [(error["index"], error["code"], error["message"]) for error in rejected["answers"]["errors"]] == [
        (0, "wrong_type", "expected a number, bool or string, got NaN"),
        (2, "wrong_type", "expected float, got byte string"),
        (4, "bad_timestamp", "expected a number or an RFC 3339 string, got infinity"),
    ]


@pytest.mark.parametrize("strange", [math.nan, b"x", cbor2.CBORSimpleValue(16)])
def test_a_value_that_json_does_not_know_is_refused_wherever_it_stands(strange: Any) -> None:
    messages: list[dict[str, Any]] = [
        {"type": "hello", "info": {"fw": strange}},
        {"type": "hello", "boot": strange},
        {"type": "hello", "ack": strange},
        {"type": strange},
        {"seq": strange, "a": 1},
        {"readings": strange},
        {"columns": strange, "t0": 1, "dt": 1},
        {"columns": {"x": [1]}, "t0": strange, "dt": 1},
        {"columns": {"x": [1, strange]}, "t0": 1, "dt": 1},
        {"columns": {"x": [1, 2]}, "t0": 1, "dt": strange},
        {"columns": {"x": [1, 2]}, "t0": 1, "dt": [0, strange]},
        {"values": strange},
        {"values": {"a": {"b": strange}}},
        {"m": strange, "values": {"a": 1}},
        {"tags": strange, "values": {"a": 1}},
        {"tags": {"line": strange}, "values": {"a": 1}},
        {"age_ms": strange, "values": {"a": 1}},
        {"seq": 9, "ts": 1_700_000_000_123, "values": {"a": strange}},
    ]
    for message in messages:
        bench = Bench(subprotocol=CBOR, profile={"allowed_tags": ["line"]}).ready()
        assert len(bench.send({"seq": 1, "ts": 1_700_000_000_000, "values": {"a": 1}})) == 1
        answers = [effect["answers"] for effect in bench.send(message) if "answers" in effect]
        assert [answer["type"] for answer in answers] in (["error"], ["reject"]), message


KEYS = st.sampled_from(
    ["seq", "ts", "m", "tags", "type", "age_ms", "values", "readings", "columns", "t0", "dt", "token", "boot", "ack"]
)
NAMES = st.sampled_from(["a", "b", "x", "line", "time", "_x", ""]) | st.text(max_size=4)
NUMBERS = (
    st.integers(-(2**64), 2**64 - 1)
    | st.integers(0, 9)
    | st.sampled_from([1_700_000_000, 1_700_000_000_123, 1.7e18])
    | st.floats(allow_nan=False, allow_infinity=False)
)
SCALARS = st.one_of(NUMBERS, st.booleans(), st.none(), st.text(max_size=8), st.sampled_from(["hello", "stored", "b2"]))
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | NAMES, inner, max_size=5), max_leaves=12
)
READINGS = st.dictionaries(NAMES, SCALARS, max_size=4)
MESSAGES = st.one_of(
    VALUES,
    READINGS,
    st.fixed_dictionaries({"seq": st.integers(0, 9), "ts": NUMBERS, "values": READINGS}),
    st.fixed_dictionaries({"readings": st.lists(READINGS, max_size=3)}, optional={"seq": st.integers(0, 9)}),
    st.fixed_dictionaries(
        {"t0": NUMBERS, "dt": NUMBERS, "columns": st.dictionaries(NAMES, st.lists(SCALARS, min_size=2, max_size=2))}
    ),
    st.fixed_dictionaries({"type": st.just("hello")}, optional={"boot": SCALARS, "info": READINGS, "ack": SCALARS}),
)


@settings(max_examples=120)
@given(st.lists(st.tuples(MESSAGES, st.sampled_from(["none", "commit", "fail"])), max_size=6))
def test_a_message_means_the_same_as_json_and_as_cbor(script: list[tuple[Any, str]]) -> None:
    profile = {"allowed_tags": ["line"]}
    text, binary = Bench(profile=profile).ready(), Bench(profile=profile, subprotocol=CBOR).ready()
    for message, then in script:
        said = text.send_bytes(json.dumps(message).encode())
        assert binary.send_bytes(cbor2.dumps(message)) == said
        if then == "commit":
            assert text.commit() == binary.commit()
        elif then == "fail":
            assert text.commit_fails() == binary.commit_fails()
    assert text.queue == binary.queue
    assert text.ledger.account("d1") == binary.ledger.account("d1")
    assert text.session.info == binary.session.info


def test_answers_are_the_same_in_cbor() -> None:
    text, binary = Bench(), Bench(subprotocol=CBOR)
    for bench in (text, binary):
        bench.hear = [*bench.good(), *bench.send({"seq": 1, "a": [1]}), *bench.commit()]  # type: ignore[attr-defined]
    assert binary.hear == text.hear  # type: ignore[attr-defined]
    assert cbor2.loads(CBOR.answers.ack(7).data) == orjson.loads(b'{"type":"ack","seq":7}')


def test_a_text_message_is_refused_in_a_binary_subprotocol() -> None:
    assert Bench(subprotocol=CBOR).ready().run(Bench(subprotocol=CBOR).session.receive_other()) == [{"closes": 1003}]
    [close] = Bench(subprotocol=CBOR).session.receive_other()
    assert close.reason == "only binary messages are understood"  # type: ignore[union-attr]
