"""How messages are written: the JSON that devices make and read, the same as CBOR, or readings as SenML packs.

Rules that hold here:

* Pure. Whatever a device speaks, it makes and reads JSON; here that is put into the form of its subprotocol, and back.
* What is no message is handed on as it came: the device says so.
* SenML has no numbers, so both sides count: message ``seq`` of a boot is its pack number ``seq`` + 1. That holds as
  long as a device leaves none out and sends none twice unasked.
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
"""Of fields that have one in SenML's registry (RFC 8428 section 12.1)."""

_KINDS = {bool: "vb", str: "vs", int: "v", float: "v"}


class Json:
    """The protocol as its document writes it. ``numbered``: messages have numbers of their own."""

    subprotocol = "telemetry.v1.json"
    binary = False
    numbered = True

    def write(self, message: bytes) -> bytes:
        """What is sent for ``message``."""
        return message

    def read(self, data: bytes, sent: Callable[[int], bytes | None]) -> bytes:
        """The message of the gateway in ``data``; ``sent`` tells what was sent under a number and waits for its ack."""
        return data


class Cbor(Json):
    """The same in CBOR (RFC 8949), which is what constrained devices speak."""

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
    """Readings as SenML packs (RFC 8428), a record for each value; all else is JSON."""

    subprotocol = "senml.json"
    numbered = False

    def __init__(self, device_id: str) -> None:
        self._base = f"{device_id}:"

    def write(self, message: bytes) -> bytes:
        """As `Json.write`."""
        value = orjson.loads(message)
        return message if "type" in value else orjson.dumps(list(self._records(value)))

    def read(self, data: bytes, sent: Callable[[int], bytes | None]) -> bytes:
        """As `Json.read`; packs have their numbers here, and readings are refused where their records are."""
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
        """The first record has the base name and time, later ones what differs."""
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
"""What a device with this id speaks."""
