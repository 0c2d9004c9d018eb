"""A profile's rules for the fields of a measurement: values in, the fields of a line out.

Rules that hold here:

* `Field.write` has every rule. The loop of `Rules.write` writes the common case itself: a number under a name that
  accepts any number (`Rules.plain`). `Rules.write_known` is the short way for readings of known fields. All write the
  same points; only an exponent may look different (`gateway.protocol.blocks`).
* The type of a field is that of its measurement (`gateway.protocol.field_types`). Rules are kept for each profile and
  measurement, so that a known name costs no look-up. All sessions share them, and their number is bounded.
* Objects in a reading become fields with dotted names: ``{"gps":{"lat":1}}`` is ``gps.lat``.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import orjson

from gateway.config.names import NAME_LENGTH
from gateway.errors import ReadingError
from gateway.line_protocol import escape
from gateway.protocol.field import Field, check_field_name
from gateway.protocol.message_shapes import Shape
from gateway.protocol.messages import Code
from gateway.protocol.series_budgets import Budgets
from gateway.protocol.time_bounds import DEVICE_TIME
from gateway.protocol.value_text import MAX_SHOWN_NAME, cut

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gateway.config.sections import ProfileSection
    from gateway.protocol.field_types import FieldType, FieldTypes

MAX_DEPTH = 3
MAX_FIELDS = 256
TOO_DEEP = f"expected at most {MAX_DEPTH} levels of objects"
KNOWN_NAMES = 4096
"""Names that one `Rules` remembers; one more makes it forget all."""
KEPT_RULES = 256
"""Rules kept although no session uses them at the moment."""
KEPT_SHAPES = 64
"""Shapes that one `Rules` remembers; one more makes it forget all."""

_COLON_TO_EQUALS = bytes.maketrans(b":", b"=")
_JSON_ONLY = b'{}"'
_JSON_LISTS = b'{[]"'
_IN_JSON = frozenset('{}[]":\\')

_TYPES: dict[type, FieldType] = {float: "float", int: "float", bool: "bool", str: "string"}


class Rules:
    """The rules of a profile for the fields of one measurement, and the names known so far."""

    def __init__(self, profile: ProfileSection, measurement: str, types: FieldTypes) -> None:
        self.strict = profile.strict
        self._profile = profile
        self.measurement = measurement
        self._types = types
        self._known: dict[str, Field] = {}
        """Fields by name whose type is known."""
        self.plain: dict[str, str] = {}
        """The escaped ``name=`` of those that accept any number and write it as a float."""
        self._verbatim: set[str] = set()
        """The names of those that JSON and a line write alike."""
        self.shapes: dict[tuple[str, ...] | None, Shape] = {}
        """By names: the shape of messages whose readings all have these names, each known and accepting any number."""
        self.fresh: list[tuple[str, FieldType]] = []
        """Fields of the reading written last whose type is not known yet: call `learn` once it is accepted."""

    def write(self, values: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        """The fields of one reading as text of a line, and by name; both empty if there is nothing to store.

        Raises:
            ReadingError: any code that is about a field; ``bad_message`` for objects nested too deep.
        """
        if self.fresh:
            self.fresh = []
        try:
            return self._write(values)
        except ReadingError:
            if too_deep(values):  # refuses the whole message, so it comes before any other error
                raise ReadingError(Code.BAD_MESSAGE, TOO_DEEP) from None
            raise

    def write_known(self, values: Mapping[str, Any]) -> bytes:
        """What `write` makes of scalars under known names; empty for anything else.

        Numbers alone are written by orjson, whose JSON differs from the fields of a line in three characters.

        Raises:
            ReadingError: as `write`.
        """
        if self._verbatim_numbers(values):
            return orjson.dumps(values).translate(_COLON_TO_EQUALS, _JSON_ONLY)
        return self._write_scalars(values) if len(values) <= MAX_FIELDS else b""

    def write_numbers(self, readings: Sequence[Mapping[str, Any]]) -> list[bytes] | None:
        """`write_known` of several readings at once; None if one of them is empty or has other values than numbers."""
        if not readings or not all(map(self._verbatim_numbers, readings)):
            return None
        return orjson.dumps(readings).translate(_COLON_TO_EQUALS, _JSON_LISTS)[:-1].split(b"},")

    def shape(self, names: tuple[str, ...]) -> None:
        """Remember the shape of messages with these names, which `write_numbers` has just written."""
        if names not in self.shapes:
            if len(self.shapes) >= KEPT_SHAPES:
                self.shapes.clear()
            self.shapes[names] = Shape(names)

    def _verbatim_numbers(self, values: Mapping[str, Any]) -> bool:
        """Whether a reading is not empty and has only numbers, under names that JSON and a line write alike."""
        verbatim = self._verbatim
        for name, value in values.items():
            kind = value.__class__
            if (kind is not float and kind is not int) or name not in verbatim:
                return False
        return 0 < len(values) <= MAX_FIELDS

    def _write_scalars(self, values: Mapping[str, Any]) -> bytes:
        known = self._known
        parts = []
        for name, value in values.items():
            field = known.get(name)
            if field is None or value is None or value.__class__ is dict:
                return b""
            parts.append(field.write(value))
        return ",".join(parts).encode()

    def _write(self, values: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        if len(values) > MAX_FIELDS:
            values = flatten(values)
        plain = self.plain
        parts = []
        for name, value in values.items():
            kind = value.__class__
            if kind is float or kind is int:
                key = plain.get(name)
                parts.append(self._judged(name, value) if key is None else f"{key}{value!r}")
            elif kind is dict or value is None:
                self.fresh = []
                return self._write(flatten(values))
            else:
                parts.append(self._judged(name, value))
        return ",".join(parts), values

    def _judged(self, name: str, value: Any) -> str:
        field = self._known.get(name)
        if field is not None:
            return field.write(value)
        field = self.field(name)
        text = field.write(value)
        if name not in self._known:
            self.fresh.append((name, field.type or _TYPES[value.__class__]))
        return text

    def field(self, name: str) -> Field:
        """The rules for a field.

        Raises:
            ReadingError: ``bad_name``; ``unknown_field`` in a strict profile; ``wrong_type`` where the profile's type
                is not the one that the field has.
        """
        return self._known.get(name) or self._find(name)

    def _find(self, name: str) -> Field:
        declared = self._profile.fields.get(name)
        if declared is None:
            check_field_name(name)
        if declared is None and self.strict:
            raise ReadingError(Code.UNKNOWN_FIELD, "the device's profile has no such field", cut(name, MAX_SHOWN_NAME))
        known = self._types.get(self.measurement, name)
        if declared is None:
            found = Field(name, f"{escape(name)}=", known)
        else:
            found = Field(name, f"{escape(name)}=", declared.type, declared.min, declared.max)
            if known is not None and known != declared.type and self.measurement != self._profile.measurement:
                text = f"expected {known}, got {declared.type} of the device's profile"
                raise ReadingError(Code.WRONG_TYPE, text, cut(name, MAX_SHOWN_NAME))
        if known is not None:
            self._remember(found)
        return found

    def device_time(self, time_ms: int, fields: Mapping[str, Any]) -> str:
        """The field for a device's own time, to be appended to its ``fields``, which are accepted.

        Raises:
            ReadingError: ``bad_name`` if the device has such a field itself, ``wrong_type`` if others had it as text.
        """
        if DEVICE_TIME in fields:
            raise ReadingError(Code.BAD_NAME, "this field is for the device's own time", DEVICE_TIME)
        known = self._types.get(self.measurement, DEVICE_TIME)
        if known is None:
            self.fresh.append((DEVICE_TIME, "int"))
        elif known not in {"int", "float"}:
            raise ReadingError(Code.WRONG_TYPE, f"expected {known}, got the device's own time", DEVICE_TIME)
        return f",{DEVICE_TIME}={float(time_ms)!r}" if known == "float" else f",{DEVICE_TIME}={time_ms}i"

    def note(self, numbers: Iterable[str]) -> None:
        """Fields of these names are about to be accepted as numbers: those that are not known yet become `fresh`."""
        self.fresh = [(name, self.field(name).type or "float") for name in numbers if name not in self._known]

    def learn(self, now_ns: int) -> None:
        """The reading written last, which arrived at ``now_ns``, is accepted: remember its types if there is room."""
        self._types.learn(self.measurement, self.fresh, now_ns)
        for name, _ in self.fresh:
            if name != DEVICE_TIME:  # a strict profile need not name it
                self._remember(self.field(name))
        self.fresh = []

    def unlearn(self, fields: Sequence[tuple[str, FieldType]]) -> None:
        """The message whose readings taught these `fresh` fields is not accepted: forget them."""
        self._types.unlearn(self.measurement, fields)
        for name, _ in fields:
            self._known.pop(name, None)
            self.plain.pop(name, None)
            self._verbatim.discard(name)

    def _remember(self, field: Field) -> None:
        if len(self._known) >= KNOWN_NAMES:
            self.forget()
        self._known[field.name] = field
        if field.plain:
            self.plain[field.name] = field.key
            if field.key == f"{field.name}=" and _IN_JSON.isdisjoint(field.name):
                self._verbatim.add(field.name)

    def forget(self) -> None:
        """Forget all names, so that their types are looked up again."""
        self._known.clear()
        self.plain.clear()
        self._verbatim.clear()
        self.shapes.clear()


class Rulebook:
    """The rules of each profile for each measurement. All sessions share them, and the ``budgets`` of series."""

    def __init__(self, types: FieldTypes, budgets: Budgets | None = None) -> None:
        self._types = types
        self.budgets = Budgets() if budgets is None else budgets
        self._all: WeakValueDictionary[tuple[int, str], Rules] = WeakValueDictionary()
        """By the profile's id() and the measurement."""
        self._kept: deque[Rules] = deque(maxlen=KEPT_RULES)
        """Keeps the newest rules alive that no session uses."""
        types.watch(self._forget)

    def rules(self, profile: ProfileSection, measurement: str) -> Rules:
        """The rules for readings of this measurement. Profiles are frozen, so the same object is the same profile."""
        # Rules keep their profile, which keeps its id from being given to another one.
        found = self._all.get((id(profile), measurement))
        if found is None:
            found = self._all[id(profile), measurement] = Rules(profile, measurement, self._types)
            self._kept.append(found)
        return found

    def _forget(self) -> None:
        for rules in list(self._all.values()):
            rules.forget()


def flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` without objects and nulls.

    Raises:
        ReadingError: ``bad_message`` below `MAX_DEPTH`, ``too_many_fields``, ``bad_name`` for a name that comes up
            twice or for a path too long to be a name.
    """
    flat: dict[str, Any] = {}
    _collect(values, "", 1, flat)
    return flat


def _collect(values: Mapping[str, Any], path: str, depth: int, flat: dict[str, Any]) -> None:
    if depth > MAX_DEPTH:
        raise ReadingError(Code.BAD_MESSAGE, TOO_DEEP, _shown(path[:-1]))
    if len(path) > NAME_LENGTH:  # otherwise a long path in front of many names would be much longer than the message
        raise ReadingError(Code.BAD_NAME, f"a name has 1 to {NAME_LENGTH} characters", _shown(path[:-1]))
    for name, value in values.items():
        if value.__class__ is dict:
            _collect(value, f"{path}{name}.", depth + 1, flat)
        elif value is not None:
            _add(flat, path + name, value)


def _add(flat: dict[str, Any], name: str, value: Any) -> None:
    if name in flat:
        raise ReadingError(Code.BAD_NAME, "two values have this name", _shown(name))
    if len(flat) >= MAX_FIELDS:
        raise ReadingError(Code.TOO_MANY_FIELDS, f"expected at most {MAX_FIELDS} fields")
    flat[name] = value


def _shown(name: str) -> str:
    return cut(name, MAX_SHOWN_NAME)


def too_deep(value: Any, depth: int = 0) -> bool:
    """Whether there are objects below `MAX_DEPTH`. Deeper levels and arrays are not searched."""
    if value.__class__ is not dict:
        return False
    return depth >= MAX_DEPTH or any(too_deep(member, depth + 1) for member in value.values())
