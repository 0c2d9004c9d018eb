"""A CSV file as typed readings. The header has the field names; one column is the time, all others are fields or tags.

A column holds numbers if each value in it is a number that a float represents exactly as written; booleans if all are
true or false; else text. So ``007`` and a 20-digit serial number stay text. An empty cell is no value, and neither is
``nan`` or ``NA`` in a column of numbers.
"""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devices_sim.times import is_calendar_time, parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from devices_sim.sensors import Value

_TIME_NAMES = ("time", "timestamp", "datetime", "date", "ts", "date_time", "time_utc", "recorded_at")
_ABSENT = ("", "nan", "na", "n/a", "null")
_WHOLE = re.compile(r"[+-]?\d+")
_GUESS_ROWS = 20
_FIELD_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,64}")


class TableError(Exception):
    """A file that cannot be replayed as asked; the text says what to change."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that are not fields. Without ``time``, `read_table` finds the column of the time itself."""

    time: str | None = None
    time_format: str | None = None
    tags: tuple[str, ...] = ()
    device: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One reading; ``line`` is where the file has it, ``device`` the value of the device column."""

    line: int
    device: str
    time_ns: int
    tags: dict[str, str]
    fields: dict[str, Value]


def read_table(path: Path, columns: Columns) -> list[Row]:
    """The file's rows in order of time.

    Raises:
        TableError: the file does not fit ``columns``, or rows would overwrite each other in the database.
        OSError: it cannot be read.
    """
    header, cells, lines = _load(path)
    for name in (columns.time, columns.device, *columns.tags):
        if name is not None and name not in header:
            raise TableError(f"{path}: no column {name!r}; there are {', '.join(header)}")
    time = columns.time or _find_time(path, header, cells)
    names = [name for name in header if name not in {time, columns.device, *columns.tags}]
    _check_names(path, names)
    place = {name: n for n, name in enumerate(header)}
    readers = {name: _reader([row[place[name]] for row in cells]) for name in names}
    rows = []
    for line, row in zip(lines, cells, strict=True):
        values = ((name, read(row[place[name]])) for name, read in readers.items())
        rows.append(
            Row(
                line=line,
                device=row[place[columns.device]] if columns.device else "",
                time_ns=_time(path, line, row[place[time]], columns.time_format),
                tags={tag: row[place[tag]] for tag in columns.tags if row[place[tag]]},
                fields={name: value for name, value in values if value is not None},
            )
        )
    rows.sort(key=lambda row: row.time_ns)
    _check_overwriting(path, rows, names)
    return rows


def _load(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        header = [name.strip() for name in next(reader, [])]
        cells, lines = [], []
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise TableError(f"{path}:{reader.line_num}: {len(row)} values under {len(header)} column names")
            cells.append(row)
            lines.append(reader.line_num)
    if len(set(header)) != len(header):
        raise TableError(f"{path}: column names must differ: {', '.join(header)}")
    if not cells:
        raise TableError(f"{path}: no rows")
    return header, cells, lines


def _find_time(path: Path, header: list[str], cells: list[list[str]]) -> str:
    by_name = {name.lower(): name for name in header}
    for known in _TIME_NAMES:
        if known in by_name:
            return by_name[known]
    for n, name in enumerate(header):
        if all(is_calendar_time(row[n]) for row in cells[:_GUESS_ROWS]):
            return name
    raise TableError(f"{path}: no column looks like the time; name it with --time-column: {', '.join(header)}")


def _check_names(path: Path, names: Sequence[str]) -> None:
    for name in names:
        if name.lower() == "time" or name.startswith("_") or not _FIELD_NAME.fullmatch(name):
            raise TableError(
                f"{path}: {name!r} cannot be a field name (1 to 64 characters, not 'time', no leading '_')"
            )


def _time(path: Path, line: int, text: str, pattern: str | None) -> int:
    try:
        return parse_time(text, pattern)
    except ValueError as error:
        hint = "" if pattern else "; --time-format says how to read it, as in '%b %d %Y'"
        raise TableError(f"{path}:{line}: {error}{hint}") from error


def _reader(texts: list[str]) -> Callable[[str], Value | None]:
    """How to read the cells of one column; None for no value."""
    if all(text == "" or text.lower() in ("true", "false") for text in texts):
        return lambda text: None if text == "" else text.lower() == "true"
    if all(text.strip().lower() in _ABSENT or _is_number(text) for text in texts):
        return lambda text: None if text.strip().lower() in _ABSENT else float(text)
    return lambda text: text or None


def _is_number(text: str) -> bool:
    """Whether a float represents ``text`` exactly as written."""
    text = text.strip()
    try:
        number = float(text)
    except ValueError:
        return False
    if not math.isfinite(number) or "_" in text:
        return False
    if not _WHOLE.fullmatch(text):
        return True
    digits = text.lstrip("+-")
    return int(text) == number and (digits == "0" or not digits.startswith("0"))


def _check_overwriting(path: Path, rows: list[Row], names: list[str]) -> None:
    seen: dict[tuple[object, ...], Row] = {}
    for row in rows:
        key = (row.device, row.time_ns, *sorted(row.tags.items()))
        first = seen.setdefault(key, row)
        if first is not row and first.fields.keys() & row.fields.keys():
            texts = ", ".join(_distinguishing(rows, names)) or "none of this file"
            raise TableError(
                f"{path}: lines {first.line} and {row.line} have the same time and would overwrite each other. "
                f"Give a column that differs as --tag-column or --device-column (candidates: {texts})"
            )


def _distinguishing(rows: list[Row], names: list[str]) -> Iterator[str]:
    """Columns of text that, as a tag, would make every row unique."""
    for name in names:
        if not any(isinstance(row.fields.get(name), str) for row in rows):
            continue
        keys = {(row.device, row.time_ns, *sorted(row.tags.items()), row.fields.get(name)) for row in rows}
        if len(keys) == len(rows):
            yield name
