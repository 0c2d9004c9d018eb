"""The next batch after every kind of result."""

from __future__ import annotations

from math import inf

from gateway.delivery.pipeline import Pipeline
from tests.support.delivery import MemoryRecord, entry, line


def filled(count: int, per_record: int = 4, max_readings: int = 4) -> Pipeline:
    pipeline = Pipeline(max_readings, 1 << 20)
    for number in range(1, count + 1):
        points = [line("a", 100 * number + index) for index in range(per_record)]
        pipeline.add(MemoryRecord(number, 0, (entry("a", *points),)), due=float(number))
    return pipeline


def done_ids(pipeline: Pipeline) -> list[int]:
    return [underway.record_id for underway in pipeline.progress.take_finished()]


def test_a_batch_that_is_written_again_goes_before_newer_ones() -> None:
    pipeline = filled(3)
    first, second = pipeline.take(), pipeline.take()
    pipeline.again(second)
    pipeline.again(first)
    assert [pipeline.take() for _ in range(3)][:2] == [first, second]
    assert not pipeline.ready


def test_the_halves_of_a_refused_batch_go_first() -> None:
    pipeline = filled(2)
    refused = pipeline.take()
    pipeline.split(refused)
    left, right = pipeline.take(), pipeline.take()
    assert left.lines + right.lines == refused.lines
    pipeline.stored(right)
    pipeline.split(left)
    good, bad = pipeline.take(), pipeline.take()
    pipeline.stored(good)
    assert done_ids(pipeline) == []
    origin = pipeline.origin(bad)
    assert (origin.record_id, origin.line) == (1, 1)
    pipeline.dead(bad)
    assert done_ids(pipeline) == [1]


def test_flush_makes_the_batch_being_assembled_ready() -> None:
    pipeline = filled(1, per_record=2)
    assert not pipeline.ready
    assert pipeline.due == 1.0
    pipeline.flush()
    assert pipeline.take().count == 2
    assert pipeline.due == inf


def test_a_record_without_points_makes_no_batch() -> None:
    pipeline = Pipeline(4, 1000)
    pipeline.add(MemoryRecord(1, 0, (entry("a", duplicate=1),)), due=0.0)
    assert not pipeline.empty
    assert not pipeline.ready
    assert pipeline.due == inf
    assert done_ids(pipeline) == [1]
    assert pipeline.empty


def test_dropped_records_leave_every_batch() -> None:
    pipeline = filled(3, per_record=3, max_readings=6)
    out = pipeline.take()
    pipeline.again(out)
    pipeline.forget(1)
    assert pipeline.take().start == (2, 0)
    pipeline.forget(3)
    assert pipeline.empty
    assert not pipeline.ready
    assert pipeline.due == inf


def test_a_batch_in_flight_comes_back_without_records_dropped_meanwhile() -> None:
    for comes_back in (Pipeline.again, Pipeline.split):
        pipeline = filled(3, per_record=2, max_readings=4)
        out = pipeline.take()
        pipeline.forget(1)
        comes_back(pipeline, out)
        parts = []
        while pipeline.ready:
            parts.append(pipeline.take())
            assert pipeline.origin(parts[-1]).record_id == 2
        assert sum(part.count for part in parts) == 2
    gone = filled(1, per_record=4)
    out = gone.take()
    gone.forget(1)
    gone.split(out)
    assert not gone.ready
