"""Batches: nothing lost, nothing reordered, every line traceable."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.delivery.batch import Batch, BatchBuilder, Span

POINT = st.sampled_from(
    [b"m v=1 1\n", b'm s="two\nlines" 2\n', b'm s="a \\" quote,\n\n" 3\n', b"m,t=x\xc3\xa9 v=1.5 4\n"]
)
RECORDS = st.lists(st.lists(POINT, min_size=1, max_size=9), min_size=1, max_size=9)


def built(records: list[list[bytes]], max_lines: int, max_bytes: int, per_message: int = 0) -> list[Batch]:
    builder = BatchBuilder(max_lines, max_bytes)
    batches = []
    for number, points in enumerate(records, start=1):
        messages = [points[at : at + per_message] for at in range(0, len(points), per_message)] if per_message else []
        sizes = [size for each in messages for size in ((len(each), len(b"".join(each))), (0, 0))]
        batches += builder.add(number, b"".join(points), len(points), float(number), sizes)
    return batches + builder.take()


def check(batch: Batch, records: list[list[bytes]]) -> None:
    """Every point of the batch is at its origin in the records."""
    points = [records[record_id - 1][index] for record_id, index in map(batch.origin, range(batch.count))]
    assert b"".join(points) == batch.lines
    assert batch.start == batch.origin(0)
    with pytest.raises(IndexError):
        batch.origin(batch.count)


def pieces(batch: Batch) -> list[Batch]:
    return [batch] if batch.count == 1 else [piece for half in batch.halves() for piece in pieces(half)]


@given(RECORDS, st.integers(1, 8), st.integers(1, 80), st.integers(0, 4))
def test_batches_are_the_records_in_their_order_within_the_limits(
    records: list[list[bytes]], max_lines: int, max_bytes: int, per_message: int
) -> None:
    batches = built(records, max_lines, max_bytes, per_message)
    assert b"".join(batch.lines for batch in batches) == b"".join(b"".join(points) for points in records)
    for batch in batches:
        check(batch, records)
        assert batch.count == 1 or (batch.count <= max_lines and len(batch.lines) <= max_bytes)


@given(RECORDS)
def test_halving_down_to_single_points_keeps_every_byte_and_origin(records: list[list[bytes]]) -> None:
    (batch,) = built(records, 1000, 1 << 20)
    singles = pieces(batch)
    assert [piece.lines for piece in singles] == [point for points in records for point in points]
    for piece in singles:
        check(piece, records)
    if batch.count > 1:
        first, second = batch.halves()
        assert abs(first.count - second.count) <= 1
        assert first.start < second.start


@given(RECORDS, st.integers(0, 10))
def test_a_batch_loses_only_its_dropped_records(records: list[list[bytes]], dropped_to: int) -> None:
    (batch,) = built(records, 1000, 1 << 20)
    left = batch.after(dropped_to)
    rest = b"".join(b"".join(points) for points in records[dropped_to:])
    assert (left.lines if left else b"") == rest
    if left is not None:
        check(left, records)


@given(RECORDS, st.integers(0, 10), st.integers(1, 8))
def test_a_builder_forgets_dropped_records(records: list[list[bytes]], dropped_to: int, max_lines: int) -> None:
    builder = BatchBuilder(max_lines, 1 << 20)
    out = []
    for number, points in enumerate(records, start=1):
        out += builder.add(number, b"".join(points), len(points), due=1.0)
    builder.forget(dropped_to)
    assert (builder.due == inf) == (not (rest := builder.take()))
    sent = sum(batch.count for batch in out)
    everything = [(number, point) for number, points in enumerate(records, start=1) for point in points]
    expected = [point for number, point in everything[sent:] if number > dropped_to]
    assert b"".join(batch.lines for batch in rest) == b"".join(expected)


def test_a_batch_is_due_when_its_oldest_record_is() -> None:
    builder = BatchBuilder(3, 1000)
    assert builder.due == inf
    builder.add(1, b"m v=1 1\n", 1, due=20.0)
    builder.add(2, b"m v=1 2\n", 1, due=30.0)
    assert builder.due == 20.0
    (full,) = builder.add(3, b"m v=1 3\n", 1, due=30.0)
    assert full.count == 3
    assert builder.due == inf
    assert builder.take() == []


def test_a_full_batch_does_not_wait_for_the_next_record() -> None:
    builder = BatchBuilder(100, 16)
    assert builder.add(1, b"m v=1 1\n", 1, due=0.0) == []
    (full,) = builder.add(2, b"m v=1 2\n", 1, due=0.0)
    assert full.spans == (Span(1, 0, 1), Span(2, 0, 1))


def test_a_record_that_does_not_fit_is_cut_between_messages_and_fills_batches() -> None:
    builder = BatchBuilder(5, 1 << 20)
    assert builder.add(1, b"m v=1 1\n", 1, due=0.0) == []
    point = b'm s="\n" 2\n'
    (first,) = builder.add(2, point * 8, 8, 0.0, [(2, 2 * len(point))] * 4)
    (second,) = builder.take()
    assert first.spans == (Span(1, 0, 1), Span(2, 0, 4))
    assert second.spans == (Span(2, 4, 4),)
