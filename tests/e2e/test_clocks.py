"""Devices whose clocks are wrong: what they learn of it, and what the gateway knows. The true offset is known here,
because both sides read the clock of one machine."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any

import cbor2
import pytest
from websockets.sync.client import connect

from tests.support.device import answer, device, hello
from tests.support.gateway import running_gateway
from tests.support.simulator import simulate, verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from websockets.sync.client import ClientConnection

    from tests.support.gateway import RunningGateway

ADMIN = "admin-token-for-tests-0123456789"
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
    told = decode(socket.recv(timeout=10))
    t3 = time.time_ns() / 1e6 + ahead_ms
    assert (told["type"], told["t0"]) == ("time", t0)
    t1, t2 = told["t1"], told["t2"]
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


def test_a_device_that_comes_back_is_corrected_as_before(tmp_path: Path) -> None:
    over = {"profiles": {"default": {"timestamps": {"max_future": "10m", "when_outside": "correct"}}}}
    with running_gateway(tmp_path, over) as gateway:
        reading = {"ts": time.time_ns() // 1_000_000 + 3_600_000, "temp": 21.5}

        def answered(boot: str, message: dict[str, Any], *, asks: bool) -> dict[str, Any]:
            with device(gateway, "back") as socket:
                hello(socket, boot)
                if asks:
                    exchange(socket, 3_600_000, None)
                socket.send(json.dumps(message))
                return answer(socket)

        assert answered("b1", {"seq": 1, **reading}, asks=False)["errors"][0]["code"] == "timestamp_out_of_range"
        assert answered("b1", {"seq": 2, **reading}, asks=True) == {"type": "ack", "seq": 2}
        assert answered("b1", {"seq": 3, **reading}, asks=False) == {"type": "ack", "seq": 3}
        assert answered("b1", {"seq": 3, **reading}, asks=True) == {"type": "ack", "seq": 3}
        assert answered("b2", {"seq": 1, **reading}, asks=False)["errors"][0]["code"] == "timestamp_out_of_range"
        status, body = gateway.request("/v1/devices/back/readings", body=json.dumps(reading).encode())
        assert (status, body["accepted"]) == (200, 0)
        assert body["rejected"][0]["code"] == "timestamp_out_of_range"
        sums = gateway.settled("back")
        assert (sums["stored"], sums["duplicate"], sums["rejected"]) == (2, 1, 3)
    with closing(sqlite3.connect(tmp_path / "data.db")) as database:
        query = "select count(*) from readings where device = 'back' and field = 'temp'"
        assert database.execute(query).fetchone() == (1,), "the correction stayed what it was, so it is one point"


POLICIES = """
groups:
  - {name: kept, kind: climate, prefix: keep-, count: 1, clock: {offset: 1h}}
  - {name: refused, kind: climate, prefix: refuse-, count: 1, clock: {offset: 1h}}
"""


def test_a_profile_keeps_or_refuses_what_a_wrong_clock_says(tmp_path: Path) -> None:
    """By a third-party client and by simulated devices; those that ask for the time are not corrected either."""
    bounds = {"max_future": "10m"}
    profiles = {
        "default": {"timestamps": {**bounds, "when_outside": "keep"}},
        "strict": {"timestamps": {**bounds, "when_outside": "refuse"}},
    }
    with running_gateway(tmp_path, {"profiles": profiles}) as gateway:
        for name in ("refuse-1", "refuse-2"):
            body = json.dumps({"id": name, "profile": "strict"}).encode()
            assert gateway.request("/v1/devices", body=body, token=ADMIN)[0] == 201
        said = {}
        for name in ("keep-2", "refuse-2"):
            with device(gateway, name) as socket:
                exchange(socket, 3_600_000, None)
                ahead = time.time_ns() // 1_000_000 + 3_600_000
                socket.send(json.dumps({"seq": 1, "ts": ahead, "values": {"temp": 1}}))
                said[name] = answer(socket)
        assert said["keep-2"] == {"type": "ack", "seq": 1}
        assert said["refuse-2"]["errors"][0]["code"] == "timestamp_out_of_range"
        (tmp_path / "scenario.yaml").write_text(POLICIES)
        arguments = ["--url", gateway.ws, "--interval", "50ms", "--scenario", str(tmp_path / "scenario.yaml")]
        with simulate(tmp_path, "run", *arguments, "--duration", "1s") as run:
            summary = run.finish(60)["summary"]
        kept, refused = gateway.settled("keep-1"), gateway.settled("refuse-1")
        assert (kept["rejected"], refused["stored"]) == (0, 0)
        assert summary["reject_codes"] == {"timestamp_out_of_range": refused["rejected"]}
        assert min(kept["stored"], refused["rejected"]) > 0
        verify(run.report, f"sqlite:{tmp_path / 'data.db'}")


SCENARIO = """
groups:
  - {name: right, kind: climate, prefix: right-, count: 2, clock: {ask: 1s}}
  - name: ahead
    kind: climate
    prefix: ahead-
    count: 3
    clock: {offset: 20m, drift: 90, ask: 1s}
    faults: {disconnect_every: 2s}
  - {name: text, kind: tracker, prefix: text-, count: 3, clock: {offset: 2d, ask: 500ms}, faults: {duplicates: 0.2}}
  - {name: behind, kind: logger, prefix: behind-, count: 3, clock: {offset: -1000d, ask: 700ms}}
  - {name: blocks, kind: machine, prefix: blocks-, count: 3, clock: {offset: 11m, ask: 1s}, faults: {bad_values: 0.1}}
"""
BOUNDS = {"max_future": "10m", "max_age": "10d", "when_outside": "correct"}
AHEAD = {"right": 0, "ahead": 1200, "text": 2 * 86400, "behind": -1000 * 86400, "blocks": 660}
"""Seconds."""


def test_a_fleet_with_wrong_clocks_is_corrected_and_every_reading_is_found(tmp_path: Path) -> None:
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text(SCENARIO)
    began_ns = time.time_ns()
    with running_gateway(tmp_path, {"profiles": {"default": {"timestamps": BOUNDS}}}) as gateway:
        arguments = ["--url", gateway.ws, "--devices", "14", "--interval", "100ms", "--duration", "5s"]
        with simulate(tmp_path, "run", *arguments, "--scenario", str(scenario)) as run:
            report = run.finish(60)
        ended_ns = time.time_ns()
        assert report["summary"]["violations"] == 0, report["summary"]["violation_texts"]
        assert report["summary"]["times"] > 14
        assert set(report["summary"]["reject_codes"]) <= {"wrong_type", "bad_name", "bad_timestamp"}
        for device_id in (item["id"] for item in report["devices"]):
            clock = gateway.device(device_id)["clock"]
            ahead = AHEAD[device_id.partition("-")[0]]
            assert abs(clock["offset_ms"] + ahead * 1000) <= clock["uncertainty_ms"] < 5_000
            assert gateway.settled(device_id)["rejected"] == 0 or device_id.startswith("blocks")
        verify(run.report, f"sqlite:{tmp_path / 'data.db'}")
    with closing(sqlite3.connect(tmp_path / "data.db")) as database:
        points = database.execute(
            "select device, time_ns, value from readings where field = 'device_time_ms'"
        ).fetchall()
    moved = {"right": 0} | Counter(name.partition("-")[0] for name, _, _ in points)
    assert {name for name, count in moved.items() if count > 20} == {"ahead", "text", "behind", "blocks"}, moved
    assert not moved["right"]
    for name, time_ns, own_ms in points:
        assert began_ns - 5e9 < time_ns < ended_ns + 5e9
        assert abs(own_ms - time_ns / 1e6 - AHEAD[name.partition("-")[0]] * 1000) < 5_000
