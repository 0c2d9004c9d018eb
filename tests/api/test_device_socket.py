"""What only the socket of a real gateway can get wrong between a hello and the accounts."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from websockets.sync.client import connect

from tests.support.device import answer
from tests.support.gateway import running_gateway
from tests.support.visitor import Visitor

if TYPE_CHECKING:
    from pathlib import Path

ADMIN = "admin-token-for-tests-0123456789"


def test_who_comes_back_by_a_hello_with_a_token_hears_what_is_stored(tmp_path: Path) -> None:
    """The first message of a boot takes the long way, those of a boot that is known need not."""
    over = {"auth": {"mode": "token", "admin_token": ADMIN}, "batch": {"max_age": "50ms"}}
    with running_gateway(tmp_path, over) as gateway:
        status, made = gateway.request("/v1/devices", token=ADMIN, body=b'{"id":"back"}')
        assert status == 201
        hello = json.dumps({"type": "hello", "token": made["token"], "boot": "b", "ack": "stored"})
        for seq in (1, 2):
            with connect(f"{gateway.ws}/v1/devices/back/stream") as socket:
                socket.send(hello)
                assert answer(socket)["type"] == "welcome"
                socket.send(json.dumps({"seq": seq, "ts": 1_700_000_000_000 + seq, "values": {"n": seq}}))
                assert answer(socket) == {"type": "ack", "seq": seq}


def test_who_is_let_in_on_the_spot_hears_what_is_stored_of_a_boot_that_is_known(tmp_path: Path) -> None:
    """Between the hello that wants to know and the readings there is no other message that could say so."""
    over = {"auth": {"mode": "token", "admin_token": ADMIN, "enrol": "approve"}, "batch": {"max_age": "50ms"}}
    with running_gateway(tmp_path, over) as gateway:
        admin = Visitor(gateway.url)
        assert admin.login(ADMIN).status == 200
        for last_seq in (None, 1):
            with connect(f"{gateway.ws}/v1/devices/spot/stream") as socket:
                socket.send(json.dumps({"type": "hello", "claim": "ABCD-EFGH", "boot": "b", "ack": "stored"}))
                assert answer(socket)["type"] == "pending"
                body = {"claim": "ABCD-EFGH", "replace": True}
                assert admin.change("POST", "/v1/enrolments/spot/approve", body).status == 200
                assert answer(socket)["type"] == "token"
                welcome, seq = answer(socket), (last_seq or 0) + 1
                assert (welcome["ack"], welcome["last_seq"]) == ("stored", last_seq)
                socket.send(json.dumps({"seq": seq, "ts": 1_700_000_000_000 + seq, "values": {"n": seq}}))
                assert answer(socket) == {"type": "ack", "seq": seq}


def test_who_asks_the_time_before_it_has_its_welcome_is_bounded_by_the_handshake(tmp_path: Path) -> None:
    """The clock is right. Its time was read after the handshake, and long before hello and request arrive."""
    with running_gateway(tmp_path, {"auth": {"mode": "token", "admin_token": ADMIN}}) as gateway:
        status, made = gateway.request("/v1/devices", token=ADMIN, body=b'{"id":"far"}')
        assert status == 201
        with connect(f"{gateway.ws}/v1/devices/far/stream") as socket:
            asked = time.time_ns() / 1e6
            time.sleep(0.2)  # the way
            socket.send(json.dumps({"type": "hello", "token": made["token"], "boot": "b"}))
            socket.send(json.dumps({"type": "time", "t0": asked}))
            assert [answer(socket)["type"] for _ in range(2)] == ["welcome", "time"]
            clock = gateway.request("/v1/devices/far", token=ADMIN)[1]["clock"]
            assert clock["uncertainty_ms"] >= 100
            assert abs(clock["offset_ms"]) <= clock["uncertainty_ms"]
