from __future__ import annotations

import asyncio
import itertools
import json
import sqlite3
import time
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from devices_sim.fleet import Fleet, names
from devices_sim.history import MINUTE_MS, PERIOD, History, Past
from devices_sim.run import Outcome, Plan
from devices_sim.scenario import Faults, Group
from devices_sim.sensors import KINDS, Sensor
from tests.support.gateway import running_gateway, wait_for
from tests.support.meaning import meaning
from tests.support.peer import LIMITS, Peer
from tests.support.simulator import conducted, simulate, verify

if TYPE_CHECKING:
    from pathlib import Path

    from devices_sim.tally import Tally

BEGIN = 1_795_000_020_000
"""A whole minute."""
FIRST = BEGIN // MINUTE_MS
HOURS = 3


def past(outage: float = 0.0) -> Past:
    return Past(History(1.0, asyncio.Semaphore()), Sensor("climate", 7, 0, 1000, bad_share=1.0), outage)


def minutes(device: Past, begin: int, end: int) -> list[int]:
    return [tick - BEGIN // MINUTE_MS for part in device.stretches(begin, end) for tick in part]


def test_the_past_is_every_minute_before_now() -> None:
    assert minutes(past(), BEGIN, BEGIN + 4 * MINUTE_MS) == [0, 1, 2, 3]
    assert minutes(past(), BEGIN - 1, BEGIN + 3 * MINUTE_MS + 1) == [0, 1, 2, 3]
    assert minutes(past(), BEGIN + 5 * MINUTE_MS, BEGIN + 4 * MINUTE_MS) == []


def test_without_outages_the_past_is_in_one_piece_at_any_time_of_the_day() -> None:
    for begin in range(BEGIN, BEGIN + PERIOD * MINUTE_MS, 89 * MINUTE_MS):
        assert len(list(past().stretches(begin, begin + 100 * MINUTE_MS))) == 1


def test_an_outage_is_a_gap_every_two_days_wherever_the_past_begins() -> None:
    days = minutes(past(outage=3600), BEGIN, BEGIN + 2 * PERIOD * MINUTE_MS)
    assert len(days) == 2 * (PERIOD - 60)
    assert sorted(b - a for a, b in itertools.pairwise(days))[-3:-2] == [1]
    for begin in range(0, 2 * PERIOD, 97):
        later = minutes(past(outage=3600), BEGIN + begin * MINUTE_MS, BEGIN + 2 * PERIOD * MINUTE_MS)
        assert later == [minute for minute in days if minute >= begin]


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_says_what_the_report_says_and_nothing_is_spoilt(kind: str) -> None:
    device = Past(History(1.0, asyncio.Semaphore()), Sensor(kind, 7, 0, 1000, bad_share=1.0), 0).sensor
    said = meaning(json.loads(device.batch(3, FIRST, 250)))
    expected = [(p.measurement, p.tags, p.time_ns, p.fields) for p in device.points(FIRST, 250) if p]
    assert said == expected
    assert [time_ns for _, _, time_ns, _ in said] == [
        tick * MINUTE_MS * 1_000_000 for tick in range(FIRST, FIRST + 250)
    ]


def run(peer: Peer, *groups: Group) -> Outcome:
    async def main() -> Outcome:
        identities = [(name, None) for name in names(groups, "d")]
        devices = Fleet(groups, identities, 0.05, 1, "durable", keep_report=True, history=HOURS * 3600)
        async with peer.serving():
            return await conducted(Plan(peer.url, grace=30.0), devices.build, until=all_stream)

    def all_stream(_tally: Tally) -> bool:
        arrived: Counter[str] = Counter()
        for device, message in peer.stored:
            arrived[device] += len(message.get("readings", (message,)))
        return len(arrived) == 12 and min(arrived.values()) > HOURS * 60

    return asyncio.run(main())


def test_the_past_goes_before_the_stream_and_is_in_the_report() -> None:
    peer = Peer(limits={**LIMITS, "max_message_bytes": 20_000})
    outcome = run(peer, *(Group(kind, kind, 3) for kind in KINDS))
    assert outcome.complete
    assert outcome.summary["history"] == 12 * HOURS * 60
    for device in outcome.devices:
        arrived = [reading for name, message in peer.stored if name == device.id for reading in meaning(message)]
        assert [(p.measurement, p.tags, p.time_ns, p.fields) for p in device.acked()] == arrived
        assert len(arrived) > HOURS * 60, "it streams afterwards"
        sizes = [len(message.get("readings", ())) for name, message in peer.stored if name == device.id]
        assert sizes[:3] == [100, 78, 2], "as many as the gateway's limit lets into one message; what is fresh is apart"


def points_of(database: Path, device: str) -> list[Any]:
    with closing(sqlite3.connect(database)) as db:
        query = "SELECT DISTINCT time_ns FROM readings WHERE device = ? ORDER BY time_ns"
        return [row[0] for row in db.execute(query, (device,))]


def test_a_gateway_that_has_it_gets_only_what_is_missing_since(tmp_path: Path) -> None:
    scenario = tmp_path / "s.yaml"
    scenario.write_text("groups: [{name: a, kind: climate, prefix: a-, count: 1},"
                        " {name: b, kind: machine, prefix: b-, count: 1}]")  # fmt: skip
    histories: list[int] = []
    with running_gateway(tmp_path / "gateway") as gateway:
        database = gateway.directory / "data.db"
        arguments = ["--url", gateway.ws, "--scenario", str(scenario), "--interval", "100ms"]

        def received(device: str) -> int:
            status, body = gateway.request(f"/v1/devices/{device}")
            return int(body["ledger"]["received"]) if status == 200 else 0

        def streams(past: dict[str, int]) -> bool:
            """Whether each device has sent more than its past."""
            return all(received(device) > readings + 4 for device, readings in past.items())

        for history, before in (("2h", 120), ("3h", None)):
            past = {name: before or received(name) for name in ("a-1", "b-1")}
            with simulate(tmp_path, "run", *arguments, "--history", history) as simulation:
                wait_for(lambda past=past: streams(past), "both devices to stream", 60)  # type: ignore[misc]
                simulation.end_readings()
                histories.append(simulation.finish(90)["summary"]["history"])
        verify(tmp_path / "report.json", f"sqlite:{database}")
        times = points_of(database, "a-1")
    assert histories[0] == 120 + 120
    assert histories[1] <= 4, "a minute that began since, for each device"
    assert max(b - a for a, b in itertools.pairwise(times)) <= MINUTE_MS * 1_000_000
    assert abs(times[0] / 1e9 - (time.time() - 2 * 3600)) < 120


def test_groups_may_share_a_prefix_and_others_have_the_commands() -> None:
    groups = (
        Group("a", "climate", 2, prefix="room-"),
        Group("b", "climate", 1, faults=Faults(), prefix="room-"),
        Group("c", "climate", 2),
    )
    assert names(groups, "sim-") == ["room-1", "room-2", "sim-0", "room-3", "sim-1"]
