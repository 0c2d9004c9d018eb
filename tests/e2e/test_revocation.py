"""A token that ends takes the live connection along, whoever ended it; one that does not leaves it in peace."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.support.device import answer
from tests.support.gateway import RunningGateway, running_gateway, wait_for
from tests.support.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Iterator

ADMIN = "admin-token-for-tests-0123456789"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), {"auth": {"mode": "token"}}) as running:
        yield running


def register(gateway: RunningGateway, device: str) -> str:
    status, answered = gateway.request("/v1/devices", body=json.dumps({"id": device}).encode(), token=ADMIN)
    assert status == 201
    return str(answered["token"])


def dial(gateway: RunningGateway, device: str, token: str) -> ClientConnection:
    header = {"Authorization": f"Bearer {token}"}
    return connect(f"{gateway.ws}/v1/devices/{device}/stream", additional_headers=header, compression=None)


def told_to_go(socket: ClientConnection, who: str) -> None:
    begun = time.monotonic()
    with pytest.raises(ConnectionClosed, match="1008"):
        socket.recv(timeout=10)
    print(f"closed {time.monotonic() - begun:.2f} s after {who}")


@pytest.mark.parametrize("what", ["revoke", "rotate"])
def test_another_process_ends_a_live_connection(gateway: RunningGateway, what: str) -> None:
    token = register(gateway, f"cli-{what}")
    with dial(gateway, f"cli-{what}", token) as socket:
        assert answer(socket)["type"] == "welcome"
        assert gateway.cli("devices", what, f"cli-{what}").returncode == 0
        told_to_go(socket, f"gateway devices {what}")
    with pytest.raises(InvalidStatus, match="401"):
        dial(gateway, f"cli-{what}", token)
    assert f"device cli-{what}: what it was let in with has ended" in gateway.log


def test_an_administrator_ends_a_live_connection_and_gives_access_back(gateway: RunningGateway) -> None:
    admin = Visitor(gateway.url)
    admin.login(ADMIN)
    token = register(gateway, "api")
    with dial(gateway, "api", token) as socket:
        answer(socket)
        assert admin.change("DELETE", "/v1/devices/api").status == 200
        told_to_go(socket, "DELETE")
    again = admin.change("POST", "/v1/devices/api/token").body["token"]
    with dial(gateway, "api", again) as socket:
        assert answer(socket)["type"] == "welcome"


def test_with_an_overlap_a_device_stays_until_it_has_come_with_its_new_token(gateway: RunningGateway) -> None:
    old = register(gateway, "overlap")
    with dial(gateway, "overlap", old) as socket:
        answer(socket)
        new = gateway.cli("devices", "rotate", "overlap", "--overlap", "1h").stdout.strip()
        assert "old_token_until" in gateway.cli("devices", "show", "overlap").stdout
        wait_for(lambda: gateway.request("/v1/devices/overlap/readings", body=b'{"a":1}', token=new)[0] == 200, "it", 5)
        told_to_go(socket, "the first use of the new token")
    assert gateway.request("/v1/devices/overlap/readings", body=b'{"a":1}', token=old)[0] == 401


def test_an_old_token_ends_at_its_time(gateway: RunningGateway) -> None:
    old = register(gateway, "timed")
    admin = Visitor(gateway.url)
    admin.login(ADMIN)
    with dial(gateway, "timed", old) as socket:
        answer(socket)
        assert admin.change("POST", "/v1/devices/timed/token", {"overlap_ms": 1500}).status == 200
        socket.send('{"seq":1,"a":1}')
        assert answer(socket) == {"type": "ack", "seq": 1}
        told_to_go(socket, "an overlap of 1.5 s")
    refused = admin.change("POST", "/v1/devices/timed/token", {"overlap_ms": -1})
    assert (refused.status, refused.code) == (400, "bad_request")
