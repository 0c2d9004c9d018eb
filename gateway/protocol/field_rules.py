"""A profile's rules for the fields of a measurement, ready for use: values in, the fields of a line out.

Rules that hold here:

* `Field.write` has every rule. The loop of `Rules.write` writes the common case itself: a number under a name for which
  any number will do (`Rules.plain`). `Rules.write_known` is the short way for readings of known fields. All write the
  same points; only an exponent may look different (`gateway.protocol.blocks`).
* A field has the type that its measurement has it with (`gateway.protocol.field_types`). Rules are per profile and
  measurement, so that it costs nothing once a name was met; they are shared by all sessions, and bounded.
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
KEPT_RULES = 256
"""Rules kept though no session uses them just now."""
KEPT_SHAPES = 64

_COLON_TO_EQUALS = bytes.maketrans(b":", b"=")
_JSON_ONLY = b'{}"'
_JSON_LISTS = b'{[]"'
_IN_JSON = frozenset('{}[]":\\')

_TYPES: dict[type, FieldType] = {float: "float", int: "float", bool: "bool", str: "string"}


class Rules:
    """What a profile says about the fields of one measurement, and the names met so far."""

    def __init__(self, profile: ProfileSection, measurement: str, types: FieldTypes) -> None:
        self.strict = profile.strict
        self._profile = profile
        self.measurement = measurement
        self._types = types
        self._known: dict[str, Field] = {}
        self.plain: dict[str, str] = {}
        self._verbatim: set[str] = set()
        self.shapes: dict[tuple[str, ...] | None, Shape] = {}
        """Those of messages whose readings all have the same names, each of them known and good for any number."""
        self.fresh: list[tuple[str, FieldType]] = []
        """Fields of the reading written last whose type is not known yet: `learn` them once it is accepted."""

    def write(self, values: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        """The fields of one reading as they stand in a line, and by name; nothing if there is nothing to store.

        Raises:
            ReadingError: any code that is about a field; ``bad_message`` for objects nested too deep.
        """
        if self.fresh:
            self.fresh = []
        try:
            return self._write(values)
        except ReadingError:
            if too_deep(values):  # refuses more than a reading, so it counts wherever it stands
                raise ReadingError(Code.BAD_MESSAGE, TOO_DEEP) from None
            raise

    def write_known(self, values: Mapping[str, Any]) -> bytes:
        """What `write` makes of scalars under names met before; empty for anything else.

        Numbers alone are written by orjson, whose JSON differs from the fields of a line in three characters.

        Raises:
            ReadingError: as `write`.
        """
        if self._verbatim_numbers(values):
            return orjson.dumps(values).translate(_COLON_TO_EQUALS, _JSON_ONLY)
        return self._write_scalars(values) if len(values) <= MAX_FIELDS else b""

    def write_numbers(self, readings: Sequence[Mapping[str, Any]]) -> list[bytes] | None:
        """`write_known` of each of several readings, all at once; None if one has anything but numbers, or nothing."""
        if not readings or not all(map(self._verbatim_numbers, readings)):
            return None
        return orjson.dumps(readings).translate(_COLON_TO_EQUALS, _JSON_LISTS)[:-1].split(b"},")

    def shape(self, names: tuple[str, ...]) -> None:
        """Know the shape of messages with these names, which `write_numbers` has just written."""
        if names not in self.shapes:
            if len(self.shapes) >= KEPT_SHAPES:
                self.shapes.clear()
            self.shapes[names] = Shape(names)

    def _verbatim_numbers(self, values: Mapping[str, Any]) -> bool:
        """Whether a reading has nothing but numbers under names that JSON and a line write alike, and some."""
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
        """The field for a device's own time, to be put behind its ``fields``, which are accepted.

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
        """Fields of these names are about to be accepted, all of them as numbers: those not known yet are `fresh`."""
        self.fresh = [(name, self.field(name).type or "float") for name in numbers if name not in self._known]

    def learn(self, now_ns: int) -> None:
        """The reading written last, which arrived at ``now_ns``, is accepted: its fields have these types, if there is
        room to know."""
        self._types.learn(self.measurement, self.fresh, now_ns)
        for name, _ in self.fresh:
            if name != DEVICE_TIME:  # which a strict profile need not name
                self._remember(self.field(name))
        self.fresh = []

    def unlearn(self, fields: Sequence[tuple[str, FieldType]]) -> None:
        """The message whose readings taught these `fresh` fields is not taken: they are not known again."""
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
        """Ask for every type again."""
        self._known.clear()
        self.plain.clear()
        self._verbatim.clear()
        self.shapes.clear()


class Rulebook:
    """The rules of each profile for each measurement, made once and shared by all sessions, as ``budgets`` are."""

    def __init__(self, types: FieldTypes, budgets: Budgets | None = None) -> None:
        self._types = types
        self.budgets = Budgets() if budgets is None else budgets
        self._all: WeakValueDictionary[tuple[int, str], Rules] = WeakValueDictionary()
        self._kept: deque[Rules] = deque(maxlen=KEPT_RULES)
        types.watch(self._forget)

    def rules(self, profile: ProfileSection, measurement: str) -> Rules:
        """Those for readings of this measurement; profiles are frozen, so the same object is the same profile."""
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
    if len(path) > NAME_LENGTH:  # else a long path times many names would be much more than was sent
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
    """Whether there are objects below `MAX_DEPTH`; looks neither further down than that nor into arrays."""
    if value.__class__ is not dict:
        return False
    return depth >= MAX_DEPTH or any(too_deep(member, depth + 1) for member in value.values())
