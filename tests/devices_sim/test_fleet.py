from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from devices_sim import backoff
from devices_sim.fleet import Fleet
from devices_sim.network import Network
from devices_sim.run import Outcome, Plan
from devices_sim.scenario import Faults, Group
from devices_sim.tally import Tally
from tests.support.meaning import meaning
from tests.support.peer import LIMITS, Conversation, Peer, obliging
from tests.support.simulator import conducted

if TYPE_CHECKING:
    from collections.abc import Callable

    from devices_sim.report import DeviceReport


@pytest.fixture(autouse=True)
def _quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "MIN_BOUND", 0.02)


def fleet(*groups: Group, interval: float = 0.05, ack: str = "durable", seed: int = 1) -> Fleet:
    count = sum(group.count for group in groups)
    return Fleet(groups, [(f"d{n}", None) for n in range(count)], interval, seed, ack, keep_report=True)


def run(
    peer: Peer,
    devices: Fleet,
    *,
    until: Callable[[Tally], Any] | None = None,
    duration: float | None = None,
    grace: float = 30.0,
) -> Outcome:
    """A run that samples until ``until`` holds, or for ``duration`` seconds."""

    async def main() -> Outcome:
        async with peer.serving():
            return await conducted(Plan(peer.url, duration, grace), devices.build, until=until)

    return asyncio.run(main())


def received(peer: Peer) -> dict[str, Counter[str]]:
    """The readings the peer took, by device, each as text."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for device, message in peer.stored:
        found[device].update(repr(reading) for reading in meaning(message))
    return found


def reported(report: DeviceReport) -> Counter[str]:
    return Counter(repr((p.measurement, p.tags, p.time_ns, p.fields)) for p in report.acked())


def assert_report_is_exact(peer: Peer, outcome: Outcome) -> None:
    arrived = received(peer)
    for device in outcome.devices:
        assert reported(device) == arrived[device.id], device.id


EVERY_KIND = tuple(Group(kind, kind, 2) for kind in ("climate", "tracker", "logger", "machine"))


def test_every_kind_arrives_and_the_report_names_every_reading() -> None:
    peer = Peer()
    outcome = run(peer, fleet(*EVERY_KIND), until=lambda _tally: len(received(peer)) == 8)
    assert outcome.complete
    assert_report_is_exact(peer, outcome)
    summary = outcome.summary
    assert summary["sent"] == summary["acked"] == sum(sum(readings.values()) for readings in received(peer).values())
    assert summary["messages"] == len(peer.stored)
    assert (summary["connects"], summary["reconnects"], summary["outstanding"]) == (8, 0, 0)
    assert set(peer.closes) == {1000}


def test_a_half_collected_message_is_sent_at_the_end() -> None:
    peer = Peer()
    run(peer, fleet(Group("g", "logger", 1), interval=1.0), duration=0.5)
    sizes = [len(message["readings"]) for _, message in peer.stored]
    assert len(sizes) == 1
    assert 1 <= sizes[0] < 5


def test_samples_keep_to_their_schedule() -> None:
    peer = Peer()
    run(peer, fleet(Group("g", "climate", 1)), until=lambda tally: tally.acked >= 10)
    times = [message["ts"] for _, message in peer.stored]
    assert [b - a for a, b in itertools.pairwise(times)] == [50] * (len(times) - 1)


def test_the_same_seed_measures_the_same() -> None:
    def temperatures(seed: int) -> list[float]:
        peer = Peer()
        run(peer, fleet(Group("g", "machine", 1), seed=seed), until=lambda tally: tally.messages >= 2)
        return [message["columns"]["x"] for _, message in peer.stored][:2]

    assert temperatures(1) == temperatures(1) != temperatures(2)


def test_lost_connections_and_duplicates_lose_and_double_nothing() -> None:
    faults = Faults(disconnect_every=0.15, duplicates=0.3)
    peer = Peer()

    def enough(tally: Tally) -> bool:
        return tally.reconnects > 5 and tally.duplicates > 5 and peer.duplicates > 5

    outcome = run(peer, fleet(Group("g", "climate", 4, 0.02, faults)), until=enough)
    assert outcome.complete
    assert_report_is_exact(peer, outcome)


def test_a_device_that_hangs_sends_nothing_meanwhile() -> None:
    faults = Faults(silent_every=0.2, silent_for=0.4)
    peer = Peer()
    outcome = run(peer, fleet(Group("g", "climate", 3, 0.02, faults)), duration=1.2)
    assert outcome.complete
    assert_report_is_exact(peer, outcome)
    gaps = []
    for device in outcome.devices:
        times = sorted(point.time_ns for point in device.acked())
        gaps += [b - a for a, b in itertools.pairwise(times)]
    assert max(gaps) > 0.38e9
    assert outcome.summary["connects"] == 3


def test_bad_values_are_refused_and_not_expected() -> None:
    async def judge(talk: Conversation, message: dict[str, Any]) -> None:
        if "seq" in message and not sound(message):
            await talk.say(type="reject", seq=message["seq"], errors=[{"index": 0, "code": "wrong_type"}])
            talk.peer.taken[talk.device, talk.boot] = message["seq"]
            await talk.say(type="ack", seq=message["seq"])
        else:
            await obliging(talk, message)

    peer = Peer(judge)
    outcome = run(
        peer, fleet(Group("g", "climate", 2, 0.02, Faults(bad_values=0.3))), until=lambda tally: tally.refused > 5
    )
    assert outcome.complete
    assert_report_is_exact(peer, outcome)
    summary = outcome.summary
    assert summary["sent"] == summary["acked"] + summary["refused"]
    assert summary["refused"] == summary["reject_codes"]["wrong_type"]


def sound(message: dict[str, Any]) -> bool:
    return isinstance(message["ts"], int) and not isinstance(message["temp"], list) and "_reserved" not in message


def test_an_unplanned_refusal_is_left_out_of_the_report() -> None:
    async def grumpy(talk: Conversation, message: dict[str, Any]) -> None:
        if message.get("seq") == 1:
            await talk.say(type="reject", seq=1, errors=[{"index": 2, "code": "out_of_range"}])
        await obliging(talk, message)

    peer = Peer(grumpy)
    outcome = run(peer, fleet(Group("g", "logger", 1, 0.02)), until=lambda tally: tally.messages > 2)
    (device,) = outcome.devices
    assert device.refused == {1: [2]}
    assert received(peer)["d0"] - reported(device) == Counter(
        [repr(meaning(next(m for _, m in peer.stored if m["seq"] == 1))[2])]
    )


def test_clocks_may_be_wrong() -> None:
    peer = Peer()
    devices = fleet(Group("g", "climate", 8, None, Faults(clock_skew=3600)))
    outcome = run(peer, devices, until=lambda tally: tally.connected == 8)
    starts = sorted(device.sensor.start_ms for device in outcome.devices if device.sensor)
    assert 600_000 < starts[-1] - starts[0] < 7_200_000
    assert_report_is_exact(peer, outcome)


def test_samples_are_held_back_when_the_gateway_takes_no_more() -> None:
    async def deaf(talk: Conversation, message: dict[str, Any]) -> None:
        if "seq" not in message:
            await obliging(talk, message)
            return
        await talk.take(message, ack=False)
        if message["seq"] == 2:
            await asyncio.sleep(0.3)
            await talk.say(type="ack", seq=2)
        if message["seq"] > 2:
            await talk.say(type="ack", seq=message["seq"])

    peer = Peer(deaf, limits={**LIMITS, "max_unacked": 3})
    outcome = run(peer, fleet(Group("g", "climate", 1, 0.02)), until=lambda tally: tally.acked > 3)
    assert outcome.complete
    assert outcome.summary["held_back"] > 5
    assert_report_is_exact(peer, outcome)
    (device,) = outcome.devices
    assert len(device.messages) > 1, "there are gaps in the ticks"
    for (seq, tick, ticks, count), (next_seq, next_tick, *_) in itertools.pairwise(device.messages):
        assert next_seq == seq + count, "there are none in the numbers"
        assert next_tick > tick + ticks * count


def test_what_is_never_answered_makes_the_run_incomplete() -> None:
    async def mute(talk: Conversation, message: dict[str, Any]) -> None:
        if "seq" not in message:
            await obliging(talk, message)

    outcome = run(Peer(mute), fleet(Group("g", "climate", 2)), until=lambda tally: tally.sent, grace=0.2)
    assert not outcome.complete
    assert outcome.summary["outstanding"] == outcome.summary["sent"] > 0
    assert all(list(device.acked()) == [] for device in outcome.devices)
    assert sum(len(list(device.uncertain())) for device in outcome.devices) == outcome.summary["sent"]


def test_groups_take_turns_in_the_numbering() -> None:
    async def main() -> list[str]:
        network = Network("ws://127.0.0.1:9", Tally())
        devices = fleet(Group("a", "climate", 3), Group("b", "machine", 1)).build(network, "boot")
        await network.close()
        return [device.link.device.info["group"] for device in devices]

    assert asyncio.run(main()) == ["a", "b", "a", "a"]


def test_without_a_report_nothing_is_kept_per_message() -> None:
    async def main() -> Outcome:
        peer = Peer()
        async with peer.serving():
            light = Fleet((Group("g", "climate", 1),), [("d0", None)], 0.05, 1, "durable", keep_report=False)
            return await conducted(Plan(peer.url, grace=30.0), light.build, until=lambda tally: tally.acked)

    outcome = asyncio.run(main())
    assert outcome.complete
    assert outcome.devices[0].messages == []


def test_tokens_go_with_their_devices() -> None:
    seen: dict[str, str] = {}

    def admit(_connection: Any, request: Any) -> None:
        seen[request.path] = request.headers["Authorization"]

    async def main() -> None:
        peer = Peer(admit=admit)
        async with peer.serving():
            identities = [("a", "token-a"), ("b", "token-b")]
            devices = Fleet((Group("g", "climate", 2),), identities, 1, 1, "none", keep_report=False)
            await conducted(Plan(peer.url), devices.build, until=lambda _tally: len(seen) == 2)

    asyncio.run(main())
    assert seen == {"/v1/devices/a/stream": "Bearer token-a", "/v1/devices/b/stream": "Bearer token-b"}


def test_it_is_json_all_the_way() -> None:
    outcome = run(Peer(), fleet(Group("g", "climate", 1)), duration=0.2)
    assert json.loads(json.dumps(outcome.summary)) == outcome.summary
