"""A token that ends takes the live connection along, whoever ended it; one that does not leaves it in peace."""

from __future__ import annotations

import json
import sqlite3
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from gateway.process.periodic import INTERVAL
from gateway.state.registry import Registry
from tests.support.device import answer
from tests.support.gateway import RunningGateway, running_gateway, wait_for
from tests.support.simulator import simulate
from tests.support.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


def told_to_go(socket: ClientConnection) -> None:
    with pytest.raises(ConnectionClosed, match="1008"):
        socket.recv(timeout=20)


def test_the_gateway_looks_for_revocations_twice_a_second() -> None:
    """So a connection ends within a second. The tests below do not measure it: a busy machine may take longer."""
    assert INTERVAL == 0.5


@pytest.mark.parametrize("what", ["revoke", "rotate"])
def test_another_process_ends_a_live_connection(gateway: RunningGateway, what: str) -> None:
    token = register(gateway, f"cli-{what}")
    with dial(gateway, f"cli-{what}", token) as socket:
        assert answer(socket)["type"] == "welcome"
        assert gateway.cli("devices", what, f"cli-{what}").returncode == 0
        told_to_go(socket)
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
        told_to_go(socket)
    again = admin.change("POST", "/v1/devices/api/token").body["token"]
    with dial(gateway, "api", again) as socket:
        assert answer(socket)["type"] == "welcome"


def test_a_request_that_was_begun_before_ends_with_it(gateway: RunningGateway) -> None:
    token = register(gateway, "slow")
    head = "POST /v1/devices/slow/readings HTTP/1.1", "Host: x", f"Authorization: Bearer {token}", "Content-Length: 7"
    with gateway.dial() as sender:
        sender.sendall("\r\n".join((*head, "", '{"a"')).encode())
        assert gateway.cli("devices", "revoke", "slow").returncode == 0
        wait_for(lambda: gateway.request("/v1/devices/slow/readings", body=b"{}", token=token)[0] == 401, "the end")
        sender.sendall(b":1}")
        assert sender.recv(4096).startswith(b"HTTP/1.1 401 ")


def test_with_an_overlap_a_device_stays_until_it_has_come_with_its_new_token(gateway: RunningGateway) -> None:
    old = register(gateway, "overlap")
    with dial(gateway, "overlap", old) as socket:
        answer(socket)
        new = gateway.cli("devices", "rotate", "overlap", "--overlap", "1h").stdout.strip()
        assert "old_token_until" in gateway.cli("devices", "show", "overlap").stdout
        wait_for(lambda: gateway.request("/v1/devices/overlap/readings", body=b'{"a":1}', token=new)[0] == 200, "it")
        told_to_go(socket)
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
        told_to_go(socket)
    refused = admin.change("POST", "/v1/devices/timed/token", {"overlap_ms": -1})
    assert (refused.status, refused.code) == (400, "bad_request")


def test_a_simulated_device_outlives_a_rotation_and_ends_with_a_revocation(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    (tmp_path / "tokens.csv").write_text(f"simulated,{register(gateway, 'simulated')}\n")
    (tmp_path / "radio.yaml").write_text(
        "groups: [{name: a, kind: climate, count: 1, faults: {disconnect_every: 100ms}}]"
    )
    arguments = ("--tokens", str(tmp_path / "tokens.csv"), "--scenario", str(tmp_path / "radio.yaml"))

    admin = Visitor(gateway.url)
    admin.login(ADMIN)

    def accepted() -> float:
        return gateway.metric('gateway_connections_total{result="accepted"}')

    with simulate(tmp_path, "run", "--url", gateway.ws, "--interval", "50ms", *arguments) as run:
        wait_for(lambda: gateway.request("/v1/devices/simulated")[1].get("connected"), "the device")
        assert admin.change("POST", "/v1/devices/simulated/token", {"overlap_ms": 3_600_000}).status == 200
        before = accepted()
        wait_for(lambda: accepted() > before + 1, "it to come back with its old token")
        assert admin.change("DELETE", "/v1/devices/simulated").status == 200
        output, _ = run.process.communicate(timeout=20)
    assert run.process.returncode == 1
    assert "credentials" in output


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """The file at ``path``, of a gateway that runs, taken for writing by somebody else."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield


def test_a_locked_file_of_enrolments_holds_no_revocation_up(tmp_path: Path) -> None:
    """The second revocation comes after the gateway has begun to wait for the file, and before it gives up."""
    state = tmp_path / "state"
    with running_gateway(tmp_path, {"auth": {"mode": "token", "enrol": "approve"}}) as gateway, ExitStack() as held:
        tokens = {name: register(gateway, name) for name in ("first", "second")}
        sockets = {name: held.enter_context(dial(gateway, name, token)) for name, token in tokens.items()}
        assert {answer(socket)["type"] for socket in sockets.values()} == {"welcome"}
        held.enter_context(locked(state / "enrolments.db"))
        new = held.enter_context(connect(f"{gateway.ws}/v1/devices/new/stream", compression=None))
        new.send(json.dumps({"type": "hello", "claim": "ABCD-EFGH"}))
        assert answer(new)["claim"] == "ABCD-EFGH"
        registry = Registry(state / "registry.db")
        for name, socket in sockets.items():
            registry.revoke(name)
            told_to_go(socket)
        registry.close()
        assert "database is locked" not in gateway.log
