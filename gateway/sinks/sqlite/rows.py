"""Line protocol in, rows of ``points`` out. This takes the most time of a write, so layouts of lines are remembered.

Rules that hold here:

* The short way: a line that begins as an earlier one, up to its fields, and has the same field names, is cut at its
  separators, and its values are read by the types of that earlier line. Every other line goes the long way, through
  `gateway.line_protocol.parse_line`. Both ways give the same rows.
* A row has as many columns as its series has fields so far. A row with more columns was made later. So rows that are
  inserted by their number of columns keep the order of arrival within a series, and the last value still wins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.line_protocol import Series, parse_line, split_lines
from gateway.sinks.sqlite.layout import MAX_INT64, MIN_INT64
from gateway.sinks.sqlite.schema import SLOTS_PER_ROW

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.line_protocol import Value
    from gateway.sinks.sqlite.catalog import Catalog

    Row = tuple[int | Value | None, ...]
    """Series, time in ns, values by column."""


class TransactionRows:
    """The rows of one transaction."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        # By their number of columns with values.
        self.by_width: list[list[Row]] = [[] for _ in range(SLOTS_PER_ROW + 1)]

    def add(self, lines: bytes) -> None:
        """Add the rows of points in line protocol.

        Raises:
            TypeConflict: a value is not of its field's type.
            ValueError: a line is not a point, or a number has more than 64 bits.
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
            # A string may have a newline in it. Then this has cut it in two, and neither piece is a line, because its
            # number of quotes is odd. To cut at the right places takes longer.
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
