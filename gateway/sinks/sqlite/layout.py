"""What lines that look alike have in common: where their fields go, and how their values are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gateway.line_protocol import Value

MAX_INT64 = 2**63 - 1
MIN_INT64 = -(2**63)


class SeriesPart:
    """One row of ``series``: ``width`` columns are in use; from ``hour`` to ``until`` (ns) it is known to be stale."""

    __slots__ = ("hour", "id", "until", "width")

    def __init__(self, number: int) -> None:
        self.id = number
        self.width = 0
        self.forget_hour()

    def forget_hour(self) -> None:
        """Nothing is known to be stale."""
        self.hour = self.until = 0


class LineLayout:
    """Lines with the same series and the same fields, of the same types, in the same order.

    ``columns`` has for each part and each of its columns the position in the line, or None. Where the line's fields are
    the columns of one part as they stand, that is the ``whole`` part.
    """

    __slots__ = ("_readers", "columns", "floats", "names", "whole", "words")

    def __init__(self, names: list[str], types: list[type], columns: list[tuple[SeriesPart, list[int | None]]]) -> None:
        self.names = names
        self.words = 2 * len(names)
        self.columns = columns
        self.whole = columns[0][0]
        self.floats = set(types) == {float}
        self._readers = [_READERS[kind] for kind in types]

    @property
    def plain(self) -> bool:
        """Whether there is such a part."""
        return len(self.columns) == 1 and self.columns[0][1] == list(range(len(self.names)))

    def read(self, words: list[str]) -> Iterable[Value]:
        """The values of a line's fields.

        Raises:
            ValueError: one is not of the type that it has in this layout, or not plain enough to be read here.
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
