from __future__ import annotations

import asyncio
import http
import os
import signal
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from devices_sim import run as running
from devices_sim.fleet import Fleet
from devices_sim.run import Outcome, Plan
from devices_sim.scenario import Group
from devices_sim.scheduler import Scheduler
from tests.support.peer import Conversation, Peer, obliging
from tests.support.simulator import conducted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from devices_sim.network import Network
    from devices_sim.run import Source
    from devices_sim.scheduler import Moment
    from devices_sim.tally import Tally

FLEET = Fleet((Group("g", "climate", 2),), [("d0", None), ("d1", None)], 0.05, 1, "durable", keep_report=False)


class Recorder:
    """Keeps the progress. Each one ends the readings, as Ctrl-C does, if there are as many as ``enough``."""

    def __init__(self, enough: int | None = None) -> None:
        self.calls: list[tuple[int, float, str]] = []
        self.enough = enough

    def progress(self, tally: Tally, elapsed: float, trouble: str) -> None:
        self.calls.append((tally.acked, elapsed, trouble))
        if len(self.calls) == self.enough:
            os.kill(os.getpid(), signal.SIGINT)


def run(
    peer: Peer,
    plan: dict[str, Any],
    display: Recorder | None = None,
    fleet: Fleet = FLEET,
    until: Callable[[Tally], Any] | None = None,
) -> Outcome:
    async def main() -> Outcome:
        async with peer.serving():
            return await conducted(Plan(peer.url, **plan), fleet.build, display=display or Recorder(), until=until)

    return asyncio.run(main())


def test_the_duration_ends_it() -> None:
    outcome = run(Peer(), {"duration": 0.5})
    assert outcome.summary["seconds"] >= 0.5


def test_progress_comes_after_a_second_and_again_after_another() -> None:
    display = Recorder(enough=2)
    run(Peer(), {}, display)
    (acked, elapsed, _), (more_acked, later, _) = display.calls
    assert 1 <= elapsed <= later - 0.9
    assert acked < more_acked
    assert {trouble for *_, trouble in display.calls} == {""}


def test_an_interrupt_ends_the_readings_and_waits_for_verdicts() -> None:
    async def slow(talk: Conversation, message: dict[str, Any]) -> None:
        if "seq" in message:
            await asyncio.sleep(0.02)
        await obliging(talk, message)

    outcome = run(Peer(slow), {"grace": 30.0}, until=lambda tally: tally.sent)
    assert outcome.complete
    assert outcome.summary["acked"] == outcome.summary["sent"] > 0


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
        async with peer.serving():
            return await conducted(Plan(peer.url, duration=0.5, grace=15.0), patient)

    outcome = asyncio.run(main())
    assert outcome.summary["reconnects"] == 1
    assert outcome.complete


def test_a_second_interrupt_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    async def mute(talk: Conversation, message: dict[str, Any]) -> None:
        if "seq" not in message:
            await obliging(talk, message)

    wait = running._verdicts

    async def interrupted_wait(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await wait(*arguments)

    monkeypatch.setattr(running, "_verdicts", interrupted_wait)
    outcome = run(Peer(mute), {"grace": 1000.0}, until=lambda tally: tally.sent)
    assert not outcome.complete
    assert outcome.summary["outstanding"] > 0


def test_refused_devices_end_it_and_say_why() -> None:
    def admit(connection: Any, _request: Any) -> Any:
        return connection.respond(http.HTTPStatus.UNAUTHORIZED, "no such device")

    outcome = run(Peer(admit=admit), {"grace": 1000.0})
    assert not outcome.complete
    assert outcome.summary["stopped"] == 2
    assert "no such device" in outcome.summary["stopped_because"][0]


def test_a_gateway_that_is_not_there_is_told_meanwhile_and_at_the_end() -> None:
    display = Recorder(enough=1)

    async def main() -> Outcome:
        return await conducted(Plan("ws://127.0.0.1:9", grace=0.1), FLEET.build, display=display)

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
    waiting = "2 pending approval"
    outcome = run(
        Peer(undecided), {"grace": 0.1}, display, until=lambda _tally: any(waiting in call for call in display.calls)
    )
    assert not outcome.complete
    assert outcome.summary["awaiting_approval"] == 2


def test_a_violation_makes_it_incomplete() -> None:
    async def forgetful(talk: Conversation, message: dict[str, Any]) -> None:
        await obliging(talk, message)
        if message.get("seq") == 2:
            await talk.say(type="ack", seq=1000)

    outcome = run(Peer(forgetful), {"grace": 30.0}, until=lambda tally: tally.violations >= 2)
    assert outcome.summary["outstanding"] == 0
    assert not outcome.complete


def test_the_gateways_cpu_time_is_told_where_it_is_offered() -> None:
    outcome = run(Peer(), {"duration": 0.3})
    assert outcome.summary["cpu_us_per_reading"]["gateway"] == 0.0
    assert outcome.summary["cpu_us_per_reading"]["simulator"] > 0


def test_devices_are_switched_on_at_the_connect_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[float] = []
    at = Scheduler.at

    def noting(self: Scheduler, when: float, callback: Callable[[], None]) -> Moment:
        if callback.__name__ == "start":
            starts.append(when)
        return at(self, when, callback)

    monkeypatch.setattr(Scheduler, "at", noting)
    identities = [(f"d{n}", None) for n in range(6)]
    fleet = Fleet((Group("g", "climate", 6),), identities, 0.05, 1, "durable", keep_report=False)
    run(Peer(), {"connect_rate": 10.0}, fleet=fleet, until=lambda tally: tally.connected == 6)
    assert [start - starts[0] for start in starts] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])


def test_a_bug_ends_it_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bytes:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("devices_sim.sensors.Sensor.message", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        run(Peer(), {"duration": 10.0})
