"""Batches of points: assembled from the spool's records, cut in two, each line traced back to its record.

Rules that hold here:

* Nothing is decoded and nothing changes: a batch is the bytes of its records in their order, and the halves of a batch,
  joined again, are the batch.
* Bytes are cut between points only. A newline inside a quoted string is part of its point. The sizes of the messages
  say where each message ends. Only a message that is too large for a batch, and a batch that the database refused, are
  searched for the ends of their points.
* A batch holds at most ``max_lines`` points and ``max_bytes`` bytes. Only a single point and an inseparable batch may
  be larger.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING

from gateway.line_protocol import split_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True, slots=True)
class Span:
    """``lines`` neighbouring points of one record, the first of them at index ``first``."""

    record_id: int
    first: int
    lines: int


@dataclass(frozen=True, slots=True)
class Batch:
    """``count`` points as line protocol, each ended by a newline, and the spans they came from, in order.

    ``inseparable`` if an attempt to cut it has shown that its points cannot be told apart.
    """

    lines: bytes
    count: int
    spans: tuple[Span, ...]
    inseparable: bool = False

    @property
    def indivisible(self) -> bool:
        """Whether it cannot be cut any further."""
        return self.count == 1 or self.inseparable

    @property
    def start(self) -> tuple[int, int]:
        """Record and index of the first point: batches are written in this order."""
        return self.spans[0].record_id, self.spans[0].first

    def origin(self, index: int) -> tuple[int, int]:
        """The record of the point at ``index`` of this batch, and its index in that record.

        Raises:
            IndexError: the batch has no such point.
        """
        if index >= 0:
            for span in self.spans:
                if index < span.lines:
                    return span.record_id, span.first + index
                index -= span.lines
        raise IndexError("no such point in this batch")

    def halves(self) -> tuple[Batch, ...]:
        """Two batches that together are this one, or one inseparable batch. There must be two points or more."""
        try:
            return self._cut(self.count // 2)
        except ValueError:
            return (replace(self, inseparable=True),)

    def after(self, record_id: int) -> Batch | None:
        """This batch without the records up to ``record_id``; None if nothing is left."""
        gone = sum(span.lines for span in self.spans if span.record_id <= record_id)
        if gone == 0:
            return self
        return self._cut(gone)[1] if gone < self.count else None

    def _cut(self, at: int) -> tuple[Batch, Batch]:
        lines = split_lines(self.lines, self.count)
        head, tail = b"".join(lines[:at]), b"".join(lines[at:])
        first, second = _cut_spans(self.spans, at)
        return Batch(head, at, first), Batch(tail, self.count - at, second)


def _cut_spans(spans: tuple[Span, ...], at: int) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    for position, span in enumerate(spans):
        if at < span.lines:
            head = (Span(span.record_id, span.first, at),) if at else ()
            tail = Span(span.record_id, span.first + at, span.lines - at)
            return spans[:position] + head, (tail, *spans[position + 1 :])
        at -= span.lines
    return spans, ()


class BatchBuilder:
    """Assembles batches from records, one batch at a time."""

    def __init__(self, max_lines: int, max_bytes: int) -> None:
        self.max_lines = max_lines
        self.max_bytes = max_bytes
        self._clear()

    def add(
        self, record_id: int, payload: bytes, lines: int, due: float, messages: Iterable[tuple[int, int]] = ()
    ) -> list[Batch]:
        """Add a record of one point or more, to be sent by ``due``; returns the batches that are full now.

        ``messages`` are the numbers of points and bytes of the record's messages: it is cut between messages if it can.
        """
        full: list[Batch] = []
        if self._fits(lines, len(payload)):
            pieces: Iterable[Batch] = (Batch(payload, lines, (Span(record_id, 0, lines),)),)
        else:
            pieces = self._whole_messages(record_id, payload, messages or ((lines, len(payload)),))
        for whole_messages in pieces:
            for piece in self._fitting(whole_messages):
                if self._pieces and not self._fits(piece.count, len(piece.lines)):
                    full += self.take()
                self._append(piece, due)
                if self._count >= self.max_lines or self._bytes >= self.max_bytes:
                    full += self.take()
        return full

    def _fits(self, lines: int, size: int) -> bool:
        return self._count + lines <= self.max_lines and self._bytes + size <= self.max_bytes

    def _whole_messages(self, record_id: int, payload: bytes, messages: Iterable[tuple[int, int]]) -> Iterator[Batch]:
        """A record cut between messages: the first piece is for the batch under way, the others are for new batches."""
        room, bytes_left = self.max_lines - self._count, self.max_bytes - self._bytes
        first = lines = start = end = 0
        for points, size in messages:
            if lines and (lines + points > room or end + size - start > bytes_left):
                yield Batch(payload[start:end], lines, (Span(record_id, first, lines),))
                room, bytes_left = self.max_lines, self.max_bytes
                first, lines, start = first + lines, 0, end
            lines += points
            end += size
        if lines:
            yield Batch(payload[start:end], lines, (Span(record_id, first, lines),))

    def take(self) -> list[Batch]:
        """End the batch under way, full or not, and return it; an empty list if it has no points."""
        if not self._pieces:
            return []
        lines = b"".join(piece.lines for piece in self._pieces)
        spans = tuple(span for piece in self._pieces for span in piece.spans)
        batch = Batch(lines, self._count, spans)
        self._clear()
        return [batch]

    def forget(self, record_id: int) -> None:
        """Take the records up to ``record_id``, which the spool has dropped, out of the batch under way."""
        pieces, due = self._pieces, self.due
        self._clear()
        for piece in pieces:
            if piece.start[0] > record_id:
                self._append(piece, due)

    def _clear(self) -> None:
        # The batch under way: what it is joined from, its points and its bytes.
        self._pieces: list[Batch] = []
        self._count = 0
        self._bytes = 0
        # The moment by which the batch under way has to be sent, in the caller's clock; infinity while it is empty.
        self.due = inf

    def _append(self, piece: Batch, due: float) -> None:
        self._pieces.append(piece)
        self._count += piece.count
        self._bytes += len(piece.lines)
        self.due = min(self.due, due)

    def _fitting(self, batch: Batch) -> Iterator[Batch]:
        """``batch`` halved until every piece is small enough for a batch of its own."""
        if not batch.indivisible and (batch.count > self.max_lines or len(batch.lines) > self.max_bytes):
            for half in batch.halves():
                yield from self._fitting(half)
        else:
            yield batch
