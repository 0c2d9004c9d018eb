"""What only the socket of a real gateway can get wrong between a hello and the accounts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from websockets.sync.client import connect

from tests.support.device import answer
from tests.support.gateway import running_gateway

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
