from __future__ import annotations

import pytest
from tornado.httputil import HTTPHeaders

from gateway.websocket.handshake import missing_for_upgrade, offered_subprotocols

GOOD = {
    "Connection": "keep-alive, Upgrade",
    "Upgrade": "WebSocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


def test_a_complete_handshake_has_nothing_missing() -> None:
    assert missing_for_upgrade(HTTPHeaders(GOOD)) is None


@pytest.mark.parametrize("name", GOOD)
def test_what_is_missing_is_named(name: str) -> None:
    assert name in str(missing_for_upgrade(HTTPHeaders({key: value for key, value in GOOD.items() if key != name})))


def test_the_offered_subprotocols_keep_their_order() -> None:
    headers = HTTPHeaders({"Sec-WebSocket-Protocol": " telemetry.v1.json ,bearer.t0ken, ,x"})
    assert offered_subprotocols(headers) == ["telemetry.v1.json", "bearer.t0ken", "x"]
    assert offered_subprotocols(HTTPHeaders()) == []
