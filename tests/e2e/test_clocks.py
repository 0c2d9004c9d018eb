"""Devices whose clocks are wrong: what they learn of it, and what the gateway knows. The true offset is known here,
because both sides read the clock of one machine."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import cbor2
import pytest
from websockets.sync.client import connect

from tests.support.device import device

if TYPE_CHECKING:
    from collections.abc import Callable

    from websockets.sync.client import ClientConnection

    from tests.support.gateway import RunningGateway

JSON = (json.dumps, json.loads)
CBOR = (cbor2.dumps, cbor2.loads)


def exchange(
    socket: ClientConnection,
    ahead_ms: float,
    last: dict[str, float] | None,
    codec: tuple[Callable[[Any], Any], Callable[[Any], Any]] = JSON,
) -> tuple[dict[str, float], float, float]:
    """One exchange by a clock that is ahead: what to say of it next time, the offset and its longest error in ms."""
    encode, decode = codec
    t0 = time.time_ns() / 1e6 + ahead_ms
    socket.send(encode({"type": "time", "t0": t0} | ({"last": last} if last else {})))
    answer = decode(socket.recv(timeout=10))
    t3 = time.time_ns() / 1e6 + ahead_ms
    assert (answer["type"], answer["t0"]) == ("time", t0)
    t1, t2 = answer["t1"], answer["t2"]
    return {"t0": t0, "t3": t3}, ((t1 - t0) + (t2 - t3)) / 2, ((t3 - t0) - (t2 - t1)) / 2 + 1


@pytest.mark.parametrize("ahead_ms", [0, 3_600_000.25, -86_400_000, -1_600_000_000_000])
def test_python_websockets(gateway: RunningGateway, ahead_ms: float) -> None:
    name = f"clock-{ahead_ms:.0f}"
    assert gateway.request(f"/v1/devices/{name}")[0] == 404
    with device(gateway, name) as socket:
        assert gateway.device(name)["clock"] is None
        before, offset, error = exchange(socket, ahead_ms, None)
        assert abs(offset + ahead_ms) <= error
        rough = gateway.device(name)["clock"]
        for _ in range(3):
            before, offset, error = exchange(socket, ahead_ms, before)
            assert abs(offset + ahead_ms) <= error
        fine = gateway.device(name)["clock"]
    for known in (rough, fine, gateway.device(name)["clock"]):
        assert abs(known["offset_ms"] + ahead_ms) <= known["uncertainty_ms"]
        assert abs(known["at"] - time.time() * 1000) < 30_000
    assert fine["uncertainty_ms"] <= rough["uncertainty_ms"] + 1
    assert fine["uncertainty_ms"] < 1_000


def test_python_websockets_and_cbor(gateway: RunningGateway) -> None:
    url = f"{gateway.ws}/v1/devices/clock-cbor/stream"
    with connect(url, subprotocols=["telemetry.v1.cbor"]) as socket:  # type: ignore[list-item]
        assert cbor2.loads(socket.recv(timeout=10))["type"] == "welcome"  # type: ignore[arg-type]
        before, offset, error = exchange(socket, 5_000, None, CBOR)
        assert abs(offset + 5_000) <= error
        exchange(socket, 5_000, before, CBOR)
        known = gateway.device("clock-cbor")["clock"]
    assert abs(known["offset_ms"] + 5_000) <= known["uncertainty_ms"] < 1_000


def test_what_is_known_lasts_over_a_reconnect_of_the_same_boot_only(gateway: RunningGateway) -> None:
    """A device that has started anew is believed anew, from its first request on."""

    def known(boot: str, ahead_ms: float, *, asks: bool = True) -> dict[str, float]:
        with device(gateway, "clock-boots") as socket:
            socket.send(json.dumps({"type": "hello", "boot": boot}))
            assert json.loads(socket.recv(timeout=10))["boot"] == boot
            if asks:
                exchange(socket, ahead_ms, None)
            return dict(gateway.device("clock-boots")["clock"])

    first = known("b1", 3_600_000)
    assert known("b1", 0, asks=False)["at"] == first["at"]
    assert abs(known("b2", 0)["offset_ms"]) < 3_000
