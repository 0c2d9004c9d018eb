"""A third reader of readings messages, beside those of the gateway and of the simulator, which it is independent of.

It knows enough of the five forms of the protocol to compare the messages of a simulated device with the readings that
the device counted as sent. The golden vectors check it (tests/devices_sim/test_vectors.py).
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

Meaning = tuple[str | None, dict[str, str], int | None, dict[str, Any]]
"""Measurement, tags, time in ns (None: arrival) and fields of one reading."""

_ENVELOPE = ("seq", "ts", "m", "tags", "type", "age_ms")


def meaning(message: Any) -> list[Meaning]:
    """The readings in a message, as they would be stored. Values are not checked."""
    if isinstance(message, list):
        return [reading for item in message for reading in meaning(item)]
    measurement, tags = message.get("m"), message.get("tags", {})
    if "readings" in message:
        return [
            (item[0] or measurement, {**tags, **item[1]}, *item[2:])
            for reading in message["readings"]
            for item in meaning(reading)
        ]
    if "columns" in message:
        return [(measurement, tags, *sample) for sample in _samples(message)]
    values = message.get("values", {name: value for name, value in message.items() if name not in _ENVELOPE})
    return [(measurement, tags, time_ns(message["ts"]) if "ts" in message else None, flattened(values))]


def time_ns(ts: float | str) -> int:
    """Nanoseconds since 1970 of a protocol timestamp."""
    if isinstance(ts, str):
        moment, _, fraction = ts.rstrip("Z").partition(".")
        seconds = int(datetime.fromisoformat(moment + "+00:00").timestamp())
        return seconds * 10**9 + int(fraction.ljust(9, "0"))
    exact = Decimal(str(ts))
    scale = next((scale for bound, scale in ((10**11, 9), (10**14, 6), (10**17, 3)) if abs(exact) < bound), 0)
    return int(exact * 10**scale)


def flattened(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Fields of an object, nested names joined by dots."""
    fields: dict[str, Any] = {}
    for name, value in values.items():
        fields |= flattened(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return fields


def _samples(message: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    start, dt, columns = message["t0"], message["dt"], message["columns"]
    count = len(next(iter(columns.values())))
    offsets = dt if isinstance(dt, list) else [n * dt for n in range(count)]
    return [
        (int((Decimal(start) + Decimal(str(offset))) * 10**6), {name: column[n] for name, column in columns.items()})
        for n, offset in enumerate(offsets)
    ]
