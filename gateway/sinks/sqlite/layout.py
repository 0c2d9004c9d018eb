"""The layout of lines that look alike: the columns that their fields go to, and how their values are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gateway.line_protocol import Value

MAX_INT64 = 2**63 - 1
MIN_INT64 = -(2**63)


class SeriesPart:
    """One row of the table ``series``."""

    __slots__ = ("hour", "id", "until", "width")

    def __init__(self, number: int) -> None:
        self.id = number
        # How many of its columns have a field.
        self.width = 0
        # The hour, from `hour` to `until` in ns since 1970, that is known to be marked stale. It needs no second mark.
        self.hour = self.until = 0

    def forget_hour(self) -> None:
        """No hour is known to be marked stale."""
        self.hour = self.until = 0


class LineLayout:
    """The layout of lines of the same series with the same fields, of the same types, in the same order."""

    __slots__ = ("_readers", "columns", "floats", "names", "whole", "words")

    def __init__(self, names: list[str], types: list[type], columns: list[tuple[SeriesPart, list[int | None]]]) -> None:
        self.names = names
        # Names and values together.
        self.words = 2 * len(names)
        # For each part of the series, and each of its columns, the position of the field in the line; None: not in it.
        self.columns = columns
        # The part that all values go to. Has a meaning only if the layout is `plain`.
        self.whole = columns[0][0]
        # Whether every value is a float.
        self.floats = set(types) == {float}
        # Turn the text of each value into the value.
        self._readers = [_READERS[kind] for kind in types]

    @property
    def plain(self) -> bool:
        """Whether the line's fields are the columns of one part, in their order."""
        return len(self.columns) == 1 and self.columns[0][1] == list(range(len(self.names)))

    def read(self, words: list[str]) -> Iterable[Value]:
        """The values of a line's fields.

        Raises:
            ValueError: a value is not of its type in this layout, or is written in a way that only `parse_line` reads.
        """
        return [read(word) for read, word in zip(self._readers, words, strict=True)]


def _integer(word: str) -> int:
    value = int(word[:-1])
    if word[-1] != "i" or not MIN_INT64 <= value <= MAX_INT64:
        raise ValueError(word)
    return value


def _boolean(word: str) -> bool:
    if word not in {"true", "false"}:
        raise ValueError(word)
    return word == "true"


def _string(word: str) -> str:
    text = word[1:-1]
    if word != f'"{text}"' or '"' in text or "\\" in text:
        raise ValueError(word)
    return text


_READERS: dict[type, Callable[[str], Value]] = {float: float, int: _integer, bool: _boolean, str: _string}
