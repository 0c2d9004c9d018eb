"""The type of each field of each measurement, learned from the accepted readings.

A database that has seen a field as a number refuses it as a string. A known type lets the gateway refuse it earlier, so
that the device gets a reject and there is no dead letter.

Rules that hold here:

* A type becomes known when a reading with it is accepted, or because a profile declares it. The first one counts, until
  the database refuses it: one wrong reading must not shut out the right ones that follow.
* The readings of a message are judged one after the other, by the types that earlier ones taught. If the message is not
  accepted in the end, its types are unlearned before the next message is judged.
* If a message was accepted but did not reach the disk, its types are unlearned when that is known: its device may never
  send it again. Messages reach the disk in the order in which they arrived.
* The number of types is bounded. A field that does not fit is accepted with any type, and the database judges.
* The known types may be lost: they are learned again from the next readings.
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
"""Fields of all measurements whose type is known."""


class FieldTypes:
    """The types by measurement and field. ``declared`` are those of the profiles; no learned type overrides them."""

    def __init__(self, declared: Mapping[Key, FieldType] | None = None, most: int = MAX_TYPES) -> None:
        self._declared = dict(declared or {})
        self._most = most
        """Types that may be known; beyond it nothing is learned."""
        self._types: dict[Key, FieldType] = dict(self._declared)
        """All known types, the declared ones included."""
        self._new: dict[Key, FieldType] = {}
        """Types learned since `take_changes` was called last."""
        self._doubted: set[Key] = set()
        """Fields forgotten since then, because the database refused their type or their message failed."""
        self._watchers: list[Callable[[], None]] = []
        """Called when types that were known may not be any more."""
        self.unsure: dict[Key, int] = {}
        """Types of which no reading is known to be on the disk yet, with the arrival of theirs (ns since 1970)."""
        self.ignored = 0
        """Fields that were not learned because the bound was reached."""

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
        """These fields, which `learn` made known and `get` has not been asked for since, were not accepted."""
        for field, _ in fields:
            self._types.pop((measurement, field), None)
            self._new.pop((measurement, field), None)
            self.unsure.pop((measurement, field), None)

    def settle(self, upto_ns: int) -> None:
        """The messages that arrived up to ``upto_ns`` are on the disk."""
        self.unsure = {key: arrived_ns for key, arrived_ns in self.unsure.items() if arrived_ns > upto_ns}

    def take_back(self, upto_ns: int) -> None:
        """Messages that arrived up to ``upto_ns`` did not reach the disk, except those that `settle` was told of."""
        failed = self.unsure
        self.settle(upto_ns)
        self._forget([key for key in failed if key not in self.unsure])

    def doubt(self, measurement: str, fields: Iterable[str]) -> None:
        """The database refused a point with these fields because of a type: learn their types anew."""
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
        """The profiles changed. Their new types count; types that only the old profiles declared are learned anew."""
        before, self._declared = self._declared, dict(declared)
        self._types = {key: found for key, found in self._types.items() if key not in before} | self._declared
        self._tell()

    def take_changes(self) -> tuple[dict[Key, FieldType], set[Key]]:
        """The types learned, and the fields forgotten before, since the last call: for the store that keeps them."""
        new, doubted = self._new, self._doubted
        self._new, self._doubted = {}, set()
        return new, doubted

    def replace(self, kept: Mapping[Key, FieldType]) -> None:
        """Know the ``kept`` types, the declared ones, and the changes since `take_changes`; forget all others."""
        sure = {key: found for key, found in kept.items() if key not in self._doubted}
        self._types = {**sure, **self._new, **self._declared}
        self._tell()

    def _tell(self) -> None:
        for forgotten in self._watchers:
            forgotten()


def declared_by(profiles: Iterable[ProfileSection]) -> dict[Key, FieldType]:
    """The types that profiles declare for the fields of their measurement; of two that differ the first counts."""
    declared: dict[Key, FieldType] = {}
    for profile in profiles:
        for name, field in profile.fields.items():
            declared.setdefault((profile.measurement, name), field.type)
    return declared
