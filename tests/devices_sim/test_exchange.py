from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from devices_sim.effects import Send
from devices_sim.exchange import Exchange, OwnTime
from devices_sim.protocol import Device
from devices_sim.sensors import Sensor
from devices_sim.tally import Tally

WELCOME = {"type": "welcome", "boot": "b1", "last_seq": None}
AHEAD_MS = 600_000
"""Of a gateway whose clock counts the milliseconds of the steady one."""


def device() -> Device:
    made = Device("d1", "b1", Tally(), Random(1))
    made.exchange = Exchange(OwnTime(AHEAD_MS, 0.0), 10.0)
    made.opened(0.0)
    return made


def hear(made: Device, now: float, **message: Any) -> list[dict[str, Any]]:
    return sent(made.received(json.dumps(message).encode(), now))


def sent(effects: Any) -> list[dict[str, Any]]:
    return [json.loads(effect.data) for effect in effects if isinstance(effect, Send)]


def answer(made: Device, t0: float, arrived: float, answered: float, now: float) -> None:
    assert hear(made, now, type="time", t0=t0, t1=round(arrived * 1000), t2=round(answered * 1000)) == []


def test_a_device_asks_first_then_sends_what_waits() -> None:
    made = device()
    made.submit(b'{"seq":0,"a":1}', 1, 0.1)
    first, second = hear(made, 1.0, **WELCOME)
    assert first == {"type": "time", "t0": AHEAD_MS + 1000}
    assert second["seq"] == 0


def test_it_asks_again_when_it_is_time_and_tells_when_the_answer_came() -> None:
    made = device()
    hear(made, 1.0, **WELCOME)
    assert made.check(12.0) == (), "it waits for the answer"
    answer(made, AHEAD_MS + 1000, 1.02, 1.03, 1.07)
    assert made.check(10.9) == ()
    last = {"t0": AHEAD_MS + 1000, "t3": AHEAD_MS + 1070}
    assert sent(made.check(12.0)) == [{"type": "time", "t0": AHEAD_MS + 12_000, "last": last}]
    assert made.exchange is not None
    assert (made.exchange.offset_ms, made.exchange.delay_ms) == (-AHEAD_MS - 10, 60)


def test_the_exchange_that_took_the_least_time_counts() -> None:
    made = device()
    hear(made, 1.0, **WELCOME)
    answer(made, AHEAD_MS + 1000, 1.01, 1.01, 1.02)
    made.check(12.0)
    answer(made, AHEAD_MS + 12_000, 14.0, 14.0, 14.1)
    assert made.exchange is not None
    assert made.exchange.offset_ms == -AHEAD_MS


def test_a_new_connection_begins_anew() -> None:
    made = device()
    hear(made, 1.0, **WELCOME)
    answer(made, AHEAD_MS + 1000, 1.01, 1.01, 1.02)
    made.check(12.0)
    made.closed(None, "")
    made.opened(20.0)
    assert hear(made, 20.5, **WELCOME) == [{"type": "time", "t0": AHEAD_MS + 20_500}]


@pytest.mark.parametrize(
    ("times", "problem"),
    [
        ({"t0": 5, "t1": 1, "t2": 1}, "tells the time for 5"),
        ({"t0": AHEAD_MS + 1000, "t1": 2, "t2": 1}, "answers at 1"),
    ],
)
def test_times_that_cannot_be(times: dict[str, int], problem: str) -> None:
    made = device()
    hear(made, 1.0, **WELCOME)
    hear(made, 2.0, type="time", **times)
    assert problem in made._tally.violation_texts[0]


def test_a_device_that_has_not_asked_is_not_told() -> None:
    made = Device("d1", "b1", Tally(), Random(1))
    hear(made, 2.0, type="time", t0=1, t1=1, t2=1)
    assert "has not asked" in made._tally.violation_texts[0]


def test_a_clock_that_runs_fast_stamps_what_it_measures_so() -> None:
    sensor = Sensor("climate", 1, 1_000_000, 1000, drift=100.0)
    own = OwnTime(1_000_000, 0.0, 100.0)
    assert [sensor.time_ms(tick) for tick in (0, 1, 10, 100_000)] == [1_000_000, 1_001_000, 1_010_001, 101_010_000]
    assert own.at(100_000.0) == 101_010_000
