from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from devices_sim.report import DeviceReport, MessageLog, Report, ReportError
from devices_sim.sensors import Sensor

if TYPE_CHECKING:
    from pathlib import Path

SENSOR = Sensor("logger", 7, 1_795_000_000_000, 1000)


def test_an_undisturbed_device_is_one_row() -> None:
    log = MessageLog()
    for seq in range(100):
        log.add(seq, seq * 5, 5)
    assert log.rows == [[0, 0, 5, 100]]


def test_held_back_samples_and_short_messages_begin_new_rows() -> None:
    log = MessageLog()
    for seq, tick, ticks in ((0, 0, 5), (1, 5, 5), (2, 12, 5), (3, 17, 2), (4, 19, 5)):
        log.add(seq, tick, ticks)
    assert log.rows == [[0, 0, 5, 2], [2, 12, 5, 1], [3, 17, 2, 1], [4, 19, 5, 1]]


def device(**over: Any) -> DeviceReport:
    values: dict[str, Any] = {
        "id": "d", "boot": "b", "acked_to": 2, "sent_to": 3, "refused": {1: [0, 4]}, "sensor": SENSOR,
        "messages": [[0, 0, 5, 2], [2, 12, 5, 1], [3, 17, 2, 1], [4, 19, 5, 1]],
    }  # fmt: skip
    return DeviceReport(**{**values, **over})


def ticks(points: Any) -> list[int]:
    return [(point.time_ns // 1_000_000 - SENSOR.start_ms) // 1000 for point in points]


def test_acknowledged_readings_are_made_again_without_the_refused() -> None:
    assert ticks(device().acked()) == [0, 1, 2, 3, 4, 6, 7, 8, 12, 13, 14, 15, 16]
    assert next(device().acked()) == next(SENSOR.points(0, 1))


def test_what_was_sent_and_not_acknowledged_is_uncertain() -> None:
    assert ticks(device().uncertain()) == [17, 18]
    assert ticks(device(acked_to=-1, sent_to=-1).uncertain()) == []
    assert ticks(device(acked_to=-1, sent_to=-1).acked()) == []


def test_readings_that_had_to_be_refused_are_never_expected() -> None:
    spoilt = Sensor("logger", 7, SENSOR.start_ms, 1000, bad_share=1.0)
    assert list(device(sensor=spoilt).acked()) == []


def replayed() -> DeviceReport:
    points = [[(5, {}, {"a": 1.5}), (6, {"t": "x"}, {"a": 2.5, "b": "text"})], [(7, {}, {"a": True})]]
    return DeviceReport("r", "b", acked_to=0, sent_to=1, refused={0: [0]}, measurement="m", points=points)


def test_a_replayed_device_keeps_its_points() -> None:
    (acked,) = replayed().acked()
    assert (acked.measurement, acked.time_ns, acked.tags, acked.fields) == ("m", 6, {"t": "x"}, {"a": 2.5, "b": "text"})
    (uncertain,) = replayed().uncertain()
    assert uncertain.fields == {"a": True}


def test_what_is_sent_as_senml_has_the_measurement_of_the_gateway(tmp_path: Path) -> None:
    named, unnamed = (
        device(sensor=Sensor("machine", 1, 1_795_000_000_000, 1000), unnamed=unnamed) for unnamed in (False, True)
    )
    Report({}, {}, [named, unnamed]).write(tmp_path / "report.json")
    names = [{point.measurement for point in d.acked()} for d in Report.read(tmp_path / "report.json").devices]
    assert names == [{"vibration"}, {None}]


def test_a_report_reads_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    report = Report({"seed": 1}, {"acked": 3}, [device(), replayed()])
    report.write(path)
    again = Report.read(path)
    assert (again.run, again.summary) == (report.run, report.summary)
    assert [list(d.acked()) for d in again.devices] == [list(d.acked()) for d in report.devices]
    assert [list(d.uncertain()) for d in again.devices] == [list(d.uncertain()) for d in report.devices]


@pytest.mark.parametrize("document", ["{", "{}", "[]", '{"format":"devices-sim report","version":1,"run":{}}'])
def test_what_is_no_report(tmp_path: Path, document: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(document)
    with pytest.raises(ReportError, match="not a report of devices-sim"):
        Report.read(path)


def test_a_report_of_another_version(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"format": "devices-sim report", "version": 2}))
    with pytest.raises(ReportError, match="version 2"):
        Report.read(path)
