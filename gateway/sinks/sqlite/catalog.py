"""The catalog of series: the series, the column and the type of every field, and the hours known to be stale.

Rules that hold here:

* A field of a measurement has one type for all devices, as in an InfluxDB shard; another type is a `TypeConflict`.
* The catalog is forgotten when a transaction that added to it is rolled back, and when another connection has changed
  the file: a row that is written under an id that is gone would never be found again.
* An hour is marked stale in the transaction that writes into it. An hour is watched while its rollups are computed: a
  write into it ends the watch, and then the result is not stored.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gateway.sinks.sqlite.layout import MIN_INT64, LineLayout, SeriesPart
from gateway.sinks.sqlite.schema import HOUR_NS, SLOTS_PER_ROW, hour_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

    from gateway.line_protocol import Value

DEVICE = "device"
TYPES: dict[type, str] = {float: "float", int: "integer", bool: "boolean", str: "string"}
"""Named as InfluxDB names them."""
MAX_LAYOUTS = 100_000
"""When so many are remembered, all are forgotten."""

_FIELDS = """
SELECT id, slot, field, type FROM series LEFT JOIN fields ON series = id
WHERE device = ? AND series.measurement = ? AND tags = ? ORDER BY part, slot
"""
_NEW_SERIES = "INSERT INTO series (device, measurement, tags, part) VALUES (?, ?, ?, ?) RETURNING id"
_NEW_FIELD = "INSERT INTO fields (series, slot, measurement, field, type) VALUES (?, ?, ?, ?, ?)"
_MARK = "INSERT OR IGNORE INTO stale (series, hour_ns) VALUES (?, ?)"


class TypeConflict(ValueError):
    """A value is not of its field's type. The text is that of InfluxDB."""

    def __init__(self, measurement: str, field: str, got: str, known: str) -> None:
        super().__init__(
            f'field type conflict: input field "{field}" on measurement "{measurement}" is type {got}, '
            f"already exists as type {known}"
        )


class SeriesFamily:
    """All parts of the series of one device, measurement and tags."""

    __slots__ = ("fields", "heads", "key", "parts")

    def __init__(self, key: tuple[str, str, str]) -> None:
        # Device, measurement, and the other tags as JSON.
        self.key = key
        # In the order of their numbers; only the last one may have free slots.
        self.parts: list[SeriesPart] = []
        # The part, slot and type of each field.
        self.fields: dict[str, tuple[SeriesPart, int, type]] = {}
        # The texts, before the fields of a line, that stand for this series. They may have the tags in another order.
        self.heads: set[str] = set()


class Catalog:
    """The series of one database, as seen by its writing connection. Used inside a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        # SQLite's data_version, which changes when another connection commits; -1 before the first transaction.
        self._version = -1
        # Whether this transaction has made series or fields.
        self._added = False
        # By device, measurement and the other tags as JSON.
        self._families: dict[tuple[str, str, str], SeriesFamily] = {}
        # By the text before a line's fields, then by the names and types of the fields. `_count` is their number.
        self._layouts: dict[str, dict[tuple[object, ...], LineLayout]] = {}
        self._count = 0
        # By id.
        self._parts: dict[int, SeriesPart] = {}
        # Series and hours that this transaction has marked stale.
        self._touched: dict[tuple[int, int], SeriesPart] = {}
        # Series and hours whose rollups are being computed, and that no point was written into meanwhile.
        self._watched: set[tuple[int, int]] = set()
        # By the text before a line's fields: the last layout of such lines that is `LineLayout.plain`.
        self.recent: dict[str, LineLayout] = {}

    def begin(self) -> None:
        """A transaction has begun: forget everything after a change by another connection, or if it is too much."""
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version != self._version or max(self._count, len(self._layouts)) > MAX_LAYOUTS:
            self.forget()
        self._version = version
        self._added = False
        self._touched.clear()

    def rolled_back(self) -> None:
        """The transaction is undone, and with it the series, fields and marks that it made."""
        for part in self._touched.values():
            part.forget_hour()
        if self._added:
            self.forget()

    def forget(self) -> None:
        """Forget everything, so that it is looked up again and no rollups that are being computed are stored."""
        self._families.clear()
        self._layouts.clear()
        self._count = 0
        self._parts.clear()
        self._watched.clear()
        self.recent.clear()

    def touch(self, part: SeriesPart, time_ns: int) -> None:
        """Mark the hour of a point stale."""
        hour = hour_of(time_ns)
        key = part.id, max(hour, MIN_INT64)
        if key not in self._touched:
            self._connection.execute(_MARK, key)
            self._touched[key] = part
            self._watched.discard(key)
        part.hour, part.until = hour, hour + HOUR_NS

    def watch(self, hours: Iterable[tuple[int, int]]) -> None:
        """The rollups of these series and hours are being computed from now on."""
        self._watched = set(hours)
        for series, hour in self._watched:
            part = self._parts.get(series)
            if part is not None and part.hour == hour:
                part.forget_hour()

    def unchanged(self) -> set[tuple[int, int]]:
        """The watched series and hours that no point was written into since."""
        return self._watched

    def layout(self, head: str, measurement: str, tags: Mapping[str, str], fields: Mapping[str, Value]) -> LineLayout:
        """The layout of a line with ``head`` before its fields; makes series and fields that are new.

        Raises:
            TypeConflict: a value is not of its field's type.
        """
        names, types = list(fields), [type(value) for value in fields.values()]
        known = self._layouts.setdefault(head, {})
        layout = known.get((*names, *types))
        if layout is None:
            family = self._family(measurement, tags)
            self._place(family, names, types)
            family.heads.add(head)
            layout = LineLayout(names, types, _columns(family, names))
            self._layouts.setdefault(head, {})[(*names, *types)] = layout
            self._count += 1
        if layout.plain:
            self.recent[head] = layout
        return layout

    def _family(self, measurement: str, tags: Mapping[str, str]) -> SeriesFamily:
        others = {key: value for key, value in sorted(tags.items()) if key != DEVICE}
        key = tags.get(DEVICE, ""), measurement, json.dumps(others, ensure_ascii=False)
        family = self._families.get(key)
        if family is None:
            family = self._families[key] = SeriesFamily(key)
            kinds = {name: kind for kind, name in TYPES.items()}
            for series, slot, field, kind in self._connection.execute(_FIELDS, key).fetchall():
                if not family.parts or family.parts[-1].id != series:
                    self._add_part(family, series)
                if field is not None:
                    part = family.parts[-1]
                    part.width = slot + 1
                    family.fields[field] = part, slot, kinds[kind]
        return family

    def _place(self, family: SeriesFamily, names: list[str], types: list[type]) -> None:
        """Make sure that every field has a column."""
        for field, kind in zip(names, types, strict=True):
            place = family.fields.get(field)
            if place is None:
                place = family.fields[field] = self._new_field(family, field, kind)
            if place[2] is not kind:
                raise TypeConflict(family.key[1], field, TYPES[kind], TYPES[place[2]])

    def _new_field(self, family: SeriesFamily, field: str, kind: type) -> tuple[SeriesPart, int, type]:
        _, measurement, _ = family.key
        known = self._connection.execute(
            "SELECT type FROM fields WHERE measurement = ? AND field = ? LIMIT 1", (measurement, field)
        ).fetchone()
        if known is not None and known[0] != TYPES[kind]:
            raise TypeConflict(measurement, field, TYPES[kind], known[0])
        self._added = True
        if not family.parts or family.parts[-1].width == SLOTS_PER_ROW:
            (made,) = self._connection.execute(_NEW_SERIES, (*family.key, len(family.parts))).fetchone()
            self._add_part(family, made)
        part = family.parts[-1]
        slot, part.width = part.width, part.width + 1
        self._connection.execute(_NEW_FIELD, (part.id, slot, measurement, field, TYPES[kind]))
        # Their layouts have rows with fewer columns than the part has now.
        for head in family.heads:
            self._count -= len(self._layouts.pop(head, ()))
            self.recent.pop(head, None)
        return part, slot, kind

    def _add_part(self, family: SeriesFamily, series: int) -> None:
        part = self._parts[series] = SeriesPart(series)
        family.parts.append(part)


def _columns(family: SeriesFamily, names: list[str]) -> list[tuple[SeriesPart, list[int | None]]]:
    found: dict[int, tuple[SeriesPart, list[int | None]]] = {}
    for position, name in enumerate(names):
        part, slot, _ = family.fields[name]
        _, columns = found.setdefault(part.id, (part, [None] * part.width))
        columns[slot] = position
    return list(found.values())
