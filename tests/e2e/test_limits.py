"""Devices that send more than they may: they are told to wait, nothing is lost, and others notice nothing."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.support.device import answer, device, hello
from tests.support.gateway import running_gateway, wait_for
from tests.support.simulator import simulate, verify
from tests.support.streams import TEXT, client_frame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.gateway import RunningGateway

RATE = 100
BURST = 200
LIMITS = {"readings_per_second": RATE, "burst": BURST, "max_unacked": 50, "backlog": 10}
GENEROUS = {"readings_per_second": 500, "burst": 1000}


def now_ms() -> int:
    """Asked where it is needed: what was now when the tests were collected is backlog a minute later."""
    return time.time_ns() // 1_000_000


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """One with close limits, but for profile ``busy``."""
    over = {"limits": LIMITS, "profiles": {"busy": {"limits": GENEROUS}}}
    with running_gateway(tmp_path_factory.mktemp("gateway"), over) as running:
        yield running


class Sender:
    """A client of another library that keeps to the protocol, and sends as fast as it may."""

    def __init__(self, socket: ClientConnection, messages: int, readings: int = 1) -> None:
        self.throttled: list[dict[str, Any]] = []
        self._socket = socket
        self._count = messages
        self._readings = readings
        self._acked = -1
        self._start = now_ms()

    def message(self, seq: int) -> str:
        rows = [{"ts": self._start + seq * self._readings + n, "values": {"n": seq}} for n in range(self._readings)]
        return json.dumps({"seq": seq, "readings": rows})

    def run(self) -> None:
        """Send all, fifty ahead of the acks; send again what did not get through."""
        following = 0
        while self._acked < self._count - 1:
            while following < min(self._count, self._acked + 50):
                self._socket.send(self.message(following))
                following += 1
            said = answer(self._socket)
            if said["type"] == "ack":
                self._acked = said["seq"]
            else:
                assert said["type"] == "throttle"
                self.throttled.append(said)
                time.sleep(said["retry_after_ms"] / 1000)
                following = said["from_seq"]


def test_a_third_party_client_meets_the_throttle_and_loses_nothing(gateway: RunningGateway) -> None:
    with device(gateway, "third") as socket:
        hello(socket, "b1")
        sender = Sender(socket, messages=30, readings=10)
        sender.run()
        assert gateway.device("third")["limits"]["throttled"] in {True, False}
    assert {said["limit"] for said in sender.throttled} == {"readings_per_second"}
    for said in sender.throttled:
        assert said["allowed"] == RATE < said["observed"]
        assert 0 < said["retry_after_ms"] <= 2000
    sums = gateway.settled("third")
    assert (sums["stored"], sums["duplicate"], sums["rejected"], sums["dropped"]) == (300, 0, 0, 0)
    limits = gateway.device("third")["limits"]
    assert limits["throttles"] == len(sender.throttled)
    assert (limits["limit"], limits["allowed"]) == ("readings_per_second", RATE)
    assert gateway.metric('gateway_throttles_total{limit="readings_per_second"}') >= len(sender.throttled)


def test_the_limits_are_in_the_welcome_and_a_reconnect_fills_nothing_up(gateway: RunningGateway) -> None:
    url = f"{gateway.ws}/v1/devices/again/stream"
    with connect(url, compression=None) as socket:
        limits = answer(socket)["limits"]
        assert (limits["readings_per_second"], limits["burst"]) == (RATE, BURST)
        assert (limits["backlog"]["readings_per_second"], limits["backlog"]["burst"]) == (10 * RATE, 10 * BURST)
        hello(socket, "b1")
        socket.send(json.dumps({"seq": 0, "readings": [{"v": n} for n in range(BURST + RATE)]}))
        assert answer(socket) == {"type": "ack", "seq": 0}
    with connect(url, compression=None) as socket:
        answer(socket)
        hello(socket, "b1")
        socket.send(json.dumps({"seq": 1, "v": 1}))
        assert answer(socket)["type"] == "throttle"
    status, body = gateway.request("/v1/devices/again/readings", body=b'{"v":1}')
    assert (status, body["error"]["limit"]) == (429, "readings_per_second")


def test_a_request_that_is_throttled_teaches_no_types(gateway: RunningGateway) -> None:
    path = "/v1/devices/%s/readings"
    many = json.dumps([{"v": n} for n in range(3 * BURST)]).encode()
    assert gateway.request(path % "eager", body=many)[0] == 200
    assert gateway.request(path % "eager", body=b'{"taught":"x"}')[0] == 429
    assert gateway.request(path % "other", body=b'{"taught":1}') == (200, {"accepted": 1, "rejected": []})


def test_backlog_does_not_use_up_what_is_live(gateway: RunningGateway) -> None:
    with device(gateway, "late") as socket:
        hello(socket, "b1")
        old = [{"ts": now_ms() - 3_600_000 + n, "v": n} for n in range(BURST)]
        for seq in range(5):
            rows = [{**row, "ts": row["ts"] + seq * BURST} for row in old]
            socket.send(json.dumps({"seq": seq, "readings": rows}))
        socket.send(json.dumps({"seq": 5, "readings": [{"v": n} for n in range(BURST)]}))
        acked = -1
        while acked < 5:
            said = answer(socket)
            assert said["type"] == "ack", said
            acked = said["seq"]


def test_simulated_devices_bring_their_past_beside_what_is_live(tmp_path: Path, gateway: RunningGateway) -> None:
    def received(device: str) -> int:
        status, body = gateway.request(f"/v1/devices/{device}")
        return int(body["ledger"]["received"]) if status == 200 else 0

    arguments = ["--url", gateway.ws, "--devices", "2", "--prefix", "past-", "--interval", "100ms"]
    with simulate(tmp_path, "run", *arguments, "--history", "12h") as simulation:
        wait_for(lambda: all(received(name) > 12 * 60 for name in ("past-0", "past-1")), "their past and more", 60)
        simulation.end_readings()
        summary = simulation.finish(60)["summary"]
    verify(tmp_path / "report.json", f"sqlite:{gateway.directory}/data.db")
    assert summary["history"] > 2 * BURST
    assert summary["throttled"] == {}


def test_what_cannot_be_sent_again_waits_and_is_not_lost(gateway: RunningGateway) -> None:
    readings, start = BURST + RATE, now_ms()
    with device(gateway, "plain") as socket:
        for n in range(0, readings, 10):
            socket.send(json.dumps([{"ts": start + m, "v": m} for m in range(n, n + 10)]))
        wait_for(lambda: gateway.ledger("plain")["received"] == readings, "all to be taken")
        assert gateway.metric('gateway_rests_total{limit="readings_per_second"}') > 0
    assert gateway.settled("plain")["stored"] == readings


def test_who_reconnects_while_it_is_not_read_keeps_what_had_arrived(gateway: RunningGateway) -> None:
    rested = 'gateway_rests_total{limit="readings_per_second"}'
    before = gateway.metric(rested)
    first = [{"v": n} for n in range(2 * BURST)]
    messages = [first, *({"v": n} for n in range(400))]  # in all less than a record of TLS: it arrives as one
    with connect(f"{gateway.ws}/v1/devices/hasty/stream", compression=None) as socket:
        answer(socket)
        socket.socket.sendall(b"".join(client_frame(TEXT, json.dumps(message).encode()) for message in messages))
        wait_for(lambda: gateway.metric(rested) > before, "the device to be too fast")
        with device(gateway, "hasty"):
            wait_for(lambda: gateway.ledger("hasty")["received"] == 2 * BURST + 400, "what had arrived to be taken")
    assert gateway.settled("hasty")["stored"] == 2 * BURST + 400


def test_a_profile_has_limits_of_its_own(gateway: RunningGateway) -> None:
    assert gateway.cli("devices", "add", "busy-1", "--profile", "busy").returncode == 0

    def limits() -> dict[str, Any]:
        with connect(f"{gateway.ws}/v1/devices/busy-1/stream", compression=None) as socket:
            return dict(answer(socket)["limits"])

    wait_for(lambda: limits()["burst"] == GENEROUS["burst"], "the new device to be known")


def test_who_ignores_a_throttle_is_closed(gateway: RunningGateway) -> None:
    said: Counter[str] = Counter()
    with connect(f"{gateway.ws}/v1/devices/deaf/stream", compression=None) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            for seq in range(10_000):
                socket.send(json.dumps({"seq": seq, "readings": [{"v": n} for n in range(20)]}))
                if seq % 20 == 19:
                    time.sleep(0.05)
            while True:
                said[answer(socket)["type"]] += 1
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4429
    assert gateway.metric('gateway_disconnects_total{reason="rate_limit"}') >= 1


def test_a_greedy_fleet_loses_nothing_and_does_not_delay_modest_devices(tmp_path: Any, gateway: RunningGateway) -> None:
    arguments = ["--url", gateway.ws, "--scenario", "greedy", "--prefix", "greedy-", "--interval", "200ms"]
    with simulate(tmp_path, "run", *arguments, "--duration", "2s", "--grace", "40s") as simulation:
        summary = simulation.finish(60)["summary"]
    verify(tmp_path / "report.json", f"sqlite:{gateway.directory}/data.db")
    assert summary["throttled"]["readings_per_second"] > 2
    assert summary["closes"]["4429"] >= 1
    assert summary["sent"] == summary["acked"]
    assert summary["resent"] > 0
    told = {name: gateway.device(f"greedy-{name}")["limits"]["throttles"] for name in range(10)}
    assert sorted(bool(count) for count in told.values()) == [False] * 8 + [True] * 2
