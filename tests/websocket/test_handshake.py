from __future__ import annotations

import pytest
from tornado.httputil import HTTPHeaders

from gateway.websocket.handshake import lacking, offered_subprotocols, offered_token

GOOD = {
    "Connection": "keep-alive, Upgrade",
    "Upgrade": "WebSocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


def test_a_handshake_lacks_nothing() -> None:
    assert lacking(HTTPHeaders(GOOD)) is None


@pytest.mark.parametrize("name", GOOD)
def test_what_is_missing_is_named(name: str) -> None:
    assert name in str(lacking(HTTPHeaders({key: value for key, value in GOOD.items() if key != name})))


def test_a_credential_among_the_subprotocols_is_none_of_them() -> None:
    headers = HTTPHeaders({"Sec-WebSocket-Protocol": " telemetry.v1.json ,bearer.t0ken, ,bearer.other,x"})
    assert offered_subprotocols(headers) == ["telemetry.v1.json", "x"]
    assert offered_token(headers) == "t0ken"
    assert (offered_subprotocols(HTTPHeaders()), offered_token(HTTPHeaders())) == ([], None)
