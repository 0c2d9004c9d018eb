"""The other subprotocols, by a client that knows nothing of this project (PyPI websockets, cbor2), and simulated."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cbor2
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support.gateway import wait_for
from tests.support.simulator import simulate, verify
from tests.support.visitor import Visitor

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

    from tests.support.gateway import RunningGateway

MESSAGES = 50
ADMIN = "admin-token-for-tests-0123456789"
EXAMPLES = json.loads((Path(__file__).parents[1] / "vectors" / "senml" / "rfc8428.json").read_text())


def dial(gateway: RunningGateway, device: str, *offered: str) -> ClientConnection:
    return connect(f"{gateway.ws}/v1/devices/{device}/stream", subprotocols=offered)  # type: ignore[arg-type]


def heard(socket: ClientConnection) -> Any:
    data = socket.recv(timeout=10)
    assert isinstance(data, bytes)
    return cbor2.loads(data)


def test_cbor_from_the_welcome_to_the_database(gateway: RunningGateway) -> None:
    with dial(gateway, "cbor-1", "telemetry.v1.cbor") as socket:
        assert socket.subprotocol == "telemetry.v1.cbor"
        assert heard(socket)["type"] == "welcome"
        for number in range(MESSAGES):
            socket.send(cbor2.dumps({"seq": number, "ts": 1_700_000_000_000 + number, "values": {"n": number}}))
        while (answer := heard(socket))["seq"] < MESSAGES - 1:
            assert answer["type"] == "ack"
        socket.send(cbor2.dumps({"seq": MESSAGES, "readings": [{"n": 1}, {"n": b"bytes"}]}))
        rejected = heard(socket)
        assert (rejected["type"], rejected["errors"][0]["index"]) == ("reject", 1)
        socket.send(b"\xff")
        answers = [heard(socket), heard(socket)]  # the ack of before may come in between
        assert {answer.get("code") for answer in answers} == {None, "malformed_cbor"}
    sums = gateway.settled("cbor-1")
    assert (sums["stored"], sums["rejected"], sums["gaps"]) == (MESSAGES + 1, 1, 0)


def test_senml_from_the_welcome_to_the_database(gateway: RunningGateway) -> None:
    with dial(gateway, "senml-1", "senml.json") as socket:
        assert socket.subprotocol == "senml.json"
        assert json.loads(socket.recv(timeout=10))["last_seq"] is None
        now = round(time.time())
        socket.send(
            json.dumps([{"bn": "senml-1:", "bt": now, "n": "temp", "u": "Cel", "v": 21.5}, {"n": "hum", "v": 40}])
        )
        assert json.loads(socket.recv(timeout=10)) == {"type": "ack", "seq": 1}
        socket.send(json.dumps([{"bn": "senml-2:", "n": "temp", "v": 1}, {"bn": "senml-1:", "n": "temp", "v": 22}]))
        rejected = json.loads(socket.recv(timeout=10))
        assert (rejected["type"], rejected["seq"], rejected["errors"][0]["index"]) == ("reject", 2, 0)
        assert json.loads(socket.recv(timeout=10)) == {"type": "ack", "seq": 2}
        assert gateway.device("senml-1")["units"] == {"temp": "Cel"}
        socket.send(b"[]")
        with pytest.raises(ConnectionClosed, match="1003"):
            socket.recv(timeout=10)
    sums = gateway.settled("senml-1")
    assert (sums["stored"], sums["rejected"], sums["gaps"]) == (3, 1, 0)
    found = gateway.device("senml-1")
    assert found["latest"] == {"temp": 22, "hum": 40}
    _, series = gateway.request("/v1/series?device=senml-1")
    units = {one["field"]: one["unit"] for one in series["series"]}
    assert (units["temp"], units["hum"]) == ("Cel", None)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: str(example["section"]))
def test_the_examples_of_rfc_8428(gateway: RunningGateway, example: dict[str, Any]) -> None:
    name = example["device"]
    before = gateway.request(f"/v1/devices/{name}")[1].get("ledger", {}).get("stored", 0)
    with dial(gateway, name, "senml.json") as socket:
        socket.recv(timeout=10)
        socket.send(json.dumps(example["send"]))
        said = json.loads(socket.recv(timeout=10))
        refused = {error["index"] for error in said.get("errors", ())}
        assert refused == set(example["refuses"])
        if refused:
            said = json.loads(socket.recv(timeout=10))
        assert said == {"type": "ack", "seq": 1}
    assert gateway.settled(name)["stored"] == before + len(example["stores"])


FLEET = """
groups:
  - {name: packs, kind: climate, prefix: pack-, count: 2, format: senml, faults: {disconnect_every: 200ms}}
  - {name: packs by a wrong clock, kind: tracker, prefix: ahead-, count: 1, format: senml, clock: {offset: 1h}}
  - {name: blocks as packs, kind: machine, prefix: block-, count: 1, format: senml}
  - {name: bytes, kind: logger, prefix: bytes-, count: 1, format: cbor, unknown_settings: [led]}
  - name: bytes on poor radio
    kind: climate
    prefix: poor-
    count: 2
    format: cbor
    faults: {disconnect_every: 200ms, bad_values: 0.2, duplicates: 0.2}
"""


def test_simulated_devices_speak_all_of_them_and_lose_nothing(gateway: RunningGateway, tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text(FLEET)
    arguments = ("--url", gateway.ws, "--interval", "50ms", "--scenario", str(tmp_path / "fleet.yaml"))
    accepted = 'gateway_connections_total{result="accepted"}'
    before = gateway.metric(accepted)
    with simulate(tmp_path, "run", *arguments) as run:
        for name, taken in (("block-1", {"rate": 2, "led": 1}), ("bytes-1", {"rate": 2})):
            wait_for(lambda name=name: gateway.request(f"/v1/devices/{name}")[0] == 200, "the device")
            assert admin(gateway, name, "commands", name="ping")["value"] == "pong"
            admin(gateway, name, "settings", "PUT", settings={"rate": 2, "led": 1})
            wait_for(lambda name=name: admin(gateway, name, "settings", "GET")["reported"]["version"], "its report")
            assert admin(gateway, name, "settings", "GET")["reported"]["settings"] == taken
        kept = admin(gateway, "pack-1", "commands", name="ping", keep=True)["id"]
        wait_for(lambda: admin(gateway, "pack-1", f"commands/{kept}", "GET")["state"] == "answered", "the result")
        assert abs(gateway.device("ahead-1")["clock"]["offset_ms"] + 3_600_000) < 5_000
        assert gateway.device("pack-1")["units"] == {"temp": "Cel", "hum": "%RH"}
        wait_for(lambda: gateway.ledger("poor-1")["rejected"] and gateway.ledger("poor-2")["duplicate"], "faults")
        wait_for(lambda: gateway.metric(accepted) >= before + 7 + 4, "devices to come back")
        run.end_readings()
        summary = run.finish(30)["summary"]
    for device in ("pack-1", "block-1", "bytes-1", "poor-1"):
        assert gateway.settled(device)["gaps"] == 0
    verify(run.report, f"sqlite:{gateway.directory}/data.db")
    assert (summary["violations"], summary["outstanding"]) == (0, 0), summary["violation_texts"]
    assert summary["reconnects"] > 0


def admin(gateway: RunningGateway, device: str, what: str, method: str = "POST", **body: Any) -> dict[str, Any]:
    visitor = Visitor(gateway.url)
    sent = None if method == "GET" else body
    answer = visitor.send(method, f"/v1/devices/{device}/{what}", sent, Authorization=f"Bearer {ADMIN}")
    assert answer.status < 300, answer.body
    return dict(answer.body)


@pytest.mark.parametrize(("offered", "wrong"), [("telemetry.v1.cbor", "{}"), ("telemetry.v1.json", b"\xa0")])
def test_messages_of_the_other_kind_are_closed_with_1003(
    gateway: RunningGateway, offered: str, wrong: str | bytes
) -> None:
    with dial(gateway, "wrong-1", offered) as socket:
        socket.recv(timeout=10)
        socket.send(wrong)
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1003


def test_the_first_one_offered_that_is_known_is_spoken(gateway: RunningGateway) -> None:
    with dial(gateway, "first-1", "mqtt", "telemetry.v1.cbor", "telemetry.v1.json") as socket:
        assert socket.subprotocol == "telemetry.v1.cbor"
