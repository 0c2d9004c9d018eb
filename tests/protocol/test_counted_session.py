from __future__ import annotations

from typing import Any

import pytest

from gateway.ledger import Ledger, Sequence
from gateway.protocol.counted_session import CountedSession
from gateway.protocol.messages import Code
from gateway.protocol.subprotocols import SENML
from tests.support.sessions import Bench, terms

PACK = [{"n": "a", "v": 1}]


def bench(ledger: Ledger | None = None, **changed: int) -> Bench:
    made = Bench(ledger=ledger, subprotocol=SENML)
    made.session = CountedSession("d1", "s1", terms(**changed), SENML)
    return made


def seqs(effects: list[Any]) -> list[int | None]:
    return [effect["stores"]["seq"] for effect in effects if "stores" in effect]


def test_the_acks_count_packs_refused_ones_too() -> None:
    made = bench()
    [welcome] = made.good()
    assert welcome["answers"]["last_seq"] is None
    assert seqs(made.send(PACK)) == [1]
    assert seqs(made.send([])) == [2]
    assert seqs(made.send_bytes(b"[{")) == [3]
    assert seqs(made.send([{"x_": 1}])) == [4]
    assert seqs(made.send_bytes(b" \n[]")) == [5]
    assert made.commit() == [{"answers": {"type": "ack", "seq": 5}}]


@pytest.mark.parametrize(
    "said",
    [
        b'{"type":"hello"}',
        b'{"type":"hello","seq":50}',
        b'{"type":"hello","seq":50,"ack":0}',
        b' {"type":"time"}',
        b'{"type":"time","seq":50,"t0":1}',
        b'{"type":"result","seq":50,"id":"c1","ok":true}',
        b'{"type":"result","seq":50}',
        b'{"type":"reported","seq":50,"settings":{}}',
        b'{"type":"readings","seq":50}',
        b'{"type":"readings","seq":1,"readings":[]}',
        b'{"type":"settings","seq":50}',
        b'{"seq":50,"values":{"a":1}}',
        b'{"type":null,"seq":50,"readings":[{"a":1}]}',
        b'\n{"seq":50,"columns":{"a":[1]},"t0":1,"dt":1}',
        b'{"type":',
        b"{}",
    ],
)
def test_objects_are_not_counted(said: bytes) -> None:
    made = bench()
    made.good()
    made.send(PACK)
    effects = made.send_bytes(said)
    assert seqs(effects) == []
    assert all("seq" not in effect.get("answers", {}) for effect in effects)
    [entry] = made.send(PACK)
    assert (entry["stores"]["seq"], len(entry["stores"]["lines"]), entry["stores"].get("gaps", 0)) == (2, 1, 0)
    assert made.commit() == [{"answers": {"type": "ack", "seq": 2}}]


def test_a_boot_goes_on_after_its_last_ack_and_accepts_no_pack_twice() -> None:
    ledger = Ledger()
    ledger.account("d1").boots["b7"] = Sequence(7, 5, 5)  # 6 and 7 came over another connection and are under way
    made = bench(ledger)
    made.good()
    [welcome] = made.send({"type": "hello", "boot": "b7"})
    assert welcome["answers"]["last_seq"] == 5
    effects = [made.send(PACK)[0]["stores"] for _ in range(3)]
    assert [(entry["seq"], entry.get("duplicate", 0)) for entry in effects] == [(6, 1), (7, 1), (8, 0)]
    made.send({"type": "hello", "boot": "b7", "ack": "stored"})
    assert seqs(made.send(PACK)) == [9]
    made.send({"type": "hello", "boot": "b8"})
    assert seqs(made.send(PACK)) == [1]


def test_a_throttle_is_a_close_and_the_pack_comes_again_on_the_next_connection() -> None:
    made = bench()
    made.good()
    made.send(PACK)
    assert made.send(PACK, room=False) == [{"closes": 1013}]
    assert made.send(PACK) == []
    busy = bench(max_unacked=2)
    busy.good()
    assert [busy.send(PACK)[0].keys() for _ in range(3)] == [{"stores"}, {"stores"}, {"closes"}]
    late = bench(max_unacked=1)
    late.good()
    late.send(PACK)
    assert late.send_bytes(b"[") == [{"closes": 1013}]


def test_a_commit_that_fails_closes() -> None:
    made = bench()
    made.good()
    made.send(PACK)
    assert made.commit_fails() == [{"closes": 1013}]
    assert made.commit_fails() == []


def test_a_device_that_wants_no_acks_is_told_what_is_lost_and_not_closed() -> None:
    made = bench()
    made.good()
    made.send({"type": "hello", "ack": "none"})
    _, rejected = made.send(PACK, room=False)
    assert rejected["answers"]["errors"][0]["code"] == "spool_full"
    made.send(PACK)
    [lost] = made.commit_fails()
    assert lost["answers"]["code"] == "spool_full"
    assert made.session.open


def test_a_slow_disk_sends_nothing() -> None:
    made = bench()
    made.good()
    made.send(PACK)
    assert made.session.kept_waiting() == ()


def test_a_refused_result_is_not_counted_although_a_pack_came_since() -> None:
    made = bench()
    made.good()
    assert made.send({"type": "result", "id": "c1", "ok": True}) == [
        {"result": {"id": "c1", "ok": True, "value": None}}
    ]
    made.send(PACK)
    (refusal,) = made.run(made.session.refuse(Code.UNKNOWN_COMMAND, "in words", made.now_ns))
    assert refusal["answers"].keys() == {"type", "code", "message"}
    assert seqs(made.send(PACK)) == [2]
