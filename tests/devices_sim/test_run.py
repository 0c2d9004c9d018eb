from __future__ import annotations

import asyncio
import http
import os
import signal
import time
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from devices_sim.fleet import Fleet
from devices_sim.run import Outcome, Plan, conduct
from devices_sim.scenario import Group
from tests.support.peer import Conversation, Peer, obliging

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devices_sim.network import Network
    from devices_sim.run import Source
    from devices_sim.tally import Tally

FLEET = Fleet((Group("g", "climate", 2),), [("d0", None), ("d1", None)], 0.05, 1, "durable", keep_report=False)


class Recorder:
    """Progress, kept; ``then`` is called with the first."""

    def __init__(self, then: Any = None) -> None:
        self.calls: list[tuple[int, float, str]] = []
        self.then = then

    def progress(self, tally: Tally, elapsed: float, trouble: str) -> None:
        self.calls.append((tally.acked, elapsed, trouble))
        if self.then and len(self.calls) == 1:
            self.then()


def run(peer: Peer, plan: dict[str, Any], display: Recorder | None = None, fleet: Fleet = FLEET) -> Outcome:
    async def main() -> Outcome:
        async with asyncio.timeout(30), peer.serving():
            return await conduct(Plan(peer.url, **plan), fleet.build, display or Recorder())

    return asyncio.run(main())


def test_the_duration_ends_it() -> None:
    begun = time.monotonic()
    outcome = run(Peer(), {"duration": 0.5})
    assert 0.5 <= outcome.summary["seconds"] < 2
    assert time.monotonic() - begun < 5


def test_progress_comes_about_every_second() -> None:
    display = Recorder()
    run(Peer(), {"duration": 2.3}, display)
    assert len(display.calls) == 2
    assert display.calls[0][0] < display.calls[1][0]
    assert {trouble for *_, trouble in display.calls} == {""}


def test_an_interrupt_ends_the_readings_and_waits_for_verdicts() -> None:
    async def slow(talk: Conversation, message: dict[str, Any]) -> None:
        if "seq" in message:
            await asyncio.sleep(0.02)
        await obliging(talk, message)

    outcome = run(Peer(slow), {}, Recorder(lambda: os.kill(os.getpid(), signal.SIGINT)))
    assert outcome.complete
    assert outcome.summary["acked"] == outcome.summary["sent"] > 0
    assert outcome.summary["seconds"] < 3


def test_a_device_that_is_in_back_off_when_the_run_ends_still_sends_what_it_holds() -> None:
    """Its gateway was away for so long that the next attempt would come after the time for verdicts."""
    away = False

    async def behave(talk: Conversation, message: dict[str, Any]) -> None:
        nonlocal away
        if "seq" in message and not away:
            away = True
            talk.vanish()
        elif "seq" not in message or away:
            await obliging(talk, message)

    def patient(network: Network, boot: str) -> Sequence[Source]:
        sources = FLEET.build(network, boot)
        for source in sources:
            source.link.device._backoff._attempts = 10
            source.link.device._backoff._rng = Random(1)  # its first number makes the delay 4 s, the second 25 s
            source.link.device._backoff._rng.random()
        return sources

    peer = Peer(behave)

    async def main() -> Outcome:
        async with asyncio.timeout(30), peer.serving():
            return await conduct(Plan(peer.url, duration=0.5, grace=15.0), patient, Recorder())

    outcome = asyncio.run(main())
    assert outcome.summary["reconnects"] == 1
    assert outcome.complete


def test_a_second_interrupt_ends_the_wait() -> None:
    async def mute(talk: Conversation, message: dict[str, Any]) -> None:
        if "seq" not in message:
            await obliging(talk, message)

    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        asyncio.get_running_loop().call_later(0.3, os.kill, os.getpid(), signal.SIGINT)

    outcome = run(Peer(mute), {"grace": 20.0}, Recorder(interrupt))
    assert not outcome.complete
    assert outcome.summary["outstanding"] > 0
    assert outcome.summary["seconds"] < 5


def test_refused_devices_end_it_and_say_why() -> None:
    def admit(connection: Any, _request: Any) -> Any:
        return connection.respond(http.HTTPStatus.UNAUTHORIZED, "no such device")

    outcome = run(Peer(admit=admit), {"duration": 20.0, "grace": 20.0})
    assert not outcome.complete
    assert outcome.summary["stopped"] == 2
    assert "no such device" in outcome.summary["stopped_because"][0]
    assert outcome.summary["seconds"] < 10


def test_a_gateway_that_is_not_there_is_told_meanwhile_and_at_the_end() -> None:
    display = Recorder()

    async def main() -> Outcome:
        async with asyncio.timeout(30):
            return await conduct(Plan("ws://127.0.0.1:9", 1.3, 0.1), FLEET.build, display)

    outcome = asyncio.run(main())
    assert not outcome.complete
    assert outcome.summary["connects"] == 0
    assert outcome.summary["never_sent"] > 0
    assert "127.0.0.1" in display.calls[0][2]
    assert "127.0.0.1" in outcome.summary["last_failure"]


def test_devices_that_wait_to_be_approved_are_told_meanwhile_and_at_the_end() -> None:
    async def undecided(talk: Conversation, message: dict[str, Any]) -> None:
        if message["type"] == "hello":
            await talk.say(type="pending", claim="ABCD-EFGH", expires_in_ms=900_000)

    display = Recorder()
    outcome = run(Peer(undecided), {"duration": 1.3, "grace": 0.1}, display)
    assert not outcome.complete
    assert display.calls[0][2] == "2 wait to be approved"
    assert outcome.summary["awaiting_approval"] == 2


def test_a_violation_makes_it_incomplete() -> None:
    async def forgetful(talk: Conversation, message: dict[str, Any]) -> None:
        await obliging(talk, message)
        if message.get("seq") == 2:
            await talk.say(type="ack", seq=1000)

    outcome = run(Peer(forgetful), {"duration": 0.4})
    assert outcome.summary["outstanding"] == 0
    assert outcome.summary["violations"] >= 2
    assert not outcome.complete


def test_the_gateways_cpu_time_is_told_where_it_is_offered() -> None:
    outcome = run(Peer(), {"duration": 0.3})
    assert outcome.summary["cpu_us_per_reading"]["gateway"] == 0.0
    assert outcome.summary["cpu_us_per_reading"]["simulator"] > 0


def test_devices_are_switched_on_at_the_connect_rate() -> None:
    starts: list[float] = []

    def admit(_connection: Any, request: Any) -> None:
        starts.append(time.monotonic())

    who = [(f"d{n}", None) for n in range(6)]
    fleet = Fleet((Group("g", "climate", 6),), who, 0.05, 1, "durable", keep_report=False)
    run(Peer(admit=admit), {"duration": 1.0, "connect_rate": 10.0}, fleet=fleet)
    assert len(starts) == 6
    assert 0.4 < starts[-1] - starts[0] < 0.9


def test_a_bug_ends_it_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bytes:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("devices_sim.sensors.Sensor.message", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        run(Peer(), {"duration": 10.0})
