from __future__ import annotations

import json
import statistics
from dataclasses import replace
from itertools import pairwise

import pytest

from devices_sim.sensors import KINDS, Sensor, noise, rfc3339
from tests.support.meaning import meaning

START = 1_795_000_000_000


def sensor(kind: str, *, seed: int = 7, interval_ms: int = 1000, bad_share: float = 0.0) -> Sensor:
    return Sensor(kind, seed, START, interval_ms, bad_share)


@pytest.mark.parametrize("interval_ms", [1, 30, 1000, 60_000])
@pytest.mark.parametrize("kind", KINDS)
def test_points_are_what_the_message_means(kind: str, interval_ms: int) -> None:
    device = sensor(kind, interval_ms=interval_ms)
    for tick in (0, 1, 19, 20, 86_399):
        message = json.loads(device.message(5, tick, device.ticks))
        points = list(device.points(tick, device.ticks))
        assert message["seq"] == 5
        assert len(points) == device.readings(device.ticks)
        expected = [(p.measurement, p.tags, p.time_ns, p.fields) for p in points if p is not None]
        assert meaning(message) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_no_two_readings_of_a_device_share_a_moment(kind: str) -> None:
    for interval_ms in (1, 7, 20, 1000):
        device = sensor(kind, interval_ms=interval_ms)
        times = [p.time_ns for tick in range(60) for p in device.points(tick, 1) if p]
        assert times == sorted(set(times))


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_the_values(kind: str) -> None:
    first, again, other = sensor(kind), sensor(kind), sensor(kind, seed=8)
    assert first.message(0, 3, first.ticks) == again.message(0, 3, again.ticks)
    assert first.message(0, 3, first.ticks) != other.message(0, 3, other.ticks)


@pytest.mark.parametrize("kind", KINDS)
def test_spoilt_readings_are_left_out_of_what_is_expected(kind: str) -> None:
    device = sensor(kind, bad_share=0.3)
    clean = replace(device, bad_share=0.0)
    missing = 0
    for tick in range(300):
        message = json.loads(device.message(0, tick, 1))
        for index, point in enumerate(device.points(tick, 1)):
            good = list(clean.points(tick, 1))[index]
            missing += point is None
            if point is not None:
                assert point == good
                assert meaning_or_none(message, index) == (good.measurement, {}, good.time_ns, good.fields)
            else:
                assert meaning_or_none(message, index) != (good.measurement, {}, good.time_ns, good.fields)
    assert 60 <= missing <= 120


def meaning_or_none(message: object, index: int) -> object:
    try:
        return meaning(message)[index]
    except ValueError:
        return None  # "yesterday"


def test_every_spoilt_reading_breaks_one_of_three_rules() -> None:
    device = sensor("climate", bad_share=1.0)
    messages = [json.loads(device.message(0, tick, 1)) for tick in range(3)]
    assert messages[0]["temp"] == [1, 2]
    assert messages[1]["_reserved"] == 1
    assert messages[2]["ts"] == "yesterday"


def values(kind: str, field: str, ticks: range, interval_ms: int) -> list[float]:
    device = sensor(kind, interval_ms=interval_ms)
    return [float(p.fields[field]) for tick in ticks for p in device.points(tick, 1) if p]


def test_temperature_follows_the_day() -> None:
    quarter_hours = values("climate", "temp", range(96), 900_000)
    assert 8 < max(quarter_hours) - min(quarter_hours) < 10
    steps = [abs(b - a) for a, b in pairwise(quarter_hours)]
    assert max(steps) < 1


def test_a_battery_runs_down_and_is_charged_again() -> None:
    percent = values("tracker", "battery", range(200), 300_000)
    assert 0 <= min(percent) < 5
    assert 95 < max(percent) <= 100
    assert sum(b > a for a, b in pairwise(percent)) in (1, 2), "it drains slowly and is full at once"


def test_a_vehicle_moves_without_jumping() -> None:
    lat = values("tracker", "pos.lat", range(1200), 1000)
    assert max(lat) - min(lat) > 0.03
    assert max(abs(b - a) for a, b in pairwise(lat)) < 0.001


def test_vibration_comes_in_bursts() -> None:
    loud, quiet = values("machine", "x", range(5), 1000), values("machine", "x", range(5, 20), 1000)
    assert statistics.pstdev(loud) > 5 * statistics.pstdev(quiet)


def test_noise_is_uniform_and_differs_by_channel() -> None:
    numbers = [noise(1, tick, 2) for tick in range(20_000)]
    assert -1 <= min(numbers) < -0.99
    assert 0.99 < max(numbers) < 1
    assert abs(statistics.fmean(numbers)) < 0.02
    assert noise(1, 5, 2) != noise(1, 5, 3)


def test_rfc3339_has_milliseconds_and_a_zone() -> None:
    assert rfc3339(1_700_000_000_007) == "2023-11-14T22:13:20.007Z"
