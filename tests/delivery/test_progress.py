"""Finished records, and their refused readings."""

from __future__ import annotations

import pytest

from gateway.delivery.batch import Span
from gateway.delivery.progress import PointOrigin, Progress
from gateway.ledger import Entry, Kind
from tests.support.delivery import MemoryRecord, entry, line


def record(number: int, *entries: Entry) -> MemoryRecord:
    return MemoryRecord(number, 1000 + number, entries)


def done_ids(progress: Progress) -> list[int]:
    return [underway.record_id for underway in progress.take_finished()]


def test_records_are_finished_in_order_only() -> None:
    progress = Progress()
    for number in (1, 2, 5):
        assert progress.add(record(number, entry("a", line("a", 1), line("a", 2)))) == 2
    progress.finished([Span(2, 0, 2), Span(5, 0, 1)])
    assert done_ids(progress) == []
    progress.finished([Span(1, 0, 2)])
    assert done_ids(progress) == [1, 2]
    progress.finished([Span(5, 1, 1)])
    assert done_ids(progress) == [5]
    assert (len(progress), progress.bytes, progress.entries) == (0, 0, 0)


def test_a_record_without_points_is_finished_but_keeps_its_place() -> None:
    progress = Progress()
    progress.add(record(1, entry("a", line("a", 1))))
    assert progress.add(record(2, entry("a", duplicate=3))) == 0
    assert progress.entries == 2
    assert done_ids(progress) == []
    progress.finished([Span(1, 0, 1)])
    assert done_ids(progress) == [1, 2]


def test_a_refused_point_is_counted_for_the_device_that_sent_it() -> None:
    progress = Progress()
    entries = (
        entry("a", line("a", 1), line("a", 2)),
        entry("nothing", rejected=1),
        entry("b", line("b", 3)),
        entry("b", line("b", 4), kind=Kind.PRESENCE),
    )
    progress.add(record(7, *entries))
    assert [progress.origin(7, index) for index in range(4)] == [
        PointOrigin(7, 0, 1007, "a", counted=True),
        PointOrigin(7, 1, 1007, "a", counted=True),
        PointOrigin(7, 2, 1007, "b", counted=True),
        PointOrigin(7, 3, 1007, "b", counted=False),
    ]
    for index in (1, 2, 3):
        progress.refused(7, index)
    progress.finished([Span(7, 0, 1)])
    (underway,) = progress.take_finished()
    assert underway.refused == {"a": 1, "b": 1}, "presence is not part of a device's account"


def test_missing_points_have_no_origin() -> None:
    progress = Progress()
    progress.add(record(1, entry("a", line("a", 1))))
    with pytest.raises(IndexError):
        progress.origin(1, 1)
    with pytest.raises(KeyError):
        progress.origin(2, 0)


def test_results_for_forgotten_records_change_nothing() -> None:
    progress = Progress()
    for number in (1, 2):
        progress.add(record(number, entry("a", line("a", number))))
    progress.forget(1)
    progress.finished([Span(1, 0, 1)])
    progress.refused(1, 0)
    assert done_ids(progress) == []
    assert progress.entries == 1
    progress.finished([Span(2, 0, 1)])
    assert done_ids(progress) == [2]
