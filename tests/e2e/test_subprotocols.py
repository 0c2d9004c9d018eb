"""The other subprotocols, spoken by a client that knows nothing of this project (PyPI websockets, cbor2)."""

from __future__ import annotations

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
