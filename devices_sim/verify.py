"""Checks that every acknowledged reading of a report is in the database once, with its values and its time.

A reading is found when all its fields are found. A value stored twice counts as doubled. So does a value in a series
and within the time of the run that the run never sent, because a resend with another time or other tags looks like
that. A reading that was sent and not acknowledged may be in the database or not.

A gateway may correct the times of a device whose clock is wrong, and then stores the device's own time, too
(docs/reference/protocol.md, "Clocks that are wrong"). Such a reading is found by the device's own time.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from devices_sim.stores import Question

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from devices_sim.report import DeviceReport
    from devices_sim.sensors import Point, Value
    from devices_sim.stores import Row, Store

DEVICE_TIME = "device_time_ms"
"""The field with the device's own time of a point whose time was corrected."""
_UNCERTAIN_NS = 60 * 10**9
"""How far a corrected time may be off; no correction is that inexact."""
_MAX_DEVICES = 50
_MAX_EXAMPLES = 10


@dataclass(slots=True)
class Verdict:
    """Counts of readings, ``doubled`` of values; ``examples`` are texts of the first few problems.

    acked = stored + missing + wrong + unknowable.
    """

    acked: int = 0
    stored: int = 0
    missing: int = 0
    wrong: int = 0
    doubled: int = 0
    unknowable: int = 0
    """Readings without a value of a type that the database keeps."""
    values_skipped: int = 0
    """Values of a type that the database does not keep."""
    examples: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether the run is in the database."""
        return not (self.missing or self.wrong or self.doubled)

    def add(self, kind: str, text: str) -> None:
        """Count one problem."""
        setattr(self, kind, getattr(self, kind) + 1)
        if len(self.examples) < _MAX_EXAMPLES:
            self.examples.append(f"{kind}: {text}")


def verify(devices: Sequence[DeviceReport], store: Store) -> Verdict:
    """Compare the readings of ``devices`` with what ``store`` holds of them.

    Raises:
        StoreError: the database cannot be read.
    """
    verdict = Verdict()
    for n in range(0, len(devices), _MAX_DEVICES):
        expectations = _Expectations(store, verdict)
        for device in devices[n : n + _MAX_DEVICES]:
            expectations.add_device(device)
        if (question := expectations.question()) is not None:
            corrected = expectations.corrected
            for row in _by_own_time(store, question) if corrected else store.rows(question):
                expectations.see(row)
        expectations.conclude()
    return verdict


def _by_own_time(store: Store, question: Question) -> Iterator[Row]:
    """The rows, with the times that the devices gave them."""
    question = replace(question, fields=question.fields | {DEVICE_TIME})
    own = {_point(row): int(row.value) * 1_000_000 for row in store.rows(question) if row.field == DEVICE_TIME}
    for row in store.rows(question):
        if row.field != DEVICE_TIME:
            yield replace(row, time_ns=own.get(_point(row), row.time_ns))


def _point(row: Row) -> tuple[str, str, frozenset[tuple[str, str]], int]:
    return row.device, row.measurement, frozenset(row.tags.items()), row.time_ns


@dataclass(slots=True)
class _Reading:
    device: str
    point: Point
    acked: bool
    values: int = 0
    left: int = 0
    """Values that are expected and not yet seen."""
    wrong: str = ""

    def text(self) -> str:
        """The reading in an example of a problem."""
        return f"{self.device} {dict(self.point.fields)} at {self.point.time_ns}"


@dataclass(slots=True)
class _Slot:
    """One value of a reading, to be seen once."""

    reading: _Reading
    value: Value
    seen: bool = False

    def fits(self, row: Row) -> bool:
        """Whether ``row`` is in this value's series; the gateway may add tags of its own."""
        point = self.reading.point
        return point.measurement in (None, row.measurement) and point.tags.items() <= row.tags.items()


class _Expectations:
    """The readings that some devices should have in the database."""

    def __init__(self, store: Store, verdict: Verdict) -> None:
        self._store = store
        self._verdict = verdict
        self._readings: list[_Reading] = []
        self._slots: dict[tuple[str, str, int], list[_Slot]] = {}
        """By device, field and time (ns)."""
        self._windows: dict[str, tuple[int, int]] = {}
        """By device: times of the first and the last reading (ns)."""
        self._fields: dict[str, set[str]] = {}
        """By device: names of the fields that it sent."""
        self._ahead_ns: dict[str, int] = {}
        """By device: how far its clock is ahead; 0 for a clock that is right."""

    @property
    def corrected(self) -> bool:
        """Whether the times of some readings may have been corrected."""
        return any(self._ahead_ns.values())

    def add_device(self, device: DeviceReport) -> None:
        self._ahead_ns[device.id] = round(device.ahead_ms * 1e6)
        for point in device.acked():
            self._verdict.acked += 1
            self._add(device.id, point, acked=True)
        for point in device.uncertain():
            self._add(device.id, point, acked=False)

    def question(self) -> Question | None:
        """The query for the database; None if no reading is expected."""
        if not self._windows:
            return None
        spans = [self._span(device, *window) for device, window in self._windows.items()]
        return Question(
            devices=sorted(self._windows),
            start_ns=min(start for start, _ in spans),
            end_ns=max(end for _, end in spans),
            fields=frozenset().union(*self._fields.values()),
        )

    def _span(self, device: str, start: int, end: int) -> tuple[int, int]:
        """The first and the last time that its readings may have in the database."""
        ahead = self._ahead_ns[device]
        if not ahead:
            return start, end
        return min(start, start - ahead - _UNCERTAIN_NS), max(end, end - ahead + _UNCERTAIN_NS)

    def see(self, row: Row) -> None:
        """Compare one stored value with the expected ones."""
        slots = [s for s in self._slots.get((row.device, row.field, row.time_ns), ()) if s.fits(row)]
        fresh = [s for s in slots if not s.seen]
        if fresh:
            slot = next((s for s in fresh if s.value == row.value), fresh[0])
            slot.seen = True
            slot.reading.left -= 1
            if slot.value != row.value:
                slot.reading.wrong = f"{_name(row)} is {row.value!r}, was sent as {slot.value!r}"
        elif slots:
            self._verdict.add("doubled", f"{_name(row)} is there more than once")
        elif self._ours(row):
            self._verdict.add("doubled", f"{_name(row)} = {row.value!r} was never sent like that")

    def conclude(self) -> None:
        """Count the acknowledged readings by what was found of them."""
        for reading in self._readings:
            if not reading.acked:
                continue
            if reading.wrong:
                self._verdict.add("wrong", reading.wrong)
            elif reading.left:
                self._verdict.add("missing", reading.text())
            elif not reading.values:
                self._verdict.unknowable += 1
            else:
                self._verdict.stored += 1

    def _add(self, device: str, point: Point, *, acked: bool) -> None:
        time_ns = point.time_ns - point.time_ns % self._store.precision_ns
        reading = _Reading(device, point, acked)
        self._readings.append(reading)
        start, end = self._windows.get(device, (time_ns, time_ns))
        self._windows[device] = min(start, time_ns), max(end, time_ns)
        names = self._fields.setdefault(device, set())
        for name, value in point.fields.items():
            if not self._store.comparable(value):
                self._verdict.values_skipped += acked
                continue
            names.add(name)
            reading.values += 1
            reading.left += 1
            self._slots.setdefault((device, name, time_ns), []).append(_Slot(reading, value))

    def _ours(self, row: Row) -> bool:
        """Whether ``row`` is within the time and the fields of its device in this run."""
        start, end = self._windows[row.device]
        return start <= row.time_ns <= end and row.field in self._fields[row.device]


def _name(row: Row) -> str:
    return f"{row.device} {row.measurement} {row.field} at {row.time_ns}"
