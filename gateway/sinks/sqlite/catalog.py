"""Where a value belongs: the series, the column and the type of every field, and which hours are known to be stale.

Rules that hold here:

* A field of a measurement has one type for all devices, as in an InfluxDB shard; another is a `TypeConflict`.
* What is remembered is forgotten when the transaction that made it is rolled back and when another connection changed
  the file: a row written under an id that is gone would never be found again.
* An hour is marked stale in the transaction that writes into it. Who summarises an hour watches it meanwhile: a write
  into it ends the watch, and with it what was computed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gateway.sinks.sqlite.layout import MIN_INT64, LineLayout, SeriesPart
from gateway.sinks.sqlite.schema import HOUR, SLOTS, hour_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

    from gateway.line_protocol import Value

DEVICE = "device"
TYPES: dict[type, str] = {float: "float", int: "integer", bool: "boolean", str: "string"}
"""Named as InfluxDB names them."""
MAX_LAYOUTS = 100_000
"""Layouts that are remembered."""

_FIELDS = """
SELECT id, slot, field, type FROM series LEFT JOIN fields ON series = id
WHERE device = ? AND series.measurement = ? AND tags = ? ORDER BY part, slot
"""
_NEW_SERIES = "INSERT INTO series (device, measurement, tags, part) VALUES (?, ?, ?, ?) RETURNING id"
_NEW_FIELD = "INSERT INTO fields (series, slot, measurement, field, type) VALUES (?, ?, ?, ?, ?)"
_MARK = "INSERT OR IGNORE INTO stale (series, hour_ns) VALUES (?, ?)"


class TypeConflict(ValueError):
    """A value is not of its field's type; the text is InfluxDB's."""

    def __init__(self, measurement: str, field: str, got: str, known: str) -> None:
        super().__init__(
            f'field type conflict: input field "{field}" on measurement "{measurement}" is type {got}, '
            f"already exists as type {known}"
        )


class SeriesFamily:
    """All series of one device, measurement and tags, and the text that stood for it in lines."""

    __slots__ = ("fields", "heads", "key", "parts")

    def __init__(self, key: tuple[str, str, str]) -> None:
        self.key = key
        self.parts: list[SeriesPart] = []
        self.fields: dict[str, tuple[SeriesPart, int, type]] = {}
        self.heads: set[str] = set()


class Catalog:
    """The series of one database, as seen by its writing connection. Used inside a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._version = -1
        self._added = False
        self._families: dict[tuple[str, str, str], SeriesFamily] = {}
        self._layouts: dict[str, dict[tuple[object, ...], LineLayout]] = {}
        self._count = 0
        self._parts: dict[int, SeriesPart] = {}
        self._touched: dict[tuple[int, int], SeriesPart] = {}
        self._watched: set[tuple[int, int]] = set()
        self.recent: dict[str, LineLayout] = {}
        """By what stands before a line's fields: the layout of the last such line that was plain."""

    def begin(self) -> None:
        """A transaction has begun: make sure that what is remembered is still true."""
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version != self._version or max(self._count, len(self._layouts)) > MAX_LAYOUTS:
            self.forget()
        self._version = version
        self._added = False
        self._touched.clear()

    def rolled_back(self) -> None:
        """The transaction is undone, and with it the series and the marks that it made."""
        for part in self._touched.values():
            part.forget_hour()
        if self._added:
            self.forget()

    def forget(self) -> None:
        """Look everything up again, and believe nothing that is being computed."""
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
        part.hour, part.until = hour, hour + HOUR

    def watch(self, hours: Iterable[tuple[int, int]]) -> None:
        """Series and hours that are being summarised from now on."""
        self._watched = set(hours)
        for series, hour in self._watched:
            part = self._parts.get(series)
            if part is not None and part.hour == hour:
                part.forget_hour()

    def unchanged(self) -> set[tuple[int, int]]:
        """Those being watched that nothing was written into since."""
        return self._watched

    def layout(self, head: str, measurement: str, tags: Mapping[str, str], fields: Mapping[str, Value]) -> LineLayout:
        """The layout of a line, the text before whose fields is ``head``; series and fields that are new are made.

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
        """Give every field a column. A part that grows ends the layouts that knew it narrower."""
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
        if not family.parts or family.parts[-1].width == SLOTS:
            (made,) = self._connection.execute(_NEW_SERIES, (*family.key, len(family.parts))).fetchone()
            self._add_part(family, made)
        part = family.parts[-1]
        slot, part.width = part.width, part.width + 1
        self._connection.execute(_NEW_FIELD, (part.id, slot, measurement, field, TYPES[kind]))
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
