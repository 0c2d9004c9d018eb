"""A recorded table, sent at its own pace, at a multiple of it, or as fast as acks come.

The readings keep the times of the file. Rows that are due together go in one message, up to a number of rows and to the
gateway's message limit. Few messages may be unacknowledged, so a slow gateway slows the replay, and memory stays small.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import orjson

from devices_sim.link import Link
from devices_sim.protocol import Device, Phase
from devices_sim.report import DeviceReport
from devices_sim.scheduler import clock
from devices_sim.table import TableError
from devices_sim.times import wire_time

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from devices_sim.network import Network
    from devices_sim.table import Row

_MAX_PENDING = 16
"""Messages that may be unacknowledged; fewer if the gateway allows fewer."""
_POLL_INTERVAL = 0.005
"""Seconds between two checks for rows that are due."""
_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9._:-]+")


@dataclass(frozen=True, slots=True)
class Recording:
    """A table to replay; ``speed`` is a multiple of the recorded pace, None as fast as possible."""

    rows: Sequence[Row]
    device: str
    tokens: Callable[[str], str | None]
    speed: float | None = None
    measurement: str | None = None
    batch: int = 500
    ack: str = "durable"

    def by_device(self) -> dict[str, list[Row]]:
        """The rows of each device id; raises TableError when two values of the device column give one id."""
        by_id: dict[str, list[Row]] = {}
        for row in self.rows:
            by_id.setdefault(device_id(self.device, row.device), []).append(row)
        for name, rows in by_id.items():
            if len(values := {row.device for row in rows}) > 1:
                raise TableError(f"{' and '.join(sorted(values))} would both be the device {name}")
        return by_id

    def build(self, network: Network, boot: str) -> list[ReplayedDevice]:
        """One source per device of the table."""
        rng = Random()  # noqa: S311 - jitter
        return [self._device(name, rows, network, boot, rng) for name, rows in self.by_device().items()]

    def _device(self, name: str, rows: list[Row], network: Network, boot: str, rng: Random) -> ReplayedDevice:
        device = Device(name, boot, network.tally, rng, ack=self.ack)
        device.info = {"model": "replayed"}
        device.outbox.refused = {}
        link = Link(device, network, self.tokens(name))
        return ReplayedDevice(link, network, [row for row in rows if row.fields], self)


def device_id(base: str, value: str) -> str:
    """The device id for ``value`` of the device column, with only the characters that an id may have."""
    tail = _NOT_IN_AN_ID.sub("-", value).strip("-")
    return f"{base}-{tail}"[:128] if tail else base


class ReplayedDevice:
    """One device's rows, in order."""

    def __init__(self, link: Link, network: Network, rows: list[Row], recording: Recording) -> None:
        self.link = link
        self._network = network
        self._rows = rows
        self._recording = recording
        self._next = 0
        """Index of the next row to submit."""
        self._begun_at = 0.0
        """The start, in seconds of the steady clock."""
        self._begun_ns = min(row.time_ns for row in recording.rows)
        """The time of the first row of any device."""
        self._sent: list[tuple[int, int]] = []
        """By seq: the first row of the message, and the one after its last."""
        self._stopped = False

    @property
    def finished(self) -> bool:
        """Whether every row is submitted."""
        return self._stopped or self._next == len(self._rows)

    @property
    def left(self) -> int:
        """Rows not yet submitted."""
        return len(self._rows) - self._next

    def start(self) -> None:
        """Connect and begin."""
        self._begun_at = clock()
        self.link.connect()
        self._send_due()

    def stop(self) -> None:
        """Submit no more."""
        self._stopped = True

    def report(self) -> DeviceReport:
        """What it sent, and what was acknowledged and refused."""
        device = self.link.device
        return DeviceReport(
            id=device.id,
            boot=device.boot,
            acked_to=device.outbox.acked_to,
            sent_to=device.outbox.highest_sent,
            refused=device.outbox.refused or {},
            measurement=self._recording.measurement,
            points=[
                [(row.time_ns, row.tags, dict(row.fields)) for row in self._rows[first:end]]
                for first, end in self._sent
            ],
        )

    def _send_due(self) -> None:
        if self.finished:
            return
        device = self.link.device
        while device.phase is Phase.READY and len(device.outbox.pending) < _MAX_PENDING:
            if not (parts := self._take()):
                break
            self.link.submit(self._message(parts), len(parts))
        self._network.scheduler.at(clock() + _POLL_INTERVAL, self._send_due)

    def _take(self) -> list[bytes]:
        """The next rows that are due and fit into one message, encoded."""
        room = self.link.device.limits.max_message_bytes - len(self._message([]))
        until, first = self._due_until(), self._next
        parts: list[bytes] = []
        while self._next < len(self._rows) and len(parts) < self._recording.batch:
            row = self._rows[self._next]
            part = _encode(row)
            room -= len(part) + 1
            if row.time_ns > until or (room < 0 and parts):
                break
            parts.append(part)
            self._next += 1
        if parts:
            self._sent.append((first, self._next))
        return parts

    def _due_until(self) -> float:
        speed = self._recording.speed
        if speed is None:
            return float("inf")
        return self._begun_ns + (clock() - self._begun_at) * speed * 1e9

    def _message(self, parts: list[bytes]) -> bytes:
        head: dict[str, Any] = {"seq": self.link.device.outbox.next_seq}
        if self._recording.measurement is not None:
            head["m"] = self._recording.measurement
        return orjson.dumps(head)[:-1] + b',"readings":[' + b",".join(parts) + b"]}"


def _encode(row: Row) -> bytes:
    reading: dict[str, Any] = {"ts": wire_time(row.time_ns), "values": row.fields}
    if row.tags:
        reading["tags"] = row.tags
    return orjson.dumps(reading)
