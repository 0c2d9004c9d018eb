"""A new device, from a hello without a token to its readings in the database: clients of another library, the API, the
command line, which is another process.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from gateway.devices.enrolment_queue import MAX_OF_ADDRESS
from tests.support.device import answer
from tests.support.gateway import RunningGateway, running_gateway, wait_for
from tests.support.simulator import simulate
from tests.support.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ADMIN = "admin-token-for-tests-0123456789"
SECRET = "Vb0gIR1dM0lOCj7vS9vhyQ"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    over = {"auth": {"mode": "token", "enrol": "approve", "timeout": "1s"}, "profiles": {"kiln": {}}}
    with running_gateway(tmp_path_factory.mktemp("gateway"), over) as running:
        yield running


@pytest.fixture
def admin(gateway: RunningGateway) -> Visitor:
    visitor = Visitor(gateway.url)
    assert visitor.login(ADMIN).status == 200
    return visitor


def dial(gateway: RunningGateway, device: str, **more: Any) -> ClientConnection:
    return connect(f"{gateway.ws}/v1/devices/{device}/stream", compression=None, **more)


def ask(socket: ClientConnection, **hello: Any) -> dict[str, Any]:
    socket.send(json.dumps({"type": "hello", **hello}))
    return answer(socket)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def enrolments(admin: Visitor) -> dict[str, dict[str, Any]]:
    return {found["id"]: found for found in admin.send("GET", "/v1/enrolments").body["enrolments"]}


def listed(gateway: RunningGateway) -> dict[str, str]:
    """Claims by device, as the command line has them."""
    found = json.loads(gateway.cli("devices", "list", "--pending", "--json").stdout)
    return {waiting["id"]: waiting["claim"] for waiting in found}


def test_a_third_party_client_gets_its_token_when_somebody_approves(gateway: RunningGateway, admin: Visitor) -> None:
    with dial(gateway, "kiln-7") as socket:
        pending = ask(socket, claim="K7QD-93XA", secret=SECRET, boot="b1", info={"model": "kiln-2"})
        assert (pending["type"], pending["claim"]) == ("pending", "K7QD-93XA")
        assert 890_000 < pending["expires_in_ms"] <= 900_000
        found = enrolments(admin)["kiln-7"]
        assert (found["claim"], found["address"], found["info"]) == ("K7QD-93XA", "127.0.0.1", {"model": "kiln-2"})
        with pytest.raises(TimeoutError):
            socket.recv(timeout=1.5)  # longer than one who says nothing may take
        body = {"claim": "K7QD-93XA", "profile": "kiln", "tags": {"site": "north"}}
        approved = admin.change("POST", "/v1/enrolments/kiln-7/approve", body)
        assert (approved.status, approved.body) == (200, {"id": "kiln-7", "claim": "K7QD-93XA", "approved": True})
        token, welcome = answer(socket), answer(socket)
        assert (token["type"], welcome["type"], welcome["boot"]) == ("token", "welcome", "b1")
        socket.send('{"seq":1,"ts":1700000000000,"values":{"temp":1}}')
        assert answer(socket) == {"type": "ack", "seq": 1}
    with dial(gateway, "kiln-7", additional_headers=bearer(token["token"])) as socket:
        assert answer(socket)["type"] == "welcome"
    assert "kiln-7" not in enrolments(admin)
    with dial(gateway, "kiln-7") as socket:
        assert ask(socket, claim="K7QD-93XA", secret=SECRET)["type"] == "pending"
        assert enrolments(admin)["kiln-7"]["registered"] is True
        with pytest.raises(TimeoutError):
            socket.recv(timeout=1)  # what it was approved for is over
    assert gateway.settled("kiln-7")["stored"] == 1
    device = gateway.device("kiln-7")
    assert (device["profile"], device["tags"]) == ("kiln", {"site": "north"})
    assert token["token"] not in gateway.log
    assert "was approved by an administrator at 127.0.0.1" in gateway.log


def test_the_command_line_approves_in_another_process(gateway: RunningGateway) -> None:
    with dial(gateway, "kiln-8") as socket:
        claim = ask(socket)["claim"]
        assert wait_for(lambda: listed(gateway).get("kiln-8"), "the device to be listed") == claim
        assert claim in gateway.cli("devices", "list", "--pending").stdout
        done = gateway.cli("devices", "approve", "kiln-8", "--claim", claim, "--tag", "site=north")
        assert (done.returncode, done.stdout) == (0, "")
        begun = time.monotonic()
        token = answer(socket)["token"]
        print(f"token after {time.monotonic() - begun:.2f} s")
        assert answer(socket)["type"] == "welcome"
    assert gateway.request("/v1/devices/kiln-8/readings", body=b'{"a":1}', token=token)[0] == 200
    assert f"approved by the command line (uid {os.geteuid()})" in gateway.log


def test_a_refused_device_is_told_and_closed(gateway: RunningGateway, admin: Visitor) -> None:
    for device, refuse in (
        ("no-1", lambda: admin.change("POST", "/v1/enrolments/no-1/refuse", {"claim": "AAAA-AAAA"}).status == 200),
        ("no-2", lambda: gateway.cli("devices", "refuse", "no-2").returncode == 0),
    ):
        with dial(gateway, device) as socket:
            ask(socket, claim="AAAA-AAAA")
            wait_for(refuse, "the refusal to be taken")
            with pytest.raises(ConnectionClosed, match="4401"):
                socket.recv(timeout=10)
    assert gateway.request("/v1/devices/no-1")[0] == 404


def test_a_held_device_can_store_nothing(gateway: RunningGateway) -> None:
    before = gateway.metric("gateway_messages_received_total")
    with dial(gateway, "held") as socket:
        ask(socket)
        socket.send('{"seq":1,"temp":1}')
        with pytest.raises(ConnectionClosed, match="4401"):
            socket.recv(timeout=10)
    assert gateway.request("/v1/devices/held/readings", body=b'{"a":1}', token="none")[0] == 401
    assert gateway.request("/v1/devices/held")[0] == 404
    assert gateway.metric("gateway_messages_received_total") == before


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"claim": "lower-case"}, "claim: expected 6 to 32 of A-Z 0-9, with single hyphens between them$"),
        ({"secret": "too-short"}, "secret: expected a string of 22 to 128 characters$"),
        ({"claim": "AB12-CD34", "info": {"rooms": ["lower-case"]}}, "info: expected names of at most"),
    ],
)
def test_a_hello_that_cannot_be_taken_is_told_what_it_should_be(
    gateway: RunningGateway, wrong: dict[str, Any], words: str
) -> None:
    with dial(gateway, "clumsy") as socket:
        socket.send(json.dumps({"type": "hello", **wrong}))
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4401
        assert re.search(words, closed.value.rcvd.reason)
    assert not re.search("lower-case|too-short", gateway.log)


def test_nothing_tells_an_id_that_is_registered_from_one_that_is_not(gateway: RunningGateway, admin: Visitor) -> None:
    for device in ("known", "gone"):
        assert admin.change("POST", "/v1/devices", {"id": device}).status == 201
    assert admin.change("DELETE", "/v1/devices/gone").status == 200
    answers = []
    for device in ("known", "gone", "unknown"):
        with pytest.raises(InvalidStatus) as refused:
            dial(gateway, device, additional_headers=bearer("wrong")).close()
        with dial(gateway, device) as socket:
            pending = ask(socket, claim="AAAA-AAAA")
            with pytest.raises(TimeoutError):
                socket.recv(timeout=0.1)
        with dial(gateway, device) as socket:
            socket.send('{"type":"hello","token":"wrong"}')
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(timeout=10)
        response = refused.value.response
        answers.append(
            (response.status_code, bytes(response.body or b""), pending["type"], pending["claim"], str(closed.value))
        )
    assert len(set(answers)) == 1


def test_what_cannot_be_approved_is_told(gateway: RunningGateway, admin: Visitor) -> None:
    def approve(device: str, body: Any) -> tuple[int, str]:
        refused = admin.change("POST", f"/v1/enrolments/{device}/approve", body)
        return refused.status, refused.code

    assert approve("nobody", {"claim": "AAAA-AAAA"}) == (404, "unknown_enrolment")
    assert approve("a%20b", {"claim": "AAAA-AAAA"}) == (400, "bad_request")
    assert admin.change("POST", "/v1/enrolments/nobody/refuse").status == 404
    assert admin.change("POST", "/v1/devices", {"id": "mine"}).status == 201
    right = {"claim": "AAAA-AAAA"}
    with dial(gateway, "mine") as one:
        ask(one, claim="AAAA-AAAA", secret=SECRET)
        assert approve("mine", {"claim": "CCCC-CCCC"}) == (404, "unknown_enrolment")
        assert approve("mine", {**right, "profile": "oven"}) == (400, "bad_request")
        assert approve("mine", {**right, "tags": {"device": "x"}}) == (400, "bad_request")
        assert approve("mine", {**right, "tags": {"site": 7}}) == (400, "bad_request")
        assert approve("mine", {"claim": 7}) == (400, "bad_request")
        assert approve("mine", right) == (409, "device_exists")
        assert gateway.cli("devices", "approve", "mine", "--claim", "AAAA-AAAA").returncode == 1
        with dial(gateway, "mine") as two:
            ask(two, claim="BBBB-BBBB")
            refused = admin.change("POST", "/v1/enrolments/mine/refuse")
            assert (refused.status, refused.code) == (409, "enrolment_conflict")
            assert admin.change("POST", "/v1/enrolments/mine/approve", {**right, "replace": True}).status == 200
        assert answer(one)["type"] == "token"


def approve_at_a_terminal(gateway: RunningGateway, device: str, says: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway", "devices", "approve", device, "--config", str(gateway.config)]
    ours, terminal = os.openpty()
    try:
        os.write(ours, says.encode())
        return subprocess.run(command, stdin=terminal, capture_output=True, text=True, timeout=60, check=False)
    finally:
        os.close(ours)
        os.close(terminal)


def test_somebody_at_a_terminal_is_asked_to_compare_and_a_script_gets_the_only_one_that_waits(
    gateway: RunningGateway,
) -> None:
    with dial(gateway, "kiln-5") as socket:
        claim = ask(socket)["claim"]
        wait_for(lambda: "kiln-5" in listed(gateway), "the device to be listed")
        declined = approve_at_a_terminal(gateway, "kiln-5", "n\n")
        assert (declined.returncode, claim in declined.stderr) == (1, True)
        with pytest.raises(TimeoutError):
            socket.recv(timeout=0.1)
        assert approve_at_a_terminal(gateway, "kiln-5", "y\n").returncode == 0
        assert answer(socket)["type"] == "token"
    with dial(gateway, "kiln-6") as socket:
        ask(socket)
        wait_for(lambda: "kiln-6" in listed(gateway), "the device to be listed")
        assert gateway.cli("devices", "approve", "kiln-6").returncode == 0
        assert answer(socket)["type"] == "token"


def test_who_asks_in_the_place_of_the_device_that_was_looked_at_is_not_approved(
    gateway: RunningGateway, admin: Visitor
) -> None:
    """The device leaves while somebody compares its code, and a stranger asks to be it."""
    with dial(gateway, "kiln-4") as genuine:
        seen = ask(genuine)["claim"]
    wait_for(lambda: "kiln-4" not in enrolments(admin), "the device to have left")
    with dial(gateway, "kiln-4") as stranger:
        ask(stranger)
        for body in ({}, {"profile": "kiln"}):
            refused = admin.change("POST", "/v1/enrolments/kiln-4/approve", body)
            assert (refused.status, refused.code) == (400, "bad_request")
            assert "claim is missing" in refused.body["error"]["message"]
        refused = admin.change("POST", "/v1/enrolments/kiln-4/approve", {"claim": seen})
        assert (refused.status, refused.code) == (404, "unknown_enrolment")
        assert gateway.cli("devices", "approve", "kiln-4", "--claim", seen).returncode == 1
        with pytest.raises(TimeoutError):
            stranger.recv(timeout=0.1)
    assert gateway.request("/v1/devices/kiln-4")[0] == 404


def test_only_administrators_see_and_decide(gateway: RunningGateway) -> None:
    for method, path in (("GET", ""), ("POST", "/x/approve"), ("POST", "/x/refuse")):
        assert Visitor(gateway.url).send(method, f"/v1/enrolments{path}", b"{}").status == 403


def test_a_flood_from_one_address_leaves_room_for_others(gateway: RunningGateway) -> None:
    with contextlib.ExitStack() as open_sockets:
        answers = []
        for n in range(MAX_OF_ADDRESS + 5):
            socket = open_sockets.enter_context(dial(gateway, f"flood-{n}", source_address=("127.0.0.9", 0)))
            socket.send('{"type":"hello"}')
            try:
                answers.append(answer(socket)["type"])
            except ConnectionClosed as closed:
                answers.append(str(closed.rcvd and closed.rcvd.code))
        assert answers == ["pending"] * MAX_OF_ADDRESS + ["1013"] * 5
        with dial(gateway, "genuine", source_address=("127.0.0.10", 0)) as genuine:
            assert ask(genuine)["type"] == "pending"
    wait_for(lambda: gateway.metric("gateway_enrolments_open") < MAX_OF_ADDRESS, "those who left to be forgotten")


def test_a_device_goes_on_after_a_restart_of_the_gateway(tmp_path_factory: pytest.TempPathFactory) -> None:
    over = {"auth": {"mode": "token", "enrol": "approve"}}
    directory = tmp_path_factory.mktemp("restart")
    with running_gateway(directory, over) as gateway:
        with dial(gateway, "kiln-9") as socket:
            claim = ask(socket, secret=SECRET)["claim"]
            assert gateway.stop() == 0
            with pytest.raises(ConnectionClosed, match="1012"):
                socket.recv(timeout=10)
            assert "stopping: 0 devices connected" in gateway.log, "who waits is none yet"
        assert gateway.cli("devices", "approve", "kiln-9", "--claim", claim).returncode == 0
    with running_gateway(directory, over) as gateway, dial(gateway, "kiln-9") as socket:
        assert ask(socket, secret=SECRET)["claim"] == claim
        assert [answer(socket)["type"] for _ in range(2)] == ["token", "welcome"]


def test_a_device_that_was_refused_while_the_gateway_was_down_gets_no_token_after_a_restart(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    over = {"auth": {"mode": "token", "enrol": "approve"}}
    directory = tmp_path_factory.mktemp("refused")
    with running_gateway(directory, over) as gateway:
        with dial(gateway, "kiln-2") as socket:
            claim = ask(socket, secret=SECRET)["claim"]
            assert gateway.stop() == 0
        assert gateway.cli("devices", "refuse", "kiln-2", "--claim", claim).returncode == 0
    with running_gateway(directory, over) as gateway, dial(gateway, "kiln-2") as socket:
        assert ask(socket, claim=claim, secret=SECRET)["type"] == "pending"
        assert wait_for(lambda: listed(gateway).get("kiln-2"), "the device to be listed") == claim
        with pytest.raises(TimeoutError):
            socket.recv(timeout=1)
        assert gateway.request("/v1/devices/kiln-2")[0] == 404


def test_simulated_devices_ask_are_approved_and_come_back_with_their_tokens(
    gateway: RunningGateway, admin: Visitor, tmp_path: Path
) -> None:
    keys, common = tmp_path / "keys.json", ("--url", gateway.ws, "--devices", "3", "--interval", "100ms", "--quiet")
    with simulate(tmp_path, "run", *common, "--enrol", str(keys)) as run:
        mine = {f"sim-{n}" for n in range(3)}
        asking = wait_for(lambda: mine <= enrolments(admin).keys() and enrolments(admin), "the devices to ask")
        shown = {device: held["claim"] for device, held in json.loads(keys.read_text()).items()}
        assert {device: asking[device]["claim"] for device in mine} == shown
        for device in mine:
            body = {"claim": shown[device]}
            assert admin.change("POST", f"/v1/enrolments/{device}/approve", body).status == 200
        wait_for(lambda: gateway.request("/v1/devices/sim-0")[0] == 200, "a device to send")
        wait_for(lambda: all(gateway.ledger(device)["received"] for device in mine), "each device to send")
        run.end_readings()
        assert run.finish(30)["summary"]["outstanding"] == 0
    tokens = json.loads(keys.read_text())
    assert {frozenset(held) for held in tokens.values()} == {frozenset({"token"})}
    with simulate(tmp_path, "run", *common, "--enrol", str(keys), "--duration", "1s") as run:
        assert run.finish(30)["summary"]["acked"] > 0
    assert not mine & enrolments(admin).keys()


def test_simulated_devices_that_are_not_approved_say_how_to_approve_them(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    arguments = ("--url", gateway.ws, "--devices", "2", "--prefix", "stuck-", "--duration", "1s", "--grace", "100ms")
    with simulate(tmp_path, "run", *arguments) as run:
        output, _ = run.process.communicate(timeout=30)
    assert run.process.returncode == 1
    assert (
        "devices that no operator approved: 2. While they wait, `gateway devices list --pending` shows them" in output
    )


def test_a_table_of_devices_is_imported_and_all_come_with_their_tokens(gateway: RunningGateway, tmp_path: Path) -> None:
    table, tokens = tmp_path / "fleet.csv", tmp_path / "tokens.csv"
    table.write_text("id,profile,tag:site\nbulk-1,kiln,north\nbulk-2,,south\n")
    done = gateway.cli("devices", "import", str(table), "--output", str(tokens))
    assert done.returncode == 0, done.stderr
    by_id = dict(line.split(",") for line in tokens.read_text().splitlines()[1:])
    body, path = b'{"a":1}', "/v1/devices/bulk-1/readings"
    wait_for(lambda: gateway.request(path, body=body, token=by_id["bulk-1"])[0] == 200, "them to be known")
    with dial(gateway, "bulk-1", additional_headers=bearer(by_id["bulk-1"])) as socket:
        assert answer(socket)["type"] == "welcome"
    arguments = ("--url", gateway.ws, "--tokens", str(tokens), "--interval", "50ms", "--duration", "1s")
    with simulate(tmp_path, "run", *arguments) as run:
        assert run.finish(30)["summary"]["devices"] == 2
    device = gateway.device("bulk-2")
    assert (device["tags"], device["ledger"]["received"] > 0) == ({"site": "south"}, True)
    exported = gateway.cli("devices", "export").stdout
    assert "bulk-1,kiln,active" in exported
    assert by_id["bulk-1"] not in exported


def test_a_held_device_does_not_outstay_its_time(tmp_path_factory: pytest.TempPathFactory) -> None:
    over = {"auth": {"mode": "token", "enrol": "approve", "enrol_expiry": "1s"}}
    with running_gateway(tmp_path_factory.mktemp("expiry"), over) as gateway, dial(gateway, "slow") as socket:
        ask(socket, secret=SECRET)
        with pytest.raises(ConnectionClosed, match="1013"):
            socket.recv(timeout=10)
        assert gateway.metric('gateway_enrolments_total{result="expired"}') == 1
        wait_for(lambda: gateway.metric("gateway_enrolments_open") == 0, "the request to go")


def test_a_held_device_that_comes_with_a_token_asks_no_more(gateway: RunningGateway, admin: Visitor) -> None:
    with dial(gateway, "kiln-3") as socket:
        claim = ask(socket, secret=SECRET)["claim"]
        token = admin.change("POST", "/v1/devices", {"id": "kiln-3"}).body["token"]
        socket.send(json.dumps({"type": "hello", "token": token}))
        assert answer(socket)["type"] == "welcome"
        assert "kiln-3" not in enrolments(admin)
        late = admin.change("POST", "/v1/enrolments/kiln-3/approve", {"claim": claim, "replace": True})
        assert (late.status, late.code) == (404, "unknown_enrolment")
        socket.send('{"seq":1,"temp":1}')
        assert answer(socket) == {"type": "ack", "seq": 1}
