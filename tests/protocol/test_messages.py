from __future__ import annotations

import tracemalloc
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger import NO_SEQ
from gateway.protocol.messages import (
    VERDICT_BYTES,
    Ack,
    Answers,
    Block,
    CloseCode,
    Code,
    JsonAnswers,
    Readings,
    verdicts,
)

ANSWERS = JsonAnswers()


def test_answers_are_the_json_of_the_protocol() -> None:
    assert ANSWERS.ack(118).data == b'{"type":"ack","seq":118}'
    fault = {"index": 3, "field": "temp", "code": Code.WRONG_TYPE, "message": "expected float, got string"}
    assert ANSWERS.reject(118, [fault]).data == (
        b'{"type":"reject","seq":118,"errors":'
        b'[{"index":3,"field":"temp","code":"wrong_type","message":"expected float, got string"}]}'
    )
    assert ANSWERS.reject(NO_SEQ, [fault]).data.startswith(b'{"type":"reject","errors":')
    assert ANSWERS.error(NO_SEQ, Code.MALFORMED_JSON, "x").data == (
        b'{"type":"error","code":"malformed_json","message":"x"}'
    )
    assert ANSWERS.error(0, "bad_message", "x").data == b'{"type":"error","seq":0,"code":"bad_message","message":"x"}'
    assert ANSWERS.throttle("max_unacked", 100, 7, allowed=1, observed=2).data == (
        b'{"type":"throttle","limit":"max_unacked","allowed":1,"observed":2,"retry_after_ms":100,"from_seq":7}'
    )
    assert ANSWERS.welcome(ack=Ack.STORED, last_seq=None).data == b'{"type":"welcome","ack":"stored","last_seq":null}'


def test_the_quick_ack_is_the_ack() -> None:
    assert ANSWERS.ack(7).data == Answers(orjson.dumps).ack(7).data


@given(st.lists(st.fixed_dictionaries({"index": st.integers(0, 9), "message": st.text(max_size=300)}), max_size=40))
def test_verdicts_are_whole_json_within_their_size(errors: list[dict[str, Any]]) -> None:
    text = verdicts(errors)
    assert len(text) <= VERDICT_BYTES
    kept = orjson.loads(text) if text else []
    assert kept == errors[: len(kept)]
    if len(orjson.dumps(errors)) <= VERDICT_BYTES:
        assert kept == errors


def test_verdicts_that_wait_for_a_disk_hold_no_more_than_their_text() -> None:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = [verdicts([{"code": "wrong_type"}]) for _ in range(200)]
        taken = (tracemalloc.get_traced_memory()[0] - before) / len(kept)
    finally:
        tracemalloc.stop()
    assert taken < 200


def test_no_verdicts_are_no_bytes() -> None:
    assert verdicts([]) == b""
    assert verdicts([{"message": "x" * 5000}]) == b""


def test_how_many_readings_a_message_holds() -> None:
    assert Readings(NO_SEQ, [{}, {}]).count == 2
    assert Block(NO_SEQ, (), t0=0, age_ms=None, dt=1, columns={"x": [1, 2, 3]}, samples=3).count == 3


@pytest.mark.parametrize("code", CloseCode)
def test_close_codes_may_be_sent(code: CloseCode) -> None:
    """RFC 6455 section 7.4: 1005, 1006 and 1015 never are; 4000 to 4999 are for applications."""
    assert code in {1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013} or 4400 <= code < 4500
