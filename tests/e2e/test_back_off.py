"""Who repeats wrong credentials, connects too often or fights over an id is held back, and nobody else."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from gateway.devices.device_view import MAX_TAKEOVERS
from gateway.devices.failed_credentials import FREE_FAILURES
from tests.support.device import answer
from tests.support.gateway import running_gateway, wait_for
from tests.support.simulator import simulate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.gateway import RunningGateway

BURST = 60
HANDSHAKE = (
    "GET /v1/devices/twin/stream HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nAuthorization: Bearer {token}\r\n\r\n"
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """One that asks for tokens and trusts a proxy on this machine."""
    over = {
        "server": {"trusted_proxies": ["127.0.0.1"], "connects_per_second": 1, "connect_burst": BURST},
        "auth": {"mode": "token", "viewer_token": "viewer-token-for-tests-0123456789"},
    }
    with running_gateway(tmp_path_factory.mktemp("gateway"), over) as running:
        yield running


def added(gateway: RunningGateway, device: str) -> str:
    token = gateway.cli("devices", "add", device).stdout.strip()
    wait_for(lambda: tried(gateway, device, token)[0] == 101, f"{device} to be known")
    return token


def tried(gateway: RunningGateway, device: str, token: str, client: str = "192.0.2.7") -> tuple[int, Any]:
    """Status of a handshake through the proxy, and what a refusal says: its headers."""
    headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": client}
    url = f"{gateway.ws}/v1/devices/{device}/stream"
    try:
        with connect(url, compression=None, additional_headers=headers) as socket:
            answer(socket)
            return 101, {}
    except InvalidStatus as refused:
        return refused.response.status_code, refused.response.headers


def test_wrong_credentials_are_told_to_wait_and_right_ones_pass(gateway: RunningGateway) -> None:
    token, other = added(gateway, "one"), added(gateway, "two")
    said = [tried(gateway, "one", "wrong") for _ in range(FREE_FAILURES + 1)]
    assert [status for status, _ in said] == [401] * FREE_FAILURES + [429]
    assert int(said[-1][1]["Retry-After"]) == 1
    assert tried(gateway, "two", other)[0] == 101
    assert tried(gateway, "one", token)[0] == 101, "right credentials pass"
    assert tried(gateway, "one", "wrong")[0] == 401, "and what failed before was a mistake"
    assert tried(gateway, "never-heard-of", "wrong")[0] == 401
    status, _ = gateway.request("/v1/devices/two/readings", body=b"{}", token="wrong")
    assert status == 401


def test_wrong_tokens_in_a_hello_are_told_to_wait_and_the_next_handshake_does(gateway: RunningGateway) -> None:
    token, other = added(gateway, "hello"), added(gateway, "other")

    def say_hello(device: str, token: str, client: str = "192.0.2.8") -> dict[str, Any]:
        url = f"{gateway.ws}/v1/devices/{device}/stream"
        with connect(url, compression=None, additional_headers={"X-Forwarded-For": client}) as socket:
            socket.send(json.dumps({"type": "hello", "token": token}))
            return answer(socket)

    wrong = r"4401.*unknown device or wrong token"
    for _ in range(FREE_FAILURES):
        with pytest.raises(ConnectionClosed, match=f"{wrong}(?!, again)"):
            say_hello("hello", "wrong")
    with pytest.raises(ConnectionClosed, match=f"{wrong}, again and again; wait 1 s"):
        say_hello("hello", "wrong")
    with pytest.raises(InvalidStatus, match="429") as refused:
        say_hello("hello", token)
    assert say_hello("other", other)["type"] == "welcome"
    assert say_hello("hello", token, "192.0.2.18")["type"] == "welcome"
    time.sleep(int(refused.value.response.headers["Retry-After"]))
    with pytest.raises(ConnectionClosed, match="wait 2 s"):
        say_hello("hello", "wrong")
    assert tried(gateway, "hello", token, "192.0.2.8")[0] == 101, "right credentials in the handshake pass"
    assert say_hello("hello", token)["type"] == "welcome", "and end the wait"


def test_an_address_that_connects_too_often_is_told_so_by_its_own(gateway: RunningGateway) -> None:
    token = added(gateway, "often")
    said = [tried(gateway, "often", token, "192.0.2.99")[0] for _ in range(BURST + 5)]
    assert set(said[:BURST]) == {101}
    assert 429 in said[BURST:]
    assert tried(gateway, "often", token, "192.0.2.98")[0] == 101


def test_an_operator_sees_an_id_that_is_fought_over(gateway: RunningGateway) -> None:
    token = added(gateway, "twin")
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{gateway.ws}/v1/devices/twin/stream"
    with contextlib.ExitStack() as sockets:
        for _ in range(MAX_TAKEOVERS + 1):
            last = sockets.enter_context(connect(url, compression=None, additional_headers=headers))
            assert answer(last)["type"] == "welcome"
        late = sockets.enter_context(connect(url, compression=None, additional_headers=headers))
        with pytest.raises(ConnectionClosed) as closed:
            late.recv(timeout=10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013
        last.send(json.dumps({"seq": 1, "v": 1}))
        assert answer(last)["type"] == "ack", "the last one goes on"
        wait_for(lambda: gateway.metric("gateway_connections") == 1, "the others to be gone")
        with gateway.dial() as deaf:
            deaf.sendall(HANDSHAKE.format(token=token).encode())
            said = b""
            while (1013).to_bytes(2, "big") not in said:
                chunk = deaf.recv(4096)
                assert chunk
                said += chunk
            assert gateway.metric("gateway_connections") == 1, "who has to rest takes no place"
    _, device = gateway.request("/v1/devices/twin", token="viewer-token-for-tests-0123456789")
    assert device["flapping"] is True
    assert [problem["code"] for problem in device["problems"]] == ["flapping"]


def test_a_simulated_device_keeps_away_from_an_id_that_is_fought_over(gateway: RunningGateway, tmp_path: Path) -> None:
    token = added(gateway, "fought")
    (tmp_path / "tokens.csv").write_text(f"fought,{token}\n")
    url = f"{gateway.ws}/v1/devices/fought/stream"
    headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": "192.0.2.77"}
    options = (
        "--tokens",
        str(tmp_path / "tokens.csv"),
        "--interval",
        "50ms",
        "--grace",
        "100ms",
    )
    with contextlib.ExitStack() as sockets:
        for _ in range(MAX_TAKEOVERS + 1):
            last = sockets.enter_context(connect(url, compression=None, additional_headers=headers))
            assert answer(last)["type"] == "welcome"
        refused = 'gateway_disconnects_total{reason="busy"}'
        before = gateway.metric(refused)
        with simulate(tmp_path, "run", "--url", gateway.ws, *options) as simulation:
            wait_for(lambda: gateway.metric(refused) > before, "the device to be refused")
            simulation.end_readings()
            simulation.process.communicate(timeout=20)
        assert simulation.process.returncode == 1, "what it has is not safe"
        last.send(json.dumps({"seq": 1, "v": 1}))
        assert answer(last)["type"] == "ack"
    summary = json.loads(simulation.report.read_text())["summary"]
    assert 1 <= summary["closes"]["1013"] <= 3, "it does not connect again and again"
    assert summary["acked"] == 0
