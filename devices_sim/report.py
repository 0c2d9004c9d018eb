"""The report of a run: which readings were acknowledged, so that `verify` can check each of them.

A JSON document::

    {"format": "devices-sim report", "version": 1,
     "run": {...how it was started...}, "summary": {...as printed...},
     "devices": [{
        "id": "sim-0", "boot": "5f0c2a91",
        "acked_to": 59,            every message up to this seq was acknowledged or refused; -1 for none
        "sent_to": 59,             the last that was sent: what lies between may or may not be stored
        "refused": {"17": [0]},    seq -> indexes of refused readings (all of them for a message refused whole)
        "sensor": {...}, "messages": [[0, 0, 1, 60]]        a simulated device, or
        "measurement": null, "points": [[[time_ns, tags, fields], ...], ...]   a replayed one, one list per message
        "past": {"sensor": {...}, "messages": [[0, 29861280, 250, 17]]}    of a simulated device, if it sent any
        "ahead_ms": 600000         of one that asks for the time: how far its clock is ahead
        "unnamed": true            of one that speaks SenML: its measurement is the gateway's choice
     }]}

``sensor`` holds the arguments of `devices_sim.sensors.Sensor`, from which every value can be made again. A row of
``messages`` is (first seq, first tick, ticks per message, number of messages): a device that never had to hold back a
sample has one row.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import orjson

from devices_sim.sensors import Point, Sensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FORMAT = "devices-sim report"
VERSION = 1


class ReportError(Exception):
    """A file that is not a report this version reads."""


class MessageLog:
    """Which ticks each message of a simulated device carried, run-length coded."""

    def __init__(self) -> None:
        self.rows: list[list[int]] = []

    def add(self, seq: int, tick: int, ticks: int) -> None:
        """Message ``seq`` carries ``ticks`` ticks from ``tick`` on."""
        if self.rows:
            first_seq, first_tick, width, count = self.rows[-1]
            if ticks == width and seq == first_seq + count and tick == first_tick + width * count:
                self.rows[-1][3] += 1
                return
        self.rows.append([seq, tick, ticks, 1])


@dataclass(slots=True)
class DeviceReport:
    """One device and boot."""

    id: str
    boot: str
    acked_to: int
    sent_to: int
    refused: Mapping[int, list[int]] = field(default_factory=dict)
    sensor: Sensor | None = None
    messages: list[list[int]] = field(default_factory=list)
    past: Sensor | None = None
    past_messages: list[list[int]] = field(default_factory=list)
    ahead_ms: float = 0.0
    unnamed: bool = False
    measurement: str | None = None
    points: list[list[tuple[int, dict[str, str], dict[str, Any]]]] = field(default_factory=list)

    def acked(self) -> Iterator[Point]:
        """The readings that must be in the database."""
        return self._readings(0, self.acked_to)

    def uncertain(self) -> Iterator[Point]:
        """The readings that were sent and not acknowledged: they may be in the database."""
        return self._readings(self.acked_to + 1, self.sent_to)

    def _readings(self, first: int, last: int) -> Iterator[Point]:
        for seq, points in self._messages(first, last):
            refused = frozenset(self.refused.get(seq, ()))
            for index, point in enumerate(points):
                if point is not None and index not in refused:
                    yield replace(point, measurement=None) if self.unnamed else point

    def _messages(self, first: int, last: int) -> Iterator[tuple[int, Iterator[Point | None]]]:
        if self.sensor is None:
            for seq in range(first, min(last + 1, len(self.points))):
                yield seq, (Point(self.measurement, tags, time, fields) for time, tags, fields in self.points[seq])
            return
        for sensor, rows in ((self.past, self.past_messages), (self.sensor, self.messages)):
            if sensor is None:
                continue
            for first_seq, tick, ticks, count in rows:
                for n in range(max(0, first - first_seq), min(count, last + 1 - first_seq)):
                    yield first_seq + n, sensor.points(tick + n * ticks, ticks)


@dataclass(slots=True)
class Report:
    """The whole document."""

    run: dict[str, Any]
    summary: dict[str, Any]
    devices: list[DeviceReport]

    def write(self, path: Path) -> None:
        """Write it to ``path``; raises OSError."""
        document = {
            "format": FORMAT,
            "version": VERSION,
            "run": self.run,
            "summary": self.summary,
            "devices": [_device_json(device) for device in self.devices],
        }
        path.write_bytes(orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS))

    @classmethod
    def read(cls, path: Path) -> Report:
        """The report in ``path``.

        Raises:
            ReportError: it is not one.
            OSError: it cannot be read.
        """
        try:
            document = orjson.loads(path.read_bytes())
            if document["format"] != FORMAT or document["version"] != VERSION:
                raise ReportError(f"{path}: version {document['version']} of {document['format']!r} is not known here")
            return cls(document["run"], document["summary"], [_device(item) for item in document["devices"]])
        except (ValueError, KeyError, TypeError) as error:
            raise ReportError(f"{path}: not a report of devices-sim ({error!r})") from error


def _device_json(device: DeviceReport) -> dict[str, Any]:
    common = {
        "id": device.id,
        "boot": device.boot,
        "acked_to": device.acked_to,
        "sent_to": device.sent_to,
        "refused": device.refused,
    }
    if device.sensor is not None:
        found = {**common, "sensor": asdict(device.sensor), "messages": device.messages}
        if device.past is not None:
            found["past"] = {"sensor": asdict(device.past), "messages": device.past_messages}
        if device.ahead_ms:
            found["ahead_ms"] = device.ahead_ms
        if device.unnamed:
            found["unnamed"] = True
        return found
    return {**common, "measurement": device.measurement, "points": device.points}


def _device(item: dict[str, Any]) -> DeviceReport:
    return DeviceReport(
        id=item["id"],
        boot=item["boot"],
        acked_to=item["acked_to"],
        sent_to=item["sent_to"],
        refused={int(seq): indexes for seq, indexes in item["refused"].items()},
        sensor=Sensor(**item["sensor"]) if "sensor" in item else None,
        messages=item.get("messages", []),
        past=Sensor(**item["past"]["sensor"]) if "past" in item else None,
        past_messages=item["past"]["messages"] if "past" in item else [],
        ahead_ms=item.get("ahead_ms", 0.0),
        unnamed=item.get("unnamed", False),
        measurement=item.get("measurement"),
        points=item.get("points", []),
    )
