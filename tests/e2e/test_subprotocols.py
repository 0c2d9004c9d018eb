"""The other subprotocols, spoken by a client that knows nothing of this project (PyPI websockets, cbor2)."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import cbor2
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

    from tests.support.gateway import RunningGateway

MESSAGES = 50


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
