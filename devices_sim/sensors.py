"""The values of simulated devices, as pure functions of (seed, tick), and the messages of each kind of device.

Tick n of a device is the moment ``start_ms + n * interval_ms``. A reading depends on nothing else. So a report holds
only the seed and the acknowledged ticks, and `verify` computes every expected value again.

====== ============================================= =============== ======
kind   measures                                      message form    ticks
====== ============================================= =============== ======
climate temperature with a daily curve, humidity     flat            1
tracker a vehicle going round, its battery           ts and values   1
logger  soil and a battery charged by the sun        readings        5
machine vibration in bursts, three axes              block           1
====== ============================================= =============== ======

Values are rounded to a sensor's resolution. ``bad_share`` of the readings are made so that the gateway must refuse
them: see `_spoil`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Value = float | bool | str
DAY_MS = 86_400_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Point:
    """One reading as the database should hold it; a measurement of None is the profile's default."""

    measurement: str | None
    tags: Mapping[str, str]
    time_ns: int
    fields: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Sensor:
    """Everything that decides what a device measures; the report holds it."""

    kind: str
    seed: int
    start_ms: int
    interval_ms: int
    bad_share: float = 0.0
    samples: int = 20
    """Samples that a machine takes in one tick, at most."""
    drift: float = 0.0
    """Millionths by which the device's clock runs fast."""

    @property
    def ticks(self) -> int:
        """Ticks that one message carries."""
        return _KINDS[self.kind].ticks

    def readings(self, ticks: int) -> int:
        """Readings in a message of so many ticks."""
        return ticks * _KINDS[self.kind].readings(self)

    def message(self, seq: int, tick: int, ticks: int) -> bytes:
        """Message ``seq`` with ``ticks`` ticks from ``tick`` on."""
        return orjson.dumps(_KINDS[self.kind].message(self, seq, range(tick, tick + ticks)))

    def batch(self, seq: int, tick: int, ticks: int) -> bytes:
        """Message ``seq`` with the readings of ``points``, in the one form that holds many of any kind."""
        points = [point for point in self.points(tick, ticks) if point is not None]
        head: dict[str, Any] = {"seq": seq}
        if points and points[0].measurement is not None:
            head["m"] = points[0].measurement
        readings = [{"ts": point.time_ns // 1_000_000, "values": point.fields} for point in points]
        return orjson.dumps({**head, "readings": readings})

    def points(self, tick: int, ticks: int) -> Iterator[Point | None]:
        """The readings of that message in the order of their indexes; None where the gateway must refuse."""
        for each in range(tick, tick + ticks):
            yield from _KINDS[self.kind].points(self, each)

    def time_ms(self, tick: int) -> int:
        """The moment of ``tick`` by the device's clock."""
        passed = tick * self.interval_ms
        return self.start_ms + passed + round(passed * self.drift / 1e6)

    def spoils(self, tick: int) -> bool:
        """Whether this tick's reading is one to be refused."""
        return self.bad_share > 0 and noise(self.seed, tick, 99) < 2 * self.bad_share - 1


def noise(seed: int, tick: int, channel: int) -> float:
    """A number in [-1, 1) that looks random and is the same for the same arguments (the mixer of splitmix64)."""
    x = (seed * 0x9E3779B97F4A7C15 + tick * 0xD1B54A32D192ED03 + channel * 0x8CB92BA72F3D8DD7) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return (x >> 32) / 0x80000000 - 1.0


def _day(time_ms: int, *, peak_hour: float) -> float:
    """The daily curve in [-1, 1], highest at ``peak_hour`` UTC."""
    return math.cos(2 * math.pi * (time_ms / DAY_MS - peak_hour / 24))


def _spoil(tick: int, reading: dict[str, Any], values: dict[str, Any]) -> None:
    """Break a reading in one of three ways that the protocol always refuses: wrong_type, bad_name, bad_timestamp."""
    if tick % 3 == 0:
        values[next(iter(values))] = [1, 2]
    elif tick % 3 == 1:
        values["_reserved"] = 1
    else:
        reading["ts"] = "yesterday"


class _Kind(Protocol):
    ticks: int

    def readings(self, sensor: Sensor) -> int: ...
    def message(self, sensor: Sensor, seq: int, ticks: range) -> dict[str, Any]: ...
    def points(self, sensor: Sensor, tick: int) -> Iterator[Point | None]: ...


class _Single:
    """Kinds with one reading a tick."""

    ticks = 1

    def readings(self, sensor: Sensor) -> int:
        return 1

    def points(self, sensor: Sensor, tick: int) -> Iterator[Point | None]:
        if sensor.spoils(tick):
            yield None
        else:
            time_ms = sensor.time_ms(tick)
            yield Point(None, {}, time_ms * 1_000_000, self.values(sensor, tick, time_ms))

    def values(self, sensor: Sensor, tick: int, time_ms: int) -> dict[str, Value]:
        raise NotImplementedError


class _Climate(_Single):
    def values(self, sensor: Sensor, tick: int, time_ms: int) -> dict[str, Value]:
        warmth = _day(time_ms, peak_hour=14) * 4.5 + noise(sensor.seed, tick, 1) * 0.15
        base = 17 + noise(sensor.seed, 0, 2) * 5
        return {"temp": round(base + warmth, 2), "hum": round(55 - 2.5 * warmth + noise(sensor.seed, tick, 3) * 0.8, 1)}

    def message(self, sensor: Sensor, seq: int, ticks: range) -> dict[str, Any]:
        tick = ticks[0]
        time_ms = sensor.time_ms(tick)
        values: dict[str, Any] = self.values(sensor, tick, time_ms)
        reading = {"seq": seq, "ts": time_ms, **values}
        if sensor.spoils(tick):
            _spoil(tick, reading, values)
            reading.update(values)
        return reading


class _Tracker(_Single):
    """A vehicle on an ellipse of some kilometres, once round in 10 to 30 minutes; 9 hours on one charge."""

    def values(self, sensor: Sensor, tick: int, time_ms: int) -> dict[str, Value]:
        nested = self._nested(sensor, tick, time_ms)
        position: dict[str, float] = nested.pop("pos")
        return {"pos.lat": position["lat"], "pos.lon": position["lon"], **nested}

    def _nested(self, sensor: Sensor, tick: int, time_ms: int) -> dict[str, Any]:
        seed = sensor.seed
        round_ms = 1_200_000 + noise(seed, 0, 1) * 600_000
        angle = 2 * math.pi * (time_ms / round_ms)
        moving = noise(seed, time_ms // 60_000, 5) > -0.7
        percent = 100 * (1 - (time_ms / 32_400_000 + noise(seed, 0, 6)) % 1.0)
        return {
            "pos": {
                "lat": round(48.0 + noise(seed, 0, 2) * 3 + 0.02 * math.sin(angle), 6),
                "lon": round(11.0 + noise(seed, 0, 3) * 4 + 0.03 * math.cos(angle), 6),
            },
            "speed": round(42 + 12 * math.sin(5 * angle) + noise(seed, tick, 4) * 2, 1) if moving else 0,
            "heading": round(math.degrees(angle) % 360, 1),
            "battery": round(percent, 1),
            "moving": moving,
        }

    def message(self, sensor: Sensor, seq: int, ticks: range) -> dict[str, Any]:
        tick = ticks[0]
        time_ms = sensor.time_ms(tick)
        values = self._nested(sensor, tick, time_ms)
        reading: dict[str, Any] = {"seq": seq, "ts": rfc3339(time_ms), "values": values}
        if sensor.spoils(tick):
            _spoil(tick, reading, values)
        return reading


class _Logger(_Single):
    """Sleeps, wakes, and sends what it collected; its battery charges while the sun shines."""

    ticks = 5

    def values(self, sensor: Sensor, tick: int, time_ms: int) -> dict[str, Value]:
        sun = _day(time_ms, peak_hour=12)
        volts = 3.75 + 0.3 * _day(time_ms, peak_hour=16) + noise(sensor.seed, tick, 1) * 0.01
        return {
            "soil": round(31 + 9 * noise(sensor.seed, 0, 2) - 2 * sun + noise(sensor.seed, tick, 3) * 0.1, 2),
            "volts": round(volts, 3),
            "charging": sun > 0,
            "state": "low battery" if volts < 3.5 else "ok",
        }

    def message(self, sensor: Sensor, seq: int, ticks: range) -> dict[str, Any]:
        return {"seq": seq, "readings": [self._reading(sensor, tick) for tick in ticks]}

    def _reading(self, sensor: Sensor, tick: int) -> dict[str, Any]:
        time_ms = sensor.time_ms(tick)
        values: dict[str, Any] = self.values(sensor, tick, time_ms)
        reading: dict[str, Any] = {"ts": time_ms, "values": values}
        if sensor.spoils(tick):
            _spoil(tick, reading, values)
        return reading


class _Machine:
    """An accelerometer: up to 20 samples over the first half of each tick, shaking for 5 ticks of every 20."""

    ticks = 1
    axes = ("x", "y", "z")

    def readings(self, sensor: Sensor) -> int:
        return min(sensor.samples, sensor.interval_ms)

    def _dt(self, sensor: Sensor) -> int:
        return max(1, sensor.interval_ms // (2 * self.readings(sensor)))

    def _columns(self, sensor: Sensor, tick: int) -> dict[str, list[Any]]:
        seed = sensor.seed
        strength = 2.5 if tick % 20 < 5 else 0.08
        return {
            axis: [
                round(strength * math.sin((tick + k) * (channel + 1.1)) + 0.05 * noise(seed, tick * 32 + k, channel), 4)
                for k in range(self.readings(sensor))
            ]
            for channel, axis in enumerate(self.axes)
        }

    def message(self, sensor: Sensor, seq: int, ticks: range) -> dict[str, Any]:
        tick = ticks[0]
        columns = self._columns(sensor, tick)
        if sensor.spoils(tick):
            columns["x"][tick % self.readings(sensor)] = [1, 2]
        return {"seq": seq, "m": "vibration", "t0": sensor.time_ms(tick), "dt": self._dt(sensor), "columns": columns}

    def points(self, sensor: Sensor, tick: int) -> Iterator[Point | None]:
        columns, start, dt = self._columns(sensor, tick), sensor.time_ms(tick), self._dt(sensor)
        spoilt = tick % self.readings(sensor) if sensor.spoils(tick) else -1
        for k in range(self.readings(sensor)):
            if k == spoilt:
                yield None
                continue
            fields = {axis: columns[axis][k] for axis in self.axes}
            yield Point("vibration", {}, (start + k * dt) * 1_000_000, fields)


_KINDS: dict[str, _Kind] = {
    "climate": _Climate(),
    "tracker": _Tracker(),
    "logger": _Logger(),
    "machine": _Machine(),
}
KINDS = tuple(_KINDS)


def rfc3339(time_ms: int) -> str:
    """``time_ms`` as RFC 3339 with milliseconds, UTC."""
    moment = _EPOCH + timedelta(milliseconds=time_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
