from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.delivery.sink import Cancellation, SeriesName, SeriesQuery
from gateway.delivery.write_result import Stored
from gateway.errors import QueryError
from gateway.sinks.sqlite import sink as sink_module
from gateway.sinks.sqlite.history import MAX_COARSE_BUCKETS, SAMPLE_SIZE, BucketGrid, pieces
from gateway.sinks.sqlite.schema import HOUR_NS, MINUTE_NS
from tests.support.sqlite_truth import assert_history_is_true

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.sinks.sqlite import SqliteSink

START = 1_700_000_000_000_000_000 // HOUR_NS * HOUR_NS
SECOND = 1_000_000_000
DAY = 24 * HOUR_NS


def query(length: int, points: int, *, start: int = START, coarse: bool = False) -> SeriesQuery:
    return SeriesQuery("d1", "x", start, start + length, points, coarse=coarse)


@pytest.mark.parametrize(
    ("length", "points", "coarse", "step", "interval"),
    [
        (30 * DAY, 800, False, MINUTE_NS, 54 * MINUTE_NS),
        (30 * DAY, 7, False, HOUR_NS, 103 * HOUR_NS),
        (6 * HOUR_NS, 800, False, 1, 27 * SECOND),
        (30 * DAY, 800, True, HOUR_NS, 6 * HOUR_NS),
        (6 * HOUR_NS, 800, True, MINUTE_NS, 3 * MINUTE_NS),
        (5 * MINUTE_NS, 800, True, 1, 2500 * SECOND // 1000),
    ],
)
def test_rollups_are_used_if_buckets_are_long(
    length: int, points: int, step: int, interval: int, *, coarse: bool
) -> None:
    grid = BucketGrid.of(query(length, points, coarse=coarse))
    assert (grid.step, grid.interval) == (step, interval)


def test_buckets_are_as_long_before_the_first_write_as_afterwards(sink: SqliteSink) -> None:
    before = sink.query(query(HOUR_NS, 400))
    assert sink.write(b"m,device=other x=1 5\n") == Stored()
    assert before == sink.query(query(HOUR_NS, 400)) == ([], 9 * SECOND)


@given(st.integers(-(2**60), 2**60), st.integers(1, 2**60), st.integers(1, 10_000))
def test_there_are_never_more_buckets_than_the_query_wants(start: int, length: int, points: int) -> None:
    grid = BucketGrid.of(query(length, points, start=start))
    assert grid.origin <= start < grid.origin + grid.step
    assert grid.interval % grid.step == 0
    assert -(-(start + length - grid.origin) // grid.interval) <= points


@given(
    st.integers(-3 * HOUR_NS, 3 * HOUR_NS),
    st.integers(1, 9 * HOUR_NS),
    st.sampled_from([1, MINUTE_NS, HOUR_NS]),
    st.sets(st.integers(-5, 14)),
)
def test_pieces_cover_the_range_once_and_rollups_are_whole_and_exact(
    start: int, length: int, step: int, hours: set[int]
) -> None:
    stale = sorted(hour * HOUR_NS for hour in hours)
    at = start
    for low, high, rolled in pieces(start, start + length, step, stale):
        assert low == at < high
        at = high
        if rolled:
            assert step > 1
            assert low % step == high % step == 0
            assert not any(hour < high and low < hour + HOUR_NS for hour in stale)
        else:
            assert high - low <= max(HOUR_NS, length if step == 1 or length < 2 * step else 0)
    assert at == start + length


def test_rollups_and_points_give_the_same_answer(sink: SqliteSink, path: Path) -> None:
    source = random.Random(5)
    times = sorted({START + source.randrange(2 * DAY) for _ in range(5000)})
    lines = "".join(f"m,device=d1,site=s{at % 3} x={source.uniform(-50, 50)!r} {at}\n" for at in times)
    assert sink.write(lines.encode()) == Stored()
    asked = SeriesQuery("d1", "x", START + 12_345_678_901, START + 2 * DAY - 1, 300)
    assert BucketGrid.of(asked).step == MINUTE_NS
    before = sink.query(asked)
    while sink.roll_up():
        pass
    after = sink.query(asked)
    assert [(b.time_ns, b.low, b.high, b.count) for b in before.buckets] == [
        (b.time_ns, b.low, b.high, b.count) for b in after.buckets
    ]
    assert before.buckets[0].time_ns >= asked.start_ns
    assert assert_history_is_true(sink, path, asked) == len(times)


def test_a_coarse_query_reads_few_points_where_there_are_no_rollups(sink: SqliteSink) -> None:
    lines = "".join(f"m,device=d1 x={at % 7} {START + at * SECOND}\n" for at in range(20_000))
    assert sink.write(lines.encode()) == Stored()
    found = sink.query(query(20_000 * SECOND, 800, coarse=True))
    assert 0 < len(found.buckets) <= MAX_COARSE_BUCKETS
    assert {bucket.count for bucket in found.buckets} <= set(range(1, 3 * SAMPLE_SIZE + 1))
    while sink.roll_up():
        pass
    rolled = sink.query(query(5 * HOUR_NS, 800, coarse=True))
    assert sum(bucket.count for bucket in rolled.buckets) == 5 * 3600, "summaries hold all"


def test_the_fields_of_a_device_are_listed(sink: SqliteSink) -> None:
    assert sink.series("d1") == []
    assert sink.write(b'm,device=d1 x=1,s="t",i=5i,b=true 5\nm,device=d1,a=b x=1 5\nk,device=d1 x=1 5\n') == Stored()
    assert sink.write(b"m,device=d2 other=1 5\n") == Stored()
    assert sink.series("d1") == [
        SeriesName("k", "x", "float"),
        SeriesName("m", "b", "boolean"),
        SeriesName("m", "i", "integer"),
        SeriesName("m", "s", "string"),
        SeriesName("m", "x", "float"),
    ]


def test_a_cancelled_query_ends(sink: SqliteSink, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "".join(f"m,device=d1 x={at} {START + at}\n" for at in range(20_000))
    assert sink.write(lines.encode()) == Stored()
    monkeypatch.setattr(sink_module, "INSTRUCTIONS_PER_CHECK", 100)
    cancellation = Cancellation()
    assert sink.query(query(20_000, 10), cancellation).buckets
    cancellation.cancel()
    with pytest.raises(QueryError, match="interrupted"):
        sink.query(query(20_000, 10), cancellation)
