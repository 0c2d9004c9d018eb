"""Which series a value belongs to: points as they are parsed in, rows of the ``points`` table out.

Rules that hold here:

* A field of a measurement has one type for all devices, as in an InfluxDB shard; another is a `TypeConflict`.
* Ids are remembered. They are forgotten when the transaction that made them is rolled back and when another connection
  changed the file: a row written under an id that is gone would never be found again.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

    from gateway.reading import Value

    Point = tuple[str, Mapping[str, str], Mapping[str, Value], int]
    """Measurement, tags, fields, and time in ns, as `gateway.reading.parse_line` gives them."""
    Row = tuple[int, int, Value]
    """Series, time in ns, value."""

DEVICE = "device"
TYPES: dict[type, str] = {float: "float", int: "integer", bool: "boolean", str: "string"}
"""Named as InfluxDB names them."""
MOST_KNOWN = 100_000
"""Measurements with their tags whose ids are remembered."""


class TypeConflict(ValueError):
    """A value is not of its field's type; the text is InfluxDB's."""

    def __init__(self, measurement: str, field: str, got: str, known: str) -> None:
        super().__init__(
            f'field type conflict: input field "{field}" on measurement "{measurement}" is type {got}, '
            f"already exists as type {known}"
        )


class SeriesCatalog:
    """The series of one database, as seen by its writing connection. Used inside a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._known: dict[tuple[object, ...], dict[str, tuple[int, type]]] = {}
        self._version = -1
        self._added = False

    def begin(self) -> None:
        """A transaction has begun: make sure that what is remembered is still true."""
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version != self._version or len(self._known) > MOST_KNOWN:
            self.forget()
        self._version = version
        self._added = False

    def rolled_back(self) -> None:
        """The transaction is undone, and with it the series that it made."""
        if self._added:
            self.forget()

    def forget(self) -> None:
        """Look every series up again."""
        self._known.clear()

    def rows(self, points: Iterable[Point]) -> list[Row]:
        """A row for each value; series that are new are made.

        Raises:
            TypeConflict: a value is not of its field's type.
        """
        rows: list[Row] = []
        for measurement, tags, fields, time_ns in points:
            key = (measurement, *tags.items())
            known = self._known.get(key)
            if known is None:
                known = self._known[key] = {}
            for field, value in fields.items():
                series = known.get(field)
                if series is None:
                    series = known[field] = self._find(measurement, tags, field, type(value))
                if type(value) is not series[1]:
                    raise TypeConflict(measurement, field, TYPES[type(value)], TYPES[series[1]])
                rows.append((series[0], time_ns, value))
        return rows

    def _find(self, measurement: str, tags: Mapping[str, str], field: str, kind: type) -> tuple[int, type]:
        """The id and type of a series, which is made if the field can have the type."""
        others = {key: value for key, value in sorted(tags.items()) if key != DEVICE}
        named = (measurement, field, tags.get(DEVICE, ""), json.dumps(others, ensure_ascii=False))
        types = self._connection.execute(
            "SELECT type FROM series WHERE measurement = ? AND field = ? LIMIT 1", (measurement, field)
        ).fetchone()
        if types is not None and types[0] != TYPES[kind]:
            raise TypeConflict(measurement, field, TYPES[kind], types[0])
        found = self._connection.execute(
            "SELECT id FROM series WHERE measurement = ? AND field = ? AND device = ? AND tags = ?", named
        ).fetchone()
        if found is not None:
            return found[0], kind
        self._added = True
        made = self._connection.execute(
            "INSERT INTO series (measurement, field, device, tags, type) VALUES (?, ?, ?, ?, ?) RETURNING id",
            (*named, TYPES[kind]),
        ).fetchone()
        return made[0], kind
