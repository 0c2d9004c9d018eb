"""Faults of the database while the gateway runs: no batch is lost, and each fault ends as the documents say.

A scripted server stands between the gateway and a real InfluxDB. It sends the responses that the real one cannot be
made to send, and forwards everything else. After every fault the ledger is in balance, and the database has each
reading once.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.gateway import RunningGateway, running_gateway, wait_for
from tests.support.scripted import Reply, ScriptedServer
from tests.support.servers import Influxd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORWARD = Reply(forward=True)
READINGS = 40
TIMEOUT_MS = 700
TS = 1_700_000_000_000
SHORT = {"Retry-After": "1"}


def says(status: int, words: str, **headers: str) -> Reply:
    return Reply(status, {"Content-Type": "application/json", **headers}, json.dumps({"error": words}).encode())


def config(url: str, database: str, **batch: Any) -> dict[str, Any]:
    influx = {"url": url, "api": "v1", "database": database, "timeout": f"{TIMEOUT_MS}ms"}
    return {"sink": "influxdb", "influxdb": influx, "batch": batch or {"max_age": "20ms"}}


class Front:
    """A gateway, a scripted server behind it, and the real database behind that server."""

    def __init__(self, gateway: RunningGateway, script: ScriptedServer, influxd: Influxd, database: str) -> None:
        self.gateway = gateway
        self.script = script
        self.influxd = influxd
        self.database = database

    def send(self, device: str, readings: int = READINGS, first: int = 0) -> None:
        """Send readings in one request; they are durable when this returns."""
        body = [{"ts": TS + first + n, "values": {"n": first + n}} for n in range(readings)]
        status, answer = self.gateway.request(f"/v1/devices/{device}/readings", body=json.dumps(body).encode())
        assert (status, answer["accepted"]) == (200, readings), answer

    def readiness(self) -> dict[str, Any]:
        status, body = self.gateway.request("/readyz")
        assert status == 200, "readings are taken whatever the database does"
        return dict(body)

    def errors(self, kind: str) -> float:
        return self.gateway.metric(f'gateway_write_errors_total{{kind="{kind}"}}')

    def assert_all_stored(self, device: str, readings: int = READINGS) -> None:
        sums = self.gateway.settled(device, 40)
        assert sums == {**dict.fromkeys(sums, 0), "received": readings, "stored": readings}
        found = [row for row in self.influxd.points(self.database, "telemetry") if row["device"] == device]
        assert [row["n"] for row in found] == list(range(readings)), "each reading is there, once"
        wait_for(lambda: not self.readiness()["warnings"], "the warning to end")
        assert self.readiness()["database"]["state"] == "delivering"

    def dead_letters(self) -> list[dict[str, Any]]:
        listed = self.gateway.cli("dead-letters", "list", "--json")
        assert listed.returncode == 0, listed.stderr
        letters = json.loads(listed.stdout)
        return list(letters["dead_letters"] if isinstance(letters, dict) else letters)


@contextlib.contextmanager
def fronted(directory: Path, influxd: Influxd, **batch: Any) -> Iterator[Front]:
    database = influxd.create_database()
    with (
        ScriptedServer(FORWARD, upstream=influxd.url) as script,
        running_gateway(directory, config(script.url, database, **batch)) as gateway,
    ):
        yield Front(gateway, script, influxd, database)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory, influxd: Influxd) -> Iterator[Front]:
    """Shared by the tests of faults that end; each test has its own device and leaves the database without a fault."""
    with fronted(tmp_path_factory.mktemp("front"), influxd) as made:
        yield made


LASTING = {
    "hang": (Reply(hang=True), "timeout"),
    "408": (says(408, "took too long", **SHORT), "timeout"),
    "429": (says(429, "too many writes", **SHORT), "rate_limited"),
    "500": (says(500, "engine: cannot write", **SHORT), "server_error"),
    "503": (says(503, "starting", **SHORT), "unavailable"),
    "no-answer": (Reply(cut=True), "network"),
    "cut-in-the-status": (Reply(forward=True, torn=len("HTTP/1.1 20")), "network"),
    "cut-in-the-body": (replace(says(500, "engine: cannot write"), torn=-5), "network"),
    "answer-lost-after-the-write": (Reply(forward=True, cut=True), "network"),
}


@pytest.mark.parametrize("fault", LASTING)
def test_a_failing_database_is_retried_until_it_has_every_point(front: Front, fault: str) -> None:
    reply, kind = LASTING[fault]
    device = f"lasting-{fault}"
    before = front.errors(kind)
    front.script.says(reply)
    front.send(device)
    wait_for(lambda: front.errors(kind) >= before + 2, "a second try to fail")
    state = front.readiness()
    assert state["database"]["state"] == "retrying"
    assert f"{READINGS} readings wait" in state["warnings"][0]
    assert front.gateway.ledger(device)["pending"] == READINGS
    front.script.says(FORWARD)
    front.assert_all_stored(device)
    assert front.dead_letters() == []


def test_no_write_comes_before_retry_after_is_over(front: Front) -> None:
    front.script.says(says(503, "busy", **{"Retry-After": "2"}), FORWARD)
    seen = len(front.script.requests)
    front.send("patient")
    wait_for(lambda: len(front.script.requests) > seen, "the first write")
    first = time.monotonic()
    wait_for(lambda: len(front.script.requests) > seen + 1, "the second write")
    assert time.monotonic() - first > 1.9
    front.assert_all_stored("patient")


def test_a_slow_response_is_waited_for_to_its_end(front: Front) -> None:
    """The time-out counts silence only, and this server sends a byte now and then."""
    front.script.says(Reply(forward=True, drip=0.01), FORWARD)
    front.send("drip")
    front.assert_all_stored("drip")


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_batch_is_halved_and_no_point_is_lost(front: Front, status: int) -> None:
    """If the halves are not refused again, the refusal costs only writes."""
    device, first = f"halved-{status}", f"first-{status}"
    front.send(first)  # a first write to a cold shard is made twice; those below are not
    front.assert_all_stored(first)
    seen = len(front.script.requests)
    front.script.says(says(status, "not like this"), FORWARD)
    front.send(device)
    front.assert_all_stored(device)
    assert len(front.script.requests) == seen + 3, "the batch and its halves"
    assert front.dead_letters() == []


def test_every_point_waits_while_an_operator_has_to_act(tmp_path: Path, influxd: Influxd) -> None:
    kinds = {401: "unauthorized", 403: "forbidden", 404: "not_found", 400: "unexpected_answer"}
    with contextlib.ExitStack() as stack:
        fronts = {status: stack.enter_context(fronted(tmp_path / str(status), influxd)) for status in kinds}
        for status, front in fronts.items():
            stranger = Reply(400, body=b"the words of 400: a plain HTTP request was sent to an HTTPS port")
            front.script.says(stranger if status == 400 else says(status, f"the words of {status}"))
            front.send("held")
        for status, front in fronts.items():
            state = wait_for(lambda f=front: (s := f.readiness())["warnings"] and s, "the warning")  # type: ignore[misc]
            assert state["database"]["state"] == "held"
            assert f"the words of {status}" in state["warnings"][0]
            assert front.errors(kinds[status]) == 1, "it is asked again slowly"
            assert front.gateway.ledger("held")["pending"] == READINGS
            front.script.says(FORWARD)
        for front in fronts.values():
            front.assert_all_stored("held")
            assert front.dead_letters() == []


def test_a_database_that_refuses_connections_gets_every_point_later(tmp_path: Path) -> None:
    with Influxd(tmp_path / "influxd") as server:
        database = server.create_database("telemetry")
        with (
            ScriptedServer(FORWARD) as nobody_asks,
            running_gateway(tmp_path / "gateway", config(server.url, database)) as gateway,
        ):
            front = Front(gateway, nobody_asks, server, database)
            server.stop()
            front.send("refused")
            wait_for(lambda: front.errors("network") >= 2, "a second try to fail")
            assert front.readiness()["database"]["state"] == "retrying"
            server.start()
            front.assert_all_stored("refused")


def test_a_poison_point_in_five_thousand_costs_few_writes_and_ends_as_a_dead_letter(
    tmp_path: Path, influxd: Influxd
) -> None:
    """The gateway cannot know the type of the field: another program has written to it."""
    with fronted(tmp_path, influxd, max_readings=5000, max_age="20s") as front:
        influxd.write(front.database, b'telemetry,device=other odd="a text" %d\n' % (TS * 1_000_000))
        for first in range(0, 5000, 500):
            readings: list[dict[str, Any]] = [
                {"ts": TS + n, "values": {"n": n}} for n in range(first, first + 500) if n != 3217
            ]
            if first == 3000:
                readings.append({"ts": TS + 3217, "values": {"odd": 1}})
            status, answer = front.gateway.request("/v1/devices/p/readings", body=json.dumps(readings).encode())
            assert (status, answer["accepted"]) == (200, 500), answer
        sums = front.gateway.settled("p", 60)
        assert (sums["received"], sums["stored"], sums["rejected"]) == (5000, 4999, 1), sums
        writes = sum(request.path.startswith("/write") for request in front.script.requests)
        print(f"one poison point in 5,000: {writes} writes")
        assert writes <= 31
        [letter] = front.dead_letters()
        assert letter["device"] == "p"
        assert "type conflict" in letter["reason"]
        assert "odd" in letter["reason"]
        found = [row["n"] for row in influxd.points(front.database, "telemetry") if row["device"] == "p"]
        assert sorted(found) == [n for n in range(5000) if n != 3217]
        assert front.readiness()["warnings"] == []
