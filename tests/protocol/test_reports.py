"""What goes down and comes back, in the other subprotocol: what JSON does not know cannot be kept."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.protocol.subprotocols import CBOR
from tests.support.sessions import Bench


def test_commands_and_settings_go_down_as_cbor_and_come_back() -> None:
    bench = Bench(subprotocol=CBOR).ready()
    (command,) = bench.run(bench.session.command("c1", "blink", b'{"a":[1,2.5]}', 5))
    expected = {"type": "command", "id": "c1", "name": "blink", "params": {"a": [1, 2.5]}, "expires_in_ms": 5}
    assert command == {"answers": expected}
    (settings,) = bench.run(bench.session.settings(3, b'{"a":true}'))
    assert settings == {"answers": {"type": "settings", "version": 3, "settings": {"a": True}}}
    (result,) = bench.send({"type": "result", "id": "c1", "ok": True, "value": {"x": 1}})
    assert result == {"result": {"id": "c1", "ok": True, "value": {"x": 1}}}


@pytest.mark.parametrize(
    "message",
    [
        {"type": "result", "id": "c1", "ok": True, "value": b"raw"},
        {"type": "result", "id": "c1", "ok": True, "value": [float("nan")]},
        {"type": "reported", "settings": {"x": {"y": float("inf")}}},
    ],
)
def test_what_json_does_not_know_is_refused(message: dict[str, Any]) -> None:
    (answer,) = Bench(subprotocol=CBOR).ready().send(message)
    assert answer["answers"]["code"] == "bad_message"
    assert "JSON knows no" in answer["answers"]["message"]
