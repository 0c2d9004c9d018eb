from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import MessageError
from gateway.ledger import NO_SEQ
from gateway.protocol.codec import MAX_INFO, MAX_READINGS, MAX_TOKEN, decode
from gateway.protocol.messages import MAX_SEQ, Ack, Block, Hello, Readings


def text(value: Any) -> bytes:
    return json.dumps(value).encode()


def refused(data: bytes) -> MessageError:
    with pytest.raises(MessageError) as caught:
        decode(data)
    assert caught.value.message
    return caught.value


def test_one_reading_keeps_all_its_keys() -> None:
    assert decode(b'{"seq":118,"ts":1,"values":{"a":1}}') == Readings(118, ({"seq": 118, "ts": 1, "values": {"a": 1}},))
    assert decode(b'{"a":1}') == Readings(NO_SEQ, ({"a": 1},))


def test_several() -> None:
    assert decode(b'[{"a":1},5]') == Readings(NO_SEQ, [{"a": 1}, 5])
    message = {"seq": 1, "readings": [{"a": 1}], "m": "x", "tags": {"t": "u"}, "other": 1}
    assert decode(text(message)) == Readings(1, [{"a": 1}], "x", {"t": "u"})


def test_a_block() -> None:
    message = {"seq": 1, "m": "x", "t0": 5, "dt": [0, 1], "columns": {"a": [1, 2], "b": [3, None]}}
    columns = message["columns"]
    assert decode(text(message)) == Block(1, (), "x", None, t0=5, age_ms=None, dt=[0, 1], columns=columns, samples=2)


@pytest.mark.parametrize(
    ("hello", "message"),
    [
        ({"secret": "x" * 21}, "secret: expected a string of 22 to 128 characters, got one of 21"),
        ({"token": ""}, "token: expected a string of 1 to 512 characters, got one of 0"),
        ({"token": 7}, "token: expected a string of 1 to 512 characters, got number"),
    ],
)
def test_the_error_of_a_hello_quotes_no_secret(hello: dict[str, Any], message: str) -> None:
    error = refused(text({"type": "hello", **hello}))
    assert (error.message, error.expected) == (message, message.partition(", got")[0])


def test_a_hello() -> None:
    message = {"type": "hello", "token": "t", "boot": "b", "ack": "none", "info": {"model": "x"}, "seq": 5}
    assert decode(text(message)) == Hello("t", "b", Ack.NONE, {"model": "x"})
    assert decode(b'{"type":"hello"}') == Hello(None, None, None, None)
    assert decode(b'{"type":"hello","boot":12345678901234567890}') == Hello(None, "12345678901234567890", None, None)


@pytest.mark.parametrize("seq", [0, 1, MAX_SEQ])
def test_sequence_numbers(seq: int) -> None:
    message = decode(text({"seq": seq, "a": 1}))
    assert isinstance(message, Readings)
    assert message.seq == seq


@pytest.mark.parametrize("seq", [-1, MAX_SEQ + 1, 2**70, 1.0, 0.5, "1", True, [], {}])
def test_a_bad_sequence_number_is_not_in_the_error_as_seq(seq: Any) -> None:
    for message in ({"seq": seq, "a": 1}, {"seq": seq, "readings": 5}, {"seq": seq, "type": "what"}):
        assert refused(text(message)).seq is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"nul",
        b"{'a':1}",
        b'{"a":1e999}',
        b'{"a":NaN}',
        b'"\\ud800"',
        b"\xef\xbb\xbf{}",
        b"[" * 2000,
        b"\x00",
    ],
)
def test_malformed_json(data: bytes) -> None:
    assert refused(data).code == "malformed_json"


@pytest.mark.parametrize("data", [b'"\xff"', b'{"a":"\xed\xa0\x80"}', b"\xc3", b'{"a":"\xe9"}', b'"\xc0\xaf"'])
def test_not_utf8(data: bytes) -> None:
    error = refused(data)
    assert error.code == "not_utf8"
    assert "byte" in error.message


def test_malformed_json_says_where() -> None:
    assert "column 6" in refused(b'{"a":}').message


def test_too_many_readings_are_counted_as_refused() -> None:
    assert decode(text([{}] * MAX_READINGS))
    for message in ([{}] * (MAX_READINGS + 1), {"seq": 1, "readings": [{}] * (MAX_READINGS + 1)}):
        error = refused(text(message))
        assert (error.code, error.readings) == ("bad_message", MAX_READINGS + 1)
    column = [1] * (MAX_READINGS + 1)
    error = refused(text({"seq": 2, "t0": 0, "dt": 1, "columns": {"a": column, "b": column}}))
    assert (error.code, error.seq, error.readings) == ("bad_message", 2, MAX_READINGS + 1)


@pytest.mark.parametrize(
    ("hello", "ok"),
    [
        ({"token": "x" * MAX_TOKEN}, True),
        ({"token": "x" * (MAX_TOKEN + 1)}, False),
        ({"boot": "x" * 64}, True),
        ({"boot": "x" * 65}, False),
        ({"boot": "\x7f"}, False),
        ({"boot": "boot 1, ü"}, True),
        ({"boot": -1}, True),
        ({"info": {}}, True),
        ({"info": {str(n): n for n in range(MAX_INFO)}}, True),
        ({"info": {str(n): n for n in range(MAX_INFO + 1)}}, False),
        ({"info": {"a": "x" * 256, "b": None, "c": True}}, True),
        ({"info": {"a": "x" * 257}}, False),
        ({"info": {"x" * 65: 1}}, False),
        ({"info": "esp32"}, False),
        ({"ack": "DURABLE"}, False),
        ({"ack": 1}, False),
        ({"ack": {}}, False),
    ],
)
def test_what_a_hello_may_say(hello: dict[str, Any], ok: bool) -> None:
    data = text({"type": "hello", **hello})
    if ok:
        assert isinstance(decode(data), Hello)
    else:
        error = refused(data)
        assert error.code == "bad_message"
        assert error.message.startswith(f"{next(iter(hello))}: expected ")


JSON: Any = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=4)),
)
KEYS = st.sampled_from(
    ["type", "seq", "readings", "columns", "values", "t0", "dt", "age_ms", "m", "boot", "token", "ack", "info"]
)


def kind(data: bytes) -> str:
    """The class of the message, or the code of the refusal."""
    try:
        return type(decode(data)).__name__
    except MessageError as error:
        return error.code


@given(st.dictionaries(KEYS, st.one_of(JSON, st.just("hello"), st.just({"a": [1]}), st.just([1]), st.integers(0, 3))))
def test_any_object_is_a_message_or_a_message_error(value: dict[str, Any]) -> None:
    found = kind(json.dumps(value).encode())
    assert found in {"Hello", "Readings", "Block", "bad_message", "unknown_type", "malformed_json"}


@given(st.binary(max_size=40))
def test_any_bytes_are_a_message_or_a_message_error(data: bytes) -> None:
    assert kind(data) in {"Readings", "malformed_json", "not_utf8", "bad_message"}
