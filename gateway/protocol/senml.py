"""SenML packs (RFC 8428) in JSON: records resolved against their base fields, each one a reading of one field.

Rules that hold here:

* A wrong base field refuses the pack, because it concerns more than its record. So does a label that ends in ``_`` and
  is unknown (section 4.4: it must be understood). Any other error refuses its record only.
* A record belongs to the device that sends it: its resolved name is the device's id, or begins with it and a separator,
  or is the name of a field where there is no base name. A device cannot send records of other devices.
* All records of a pack without a time of their own have the same time, that of the pack's arrival.
"""

from __future__ import annotations

import math
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.errors import MessageError, ReadingError
from gateway.ledger import NO_SEQ
from gateway.protocol import codec
from gateway.protocol.encoded_message import EncodedMessage, Point
from gateway.protocol.messages import Code, Readings
from gateway.protocol.timestamps import MAX_NS, in_range, moment
from gateway.protocol.value_text import MAX_SHOWN_NAME, cut, kind_of, shown
from gateway.time_units import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from gateway.protocol.field_rules import Rules
    from gateway.protocol.messages import Message
    from gateway.protocol.series import DeviceSeries
    from gateway.protocol.time_bounds import Vetting

VERSION = 10
"""The version of SenML that RFC 8428 defines."""
MIN_ABSOLUTE_S = 2**28
"""Times below this, in s, are relative to now (section 4.5.3)."""
END_OF_TIME_S = MAX_NS // NS_PER_S
"""No database can hold times from here on, in s."""
MAX_UNIT = 64
"""Characters of a unit."""
MAX_UNITS = 256
"""Fields of a device whose unit is remembered."""
UNNAMED = "value"
"""The field of a record whose name is the device's id and which has no unit."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9:./_-]*", re.ASCII)
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SEPARATORS = frozenset(":/_")
_VALUES = {"v": "number", "vs": "string", "vb": "bool", "vd": "string"}
_BASES = {"bn": "string", "bt": "number", "bu": "string", "bv": "number", "bs": "number", "bver": "number"}
_REGULAR = frozenset(("n", "u", "t", "ut", "s", *_VALUES))


@dataclass(frozen=True, slots=True)
class SenmlRecord:
    """One record without base fields.

    ``seconds`` are since 1970, or below `MIN_ABSOLUTE_S` from now on. ``local``: there was no base name.
    """

    name: str
    local: bool
    unit: str | None
    value: Any
    sum: float | None
    seconds: float


@dataclass(slots=True, kw_only=True)
class Pack(Readings):
    """A SenML pack. An item is a record, the error that refuses one, or None for a record with base fields only."""


def interpret(value: Any) -> Message:
    """The pack in an array, or the message in an object, which is one of the JSON protocol with a ``type``.

    Raises:
        MessageError: ``unknown_type`` or ``bad_message``.
    """
    if value.__class__ is dict and value.get("type") is not None:
        return codec.interpret(value)
    if value.__class__ is not list:
        raise MessageError(Code.BAD_MESSAGE, f"expected an array of SenML records, got {kind_of(value)}")
    count = len(value)
    if count > codec.MAX_READINGS:
        text = f"expected at most {codec.MAX_READINGS} records in a pack, got {count}"
        raise MessageError(Code.BAD_MESSAGE, text, readings=count)
    base: dict[str, Any] = {}
    return Pack(seq=NO_SEQ, items=[_resolved(record, base, index, count) for index, record in enumerate(value)])


def _resolved(record: Any, base: dict[str, Any], index: int, count: int) -> SenmlRecord | ReadingError | None:
    if record.__class__ is not dict:
        return ReadingError(Code.WRONG_TYPE, f"expected object, got {kind_of(record)}")
    problem = _take_base(record, base)
    if problem is not None:
        raise MessageError(Code.BAD_MESSAGE, f"record {index}: {problem}", readings=count)
    if _REGULAR.isdisjoint(record):
        return None
    try:
        return _record(record, base)
    except ReadingError as error:
        return error


def _take_base(record: Mapping[str, Any], base: dict[str, Any]) -> str | None:
    """Put the base fields of ``record`` into ``base``, for it and those after it; what is wrong with one, if any is."""
    for label, value in record.items():
        if label in _BASES and value is not None:
            if kind_of(value) != _BASES[label]:
                return f"{label}: expected {_BASES[label]}, got {kind_of(value)}"
            base[label] = value
        elif label.endswith("_"):
            return f'"{cut(label)}" would have to be understood, and is not'
    if base.get("bver", VERSION) > VERSION:
        return f"bver: expected at most {VERSION}, got {shown(base['bver'])}"
    return None


def _record(record: Mapping[str, Any], base: Mapping[str, Any]) -> SenmlRecord:
    before, after = base.get("bn", ""), _given(record, "n", "string") or ""
    unit = _given(record, "u", "string") or base.get("bu") or None
    total = _total(base.get("bs"), _given(record, "s", "number"), "s")
    seconds = _total(base.get("bt"), _given(record, "t", "number"), "t") or 0
    return SenmlRecord(before + after, not before, unit, _value(record, base, total), total, seconds)


def _given(record: Mapping[str, Any], label: str, expected: str) -> Any:
    value = record.get(label)
    if value is not None and kind_of(value) != expected:
        raise ReadingError(Code.WRONG_TYPE, f"expected {expected}, got {kind_of(value)}", label)
    return value


def _total(base: float | None, own: float | None, label: str) -> float | None:
    """The sum of both, where a missing one counts as 0 (sections 4.5.3 and 4.5.4); None if both are missing."""
    if base is None or own is None:
        return own if base is None else base
    total = base + own
    if not math.isfinite(total):
        raise ReadingError(Code.OUT_OF_RANGE, "together with its base it is too great for a double", label)
    return total


def _value(record: Mapping[str, Any], base: Mapping[str, Any], total: float | None) -> Any:
    given = [label for label in _VALUES if record.get(label) is not None]
    if len(given) > 1:
        raise ReadingError(Code.WRONG_TYPE, f"expected one value, got {' and '.join(given)}", given[1])
    label = given[0] if given else "v"
    value = _given(record, label, _VALUES[label])
    if label == "v":
        value = _total(base.get("bv"), value, "v")
    elif label == "vd" and not _BASE64URL.fullmatch(value):
        raise ReadingError(Code.WRONG_TYPE, "expected base64url without padding", "vd")
    if value is None and total is None:
        raise ReadingError(Code.WRONG_TYPE, "expected one of v, vs, vb, vd and s, got none")
    return value


def encode_pack(
    pack: Pack,
    device: str,
    rules: Rules,
    series: DeviceSeries,
    now_ns: int,
    units: dict[str, str] | None,
    vetting: Vetting | None = None,
) -> EncodedMessage:
    """Judge and write every record of ``pack``. The units of accepted records go into ``units``, if it is not None.

    Raises:
        MessageError: the pack is refused whole.
    """

    def point(item: SenmlRecord | ReadingError | None) -> Point | None:
        if item is None:
            return None
        if isinstance(item, ReadingError):
            raise item
        field = _field(item, device)
        text, fields = rules.write(_values(item, field))
        time_ns = _time(item.seconds, now_ns)
        added = 0
        if vetting is not None:
            time_ns, added = vetting.settle(time_ns, item.seconds, "t", by_clock=item.seconds >= MIN_ABSOLUTE_S)
            text += rules.device_time((time_ns - added) // NS_PER_MS, fields) if added else ""
        if rules.fresh:
            series.learn(rules, now_ns, encoded.lessons)
        if added and vetting is not None:
            vetting.corrected += 1
        if item.unit is not None and units is not None and (field in units or len(units) < MAX_UNITS):
            units[field] = item.unit
        return f"{series.default}{text} {time_ns}\n", time_ns, fields

    encoded = EncodedMessage(device)
    if vetting is not None:
        vetting.look(_own_times(pack.items, now_ns))
    encoded.collect(pack, pack.items, point)
    encoded.corrected = 0 if vetting is None else vetting.corrected
    return encoded


def _field(record: SenmlRecord, device: str) -> str:
    """The field name of a record. A nameless one is named by its unit, so that several can have one time."""
    name, unit = record.name, record.unit
    if unit is not None and (len(unit) > MAX_UNIT or _CONTROL.search(unit)):
        raise ReadingError(Code.TOO_LONG, f"expected at most {MAX_UNIT} characters, none of them control", "u")
    if not _NAME.fullmatch(name):
        text = f"expected letters, digits and - : . / _, beginning with a letter or digit, got {shown(name)}"
        raise ReadingError(Code.BAD_NAME, text, "n")
    if name == device:
        return unit or UNNAMED
    if name.startswith(device) and name[len(device)] in _SEPARATORS:
        return name[len(device) + 1 :] or unit or UNNAMED
    if record.local and ":" not in name and "/" not in name:
        return name
    raise ReadingError(Code.BAD_NAME, "expected a name below the device's own id", cut(name, MAX_SHOWN_NAME))


def _values(record: SenmlRecord, field: str) -> dict[str, Any]:
    if record.sum is None:
        return {field: record.value}
    total = {f"{field}.sum": record.sum}
    return total if record.value is None else {field: record.value} | total


def _own_times(items: Iterable[Any], now_ns: int) -> Iterator[int]:
    """The times in ns by the device's clock. Those that no database holds are left out; they are refused later."""
    for item in items:
        if isinstance(item, SenmlRecord) and item.seconds >= MIN_ABSOLUTE_S:
            with suppress(ReadingError):
                yield _time(item.seconds, now_ns)


def _time(seconds: float, now_ns: int) -> int:
    if seconds < MIN_ABSOLUTE_S:
        away = max(seconds, -3 * END_OF_TIME_S)
        return in_range(now_ns + (away * NS_PER_S if away.__class__ is int else round(away * 1e9)), seconds, "t")
    return moment(seconds) if seconds < END_OF_TIME_S else in_range(MAX_NS + 1, seconds, "t")
