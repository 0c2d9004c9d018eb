"""Which type each field of each measurement has, learned from the readings that were accepted.

A database that has seen a field as a number refuses it as a string. What is known here refuses it before, with a word
to the device instead of a dead letter.

Rules that hold here:

* A type becomes known when a reading with it is accepted, or because a profile declares it; the first one counts, until
  the database refuses it: one wrong reading must not shut out the right ones that follow.
* Readings are judged one after the other by what those before taught, but no reading is accepted before its message is:
  what a message taught that is not taken after all is unlearned before another one is judged.
* What a message taught that was taken, but did not reach the disk, is unlearned when that is known: its device may
  never send it again. Messages reach the disk in the order in which they arrived.
* The number of types is bounded. What does not fit any more is not known: it is accepted, and the database judges.
* Losing what is known costs nothing but that: it is learned again from the next readings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from gateway.config.sections import ProfileSection

FieldType = Literal["float", "int", "bool", "string"]
Key = tuple[str, str]
"""Measurement and field."""

MAX_TYPES = 50_000


class FieldTypes:
    """The types by measurement and field; ``declared`` are the profiles', which nothing learned overrides."""

    def __init__(self, declared: Mapping[Key, FieldType] | None = None, most: int = MAX_TYPES) -> None:
        self._declared = dict(declared or {})
        self._most = most
        self._types: dict[Key, FieldType] = dict(self._declared)
        self._new: dict[Key, FieldType] = {}
        self._doubted: set[Key] = set()
        self._watchers: list[Callable[[], None]] = []
        self.unsure: dict[Key, int] = {}
        """Types of which no reading is known to be on the disk, with when theirs arrived (ns since 1970)."""
        self.ignored = 0
        """Fields that were not learned for want of room."""

    def __len__(self) -> int:
        return len(self._types)

    def watch(self, forgotten: Callable[[], None]) -> None:
        """Have ``forgotten`` called when types that were known may not be any more."""
        self._watchers.append(forgotten)

    def get(self, measurement: str, field: str) -> FieldType | None:
        """The type of a field; None when it is not known."""
        return self._types.get((measurement, field))

    def learn(self, measurement: str, fields: Iterable[tuple[str, FieldType]], now_ns: int) -> None:
        """These fields were accepted, in a message that arrived at ``now_ns``."""
        for field, found in fields:
            key = measurement, field
            if key in self._types:
                continue
            if len(self._types) >= self._most:
                self.ignored += 1
                continue
            self._types[key] = self._new[key] = found
            self.unsure[key] = now_ns

    def unlearn(self, measurement: str, fields: Iterable[tuple[str, FieldType]]) -> None:
        """These fields, which were not known before `learn` and have not been asked for since, were not accepted."""
        for field, _ in fields:
            self._types.pop((measurement, field), None)
            self._new.pop((measurement, field), None)
            self.unsure.pop((measurement, field), None)

    def settle(self, upto_ns: int) -> None:
        """The messages that arrived up to ``upto_ns`` are on the disk."""
        self.unsure = {key: arrived_ns for key, arrived_ns in self.unsure.items() if arrived_ns > upto_ns}

    def take_back(self, upto_ns: int) -> None:
        """The messages that arrived up to ``upto_ns`` are not on the disk, but for those that `settle` was told of."""
        failed = self.unsure
        self.settle(upto_ns)
        self._forget([key for key in failed if key not in self.unsure])

    def doubt(self, measurement: str, fields: Iterable[str]) -> None:
        """The database refused a point with these fields for a type: learn theirs anew from the next reading."""
        self._forget([(measurement, field) for field in fields])

    def _forget(self, keys: Iterable[Key]) -> None:
        keys = [key for key in keys if key in self._types and key not in self._declared]
        for key in keys:
            del self._types[key]
            self._new.pop(key, None)
            self._doubted.add(key)
        if keys:
            self._tell()

    def declare(self, declared: Mapping[Key, FieldType]) -> None:
        """The profiles changed: what they declare now counts, and what only they declared is learned anew."""
        before, self._declared = self._declared, dict(declared)
        self._types = {key: found for key, found in self._types.items() if key not in before} | self._declared
        self._tell()

    def take_changes(self) -> tuple[dict[Key, FieldType], set[Key]]:
        """What was learned and, before that, doubted since the last call: for who keeps it."""
        new, doubted = self._new, self._doubted
        self._new, self._doubted = {}, set()
        return new, doubted

    def replace(self, kept: Mapping[Key, FieldType]) -> None:
        """Know what is kept, what profiles declare and what changed since `take_changes`, and nothing else."""
        sure = {key: found for key, found in kept.items() if key not in self._doubted}
        self._types = {**sure, **self._new, **self._declared}
        self._tell()

    def _tell(self) -> None:
        for forgotten in self._watchers:
            forgotten()


def declared_by(profiles: Iterable[ProfileSection]) -> dict[Key, FieldType]:
    """What profiles say about the fields of their measurement; of two that differ the first counts."""
    declared: dict[Key, FieldType] = {}
    for profile in profiles:
        for name, field in profile.fields.items():
            declared.setdefault((profile.measurement, name), field.type)
    return declared
