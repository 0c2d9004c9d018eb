"""The subprotocols: JSON, the same messages in CBOR, or readings as SenML packs.

Rules that hold here:

* Pure. Every device makes and reads JSON. This module converts it to the form of the device's subprotocol, and back.
* Data that cannot be converted is passed on as it came, and the device counts a violation.
* SenML packs have no numbers, so both sides count: message ``seq`` of a boot is its pack number ``seq`` + 1. That holds
  as long as a device leaves no message out and repeats none without need.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import cbor2
import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

UNITS = {
    "temp": "Cel", "hum": "%RH", "pos.lat": "lat", "pos.lon": "lon", "battery": "%EL", "volts": "V",
    "x": "m/s2", "y": "m/s2", "z": "m/s2",
}  # fmt: skip
"""Units of the fields for which SenML's registry has one (RFC 8428 section 12.1)."""

_KINDS = {bool: "vb", str: "vs", int: "v", float: "v"}


class Json:
    """JSON, as in the protocol document. ``numbered``: messages carry a ``seq``."""

    subprotocol = "telemetry.v1.json"
    binary = False
    numbered = True

    def write(self, message: bytes) -> bytes:
        """The bytes to send for ``message``."""
        return message

    def read(self, data: bytes, sent: Callable[[int], bytes | None]) -> bytes:
        """The gateway's message in ``data``; ``sent`` returns the pending message with a given seq, if there is one."""
        return data


class Cbor(Json):
    """The same messages in CBOR (RFC 8949), for constrained devices."""

    subprotocol = "telemetry.v1.cbor"
    binary = True

    def write(self, message: bytes) -> bytes:
        """As `Json.write`."""
        return cbor2.dumps(orjson.loads(message))

    def read(self, data: bytes, sent: Callable[[int], bytes | None]) -> bytes:
        """As `Json.read`."""
        try:
            return orjson.dumps(cbor2.loads(data))
        except (cbor2.CBORDecodeError, orjson.JSONEncodeError):
            return data


class Senml(Json):
    """Readings as SenML packs (RFC 8428), a record for each value; other messages are JSON."""

    subprotocol = "senml.json"
    numbered = False

    def __init__(self, device_id: str) -> None:
        self._base = f"{device_id}:"

    def write(self, message: bytes) -> bytes:
        """As `Json.write`."""
        value = orjson.loads(message)
        return message if "type" in value else orjson.dumps(list(self._records(value)))

    def read(self, data: bytes, sent: Callable[[int], bytes | None]) -> bytes:
        """As `Json.read`, with pack numbers changed to seq, and indexes of records to indexes of readings."""
        try:
            message = orjson.loads(data)
            for key in ("seq", "last_seq"):
                if message.get(key) is not None:
                    message[key] -= 1
            if message["type"] == "reject" and (pack := sent(message["seq"])) is not None:
                message["errors"] = _by_reading(message["errors"], orjson.loads(pack))
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            return data
        return orjson.dumps(message)

    def _records(self, message: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The first record has the base name and time; later ones have their difference to it."""
        base: dict[str, Any] | None = None
        for time_ms, fields in _readings(message):
            for name, value in fields.items():
                kind = _KINDS[type(value)]
                record = {"n": name, **({"u": UNITS[name]} if name in UNITS else {}), kind: value}
                if base is None:
                    base = {"bn": self._base, "bt": time_ms / 1000}
                    first_ms = time_ms
                    record = base | record
                elif time_ms != first_ms:
                    record["t"] = (time_ms - first_ms) / 1000
                yield record


def _by_reading(errors: list[dict[str, Any]], message: dict[str, Any]) -> list[dict[str, Any]]:
    """One error for each reading of which a record was refused."""
    owners = [index for index, (_, fields) in enumerate(_readings(message)) for _ in fields]
    found = {owners[error["index"]]: error for error in reversed(errors)}
    return [error | {"index": index} for index, error in sorted(found.items())]


def _readings(message: dict[str, Any]) -> Iterator[tuple[float, dict[str, Any]]]:
    """Time in ms and flattened fields of each reading, in whichever of the forms of `devices_sim.sensors`."""
    if "columns" in message:
        for index, row in enumerate(zip(*message["columns"].values(), strict=True)):
            yield message["t0"] + index * message["dt"], dict(zip(message["columns"], row, strict=True))
    elif "readings" in message:
        for reading in message["readings"]:
            yield reading["ts"], dict(_flat(reading["values"]))
    else:
        values = message.get("values") or {key: value for key, value in message.items() if key not in {"seq", "ts"}}
        yield _milliseconds(message["ts"]), dict(_flat(values))


def _flat(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _milliseconds(time: float | str) -> float:
    return datetime.fromisoformat(time).timestamp() * 1000 if isinstance(time, str) else time


FORMATS: dict[str, Callable[[str], Json]] = {"json": lambda _: Json(), "cbor": lambda _: Cbor(), "senml": Senml}
"""By format: makes the wire of the device with the given id."""
