from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from devices_sim.report import DeviceReport
from devices_sim.sensors import Sensor
from devices_sim.stores import Question, Row
from devices_sim.verify import Verdict, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devices_sim.sensors import Value

START_MS = 1_795_000_000_000
MS = 1_000_000


@dataclass
class Memory:
    """A database in memory."""

    stored: list[Row]
    precision_ns: int = 1
    texts: bool = True
    questions: list[Question] = field(default_factory=list)

    def comparable(self, value: Value) -> bool:
        return self.texts or not isinstance(value, str)

    def rows(self, question: Question) -> Iterator[Row]:
        self.questions.append(question)
        for row in self.stored:
            if row.device in question.devices and question.start_ns <= row.time_ns <= question.end_ns:
                yield row


def device(name: str = "d", kind: str = "logger", **over: Any) -> DeviceReport:
    values: dict[str, Any] = {
        "id": name, "boot": "b", "acked_to": 1, "sent_to": 1, "sensor": Sensor(kind, 7, START_MS, 1000),
        "messages": [[0, 0, 5, 2]],
    }  # fmt: skip
    return DeviceReport(**{**values, **over})


def stored(report: DeviceReport) -> list[Row]:
    """What a faultless gateway would have written, with a tag of its own."""
    points = [*report.acked(), *report.uncertain()]
    return [
        Row(report.id, p.measurement or "telemetry", name, {**p.tags, "site": "x"}, p.time_ns, value)
        for p in points
        for name, value in p.fields.items()
    ]


def check(rows: list[Row], *reports: DeviceReport, **over: Any) -> Verdict:
    return verify(reports, Memory(rows, **over))


def counts(verdict: Verdict) -> tuple[int, int, int, int, int]:
    return verdict.acked, verdict.stored, verdict.missing, verdict.wrong, verdict.doubled


@pytest.mark.parametrize("kind", ["climate", "tracker", "logger", "machine"])
def test_a_faultless_run_is_good(kind: str) -> None:
    report = device(kind=kind, messages=[[0, 0, 1, 2]])
    verdict = check(stored(report), report)
    assert verdict.good
    assert verdict.acked == verdict.stored == (40 if kind == "machine" else 2)


def change(index: int, **over: Any) -> Callable[[list[Row]], list[Row]]:
    return lambda rows: [*rows[:index], replace(rows[index], **over), *rows[index + 1 :]]


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        pytest.param(lambda rows: rows[:-1], (10, 9, 1, 0, 0), id="a value is missing"),
        pytest.param(lambda rows: rows[4:], (10, 9, 1, 0, 0), id="a reading is missing"),
        pytest.param(lambda _rows: [], (10, 0, 10, 0, 0), id="everything is missing"),
        pytest.param(change(0, value=-1.0), (10, 9, 0, 1, 0), id="another value"),
        pytest.param(change(0, value="31.5"), (10, 9, 0, 1, 0), id="another type"),
        pytest.param(lambda rows: [*rows, rows[3]], (10, 10, 0, 0, 1), id="a value twice"),
        pytest.param(change(8, time_ns=START_MS * MS + 1), (10, 9, 1, 0, 1), id="moved by a nanosecond"),
        pytest.param(
            lambda rows: [*rows, replace(rows[0], measurement="m2")], (10, 10, 0, 0, 1), id="two measurements"
        ),
        pytest.param(lambda rows: [*rows, replace(rows[0], tags={})], (10, 10, 0, 0, 1), id="with and without a tag"),
        pytest.param(change(0, device="e"), (10, 9, 1, 0, 0), id="under another device"),
        pytest.param(lambda rows: [*rows, replace(rows[0], field="other")], (10, 10, 0, 0, 0), id="somebody's field"),
        pytest.param(
            lambda rows: [*rows, replace(rows[0], time_ns=START_MS * MS - 1)], (10, 10, 0, 0, 0), id="an earlier run"
        ),
    ],
)
def test_what_is_wrong_is_found(
    damage: Callable[[list[Row]], list[Row]], expected: tuple[int, int, int, int, int]
) -> None:
    report = device()
    verdict = check(damage(stored(report)), report)
    assert counts(verdict) == expected
    assert verdict.good == (sum(expected[2:]) == 0)
    assert bool(verdict.examples) == (not verdict.good)


HOUR_MS = 3_600_000


def corrected(row: Row, by_ns: int) -> list[Row]:
    moved = replace(row, time_ns=row.time_ns + by_ns)
    return [moved, replace(moved, field="device_time_ms", value=row.time_ns // MS)]


@pytest.mark.parametrize("ahead_ms", [HOUR_MS, -HOUR_MS])
def test_readings_whose_time_was_corrected_are_found_by_their_own(ahead_ms: int) -> None:
    report = device(kind="climate", messages=[[0, 0, 1, 2]], ahead_ms=float(ahead_ms))
    first, *rest = stored(report)
    by_ns = -ahead_ms * MS + 5_000_000
    rows = [row for each in rest for row in corrected(each, by_ns)]
    assert check(rows + corrected(first, by_ns), report).good
    assert check([first, *rest], report).good, "none of them was"
    assert counts(check(rows, report)) == (2, 1, 1, 0, 0)
    assert counts(check(rows + corrected(first, by_ns) + corrected(first, by_ns + 1), report)) == (2, 2, 0, 0, 1)
    assert not check(rows + corrected(first, by_ns), replace(report, ahead_ms=0.0)).good


def test_what_was_not_acknowledged_may_be_there_or_not_but_not_twice() -> None:
    report = device(acked_to=0)
    rows = stored(report)
    assert counts(check(rows, report)) == (5, 5, 0, 0, 0)
    assert counts(check(rows[:20], report)) == (5, 5, 0, 0, 0)
    assert counts(check([*rows, rows[-1]], report)) == (5, 5, 0, 0, 1)


def test_a_refused_reading_must_not_be_there() -> None:
    report = device()
    rows = stored(report)
    report.refused = {0: [2]}
    assert counts(check(rows, report)) == (9, 9, 0, 0, 4)


def test_many_devices_are_asked_for_in_parts() -> None:
    reports = [device(f"d{n}", kind="climate", messages=[[0, 0, 1, 2]]) for n in range(120)]
    database = Memory([row for report in reports for row in stored(report)])
    assert verify(reports, database).stored == 240
    assert [len(question.devices) for question in database.questions] == [50, 50, 20]


def test_each_device_has_a_time_of_its_own() -> None:
    """What one device sent in an earlier run is not doubled because the clock of another is hours late."""
    late = device("late", sensor=Sensor("logger", 7, START_MS - 7_200_000, 1000))
    report = device()
    earlier = replace(stored(report)[0], time_ns=(START_MS - 3_600_000) * MS)
    assert counts(check([*stored(report), *stored(late), earlier], report, late)) == (20, 20, 0, 0, 0)


def test_devices_that_sent_nothing_are_not_asked_for() -> None:
    database = Memory([])
    assert verify([device(acked_to=-1, sent_to=-1)], database).good
    assert database.questions == []


def replayed(points: list[Any]) -> DeviceReport:
    return DeviceReport("r", "b", acked_to=0, sent_to=0, points=[points])


def test_rows_at_one_time_are_told_apart_by_their_tags() -> None:
    report = replayed([(5, {"place": "a"}, {"v": 1.0}), (5, {"place": "b"}, {"v": 2.0})])
    rows = [Row("r", "m", "v", {"place": place, "x": "y"}, 5, value) for place, value in (("b", 2.0), ("a", 1.0))]
    assert counts(check(rows, report)) == (2, 2, 0, 0, 0)
    rows[0] = replace(rows[0], tags={"place": "a"})
    assert counts(check(rows, report)) == (2, 0, 1, 1, 1)


def test_a_coarser_clock_is_allowed_for() -> None:
    report = replayed([(5_000_001, {}, {"v": 1.0}), (5_000_002, {}, {"v": 2.0}), (-1, {}, {"v": 3.0})])
    rows = [Row("r", "m", "v", {}, time, value) for time, value in ((5 * MS, 2.0), (5 * MS, 1.0), (-MS, 3.0))]
    assert counts(check(rows, report, precision_ns=MS)) == (3, 3, 0, 0, 0)


def test_types_a_database_does_not_keep_are_not_looked_for() -> None:
    report = replayed([(5, {}, {"v": 1.0, "state": "ok"}), (6, {}, {"state": "ok"})])
    verdict = check([Row("r", "m", "v", {}, 5, 1.0)], report, texts=False)
    assert counts(verdict) == (2, 1, 0, 0, 0)
    assert (verdict.unknowable, verdict.values_skipped) == (1, 2)


def test_booleans_may_come_back_as_numbers() -> None:
    report = replayed([(5, {}, {"on": True})])
    assert counts(check([Row("r", "m", "on", {}, 5, 1)], report)) == (1, 1, 0, 0, 0)
