"""Line protocol in, rows of ``points`` out: the part that costs most, so what a line looks like is remembered.

Rules that hold here:

* A line whose text before the fields was seen before, with the same field names, is cut at its separators and its
  values are read by the types the last one had. Every other line goes the long way through
  `gateway.line_protocol.parse_line`; both give the same.
* A row has as many columns as its series has fields so far. Rows with more columns were made later, so storing rows
  by their number of columns keeps the order in which values of one series arrived, and the last still wins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.line_protocol import Series, parse_line, split_lines
from gateway.sinks.sqlite.layout import MAX_INT64, MIN_INT64
from gateway.sinks.sqlite.schema import SLOTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.line_protocol import Value
    from gateway.sinks.sqlite.catalog import Catalog

    Row = tuple[int | Value | None, ...]
    """Series, time in ns, values by column."""


class TransactionRows:
    """The rows of one transaction, by their number of columns."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.by_width: list[list[Row]] = [[] for _ in range(SLOTS + 1)]

    def add(self, lines: bytes) -> None:
        """Take points.

        Raises:
            TypeConflict: a value is not of its field's type.
            ValueError: these are no points, or a number has more than 64 bits.
        """
        text = lines.decode()
        if not text.endswith("\n"):
            raise ValueError("the last line has no end")
        if '"' not in text:
            return self._add(text[:-1].split("\n"))
        kept = [len(rows) for rows in self.by_width]
        try:
            return self._add(text[:-1].split("\n"))
        except ValueError:
            # A string may hold a newline: then the line is cut in the middle of it, and no piece with one quote is a
            # line. Cutting at the right places takes longer.
            for rows, count in zip(self.by_width, kept, strict=True):
                del rows[count:]
            return self._add([line.decode()[:-1] for line in split_lines(lines)])

    def _add(self, lines: Iterable[str]) -> None:
        recent, touch = self._catalog.recent, self._catalog.touch
        keep = [rows.append for rows in self.by_width]
        for line in lines:
            try:
                head, pairs, stamp = line.split(" ")
                layout = recent[head]
                words = pairs.replace("=", ",").split(",")
                if len(words) != layout.words or words[::2] != layout.names:
                    raise KeyError  # noqa: TRY301 - a call for every line would cost more
                values = [*map(float, words[1::2])] if layout.floats else layout.read(words[1::2])
                time_ns = int(stamp)
                part = layout.whole
            except (KeyError, ValueError):
                self._add_other(line)
                continue
            if not part.hour <= time_ns < part.until:
                if not MIN_INT64 <= time_ns <= MAX_INT64:
                    raise ValueError(f"a timestamp has more than 64 bits: {line[:200]!r}")
                touch(part, time_ns)
            keep[part.width]((part.id, time_ns, *values))

    def _add_other(self, line: str) -> None:
        measurement, tags, fields, time_ns = parse_line(line.encode())
        for value in (*fields.values(), time_ns):
            if isinstance(value, int) and not MIN_INT64 <= value <= MAX_INT64:
                raise ValueError(f"a number has more than 64 bits: {line[:200]!r}")
        head = Series(measurement, tags).prefix[:-1] if "\\" in line else line.partition(" ")[0]
        layout = self._catalog.layout(head, measurement, tags, fields)
        values = list(fields.values())
        for part, positions in layout.columns:
            self._catalog.touch(part, time_ns)
            columns = (None if position is None else values[position] for position in positions)
            self.by_width[part.width].append((part.id, time_ns, *columns))
