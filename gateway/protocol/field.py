"""The rules of one field: a value in, ``name=value`` out, or the reason why it is refused.

Rules that hold here:

* A number is written as float unless the profile says ``int``: a device that sends 22 and then 22.5 must not conflict.
* `Field.write` has every rule. `Field.column_format` and `gateway.protocol.field_rules` write the same, faster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.config.names import check_name
from gateway.errors import ReadingError
from gateway.line_protocol import quote
from gateway.protocol.messages import Code
from gateway.protocol.value_text import MAX_SHOWN_NAME, cut, kind_of, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.protocol.field_types import FieldType

MAX_TEXT_BYTES = 1024
"""Bytes of UTF-8 in a string value."""
INT_LIMIT = 2**63
"""The database has integers of 64 bits: from minus this on, and below this."""
EXACT_LIMIT = 2**53
"""Beyond it, one double may stand for several integers."""
NUMBERS = frozenset((int, float))


@dataclass(frozen=True, slots=True)
class Field:
    """One field. ``key`` is ``name=`` escaped. Without ``type`` any scalar is accepted. ``low``, ``high``: bounds."""

    name: str
    key: str
    type: FieldType | None = None
    low: float | None = None
    high: float | None = None

    @property
    def plain(self) -> bool:
        """Whether every number is accepted and written as a float."""
        return self.type in {None, "float"} and self.low is None and self.high is None

    def write(self, value: Any) -> str:
        """``name=value`` as it stands in a line.

        Raises:
            ReadingError: ``wrong_type``, ``out_of_range`` or ``too_long``.
        """
        kind = value.__class__
        if kind in NUMBERS and self.type in {None, "float", "int"}:
            return self._number(value)
        if kind is bool and self.type in {None, "bool"}:
            return f"{self.key}true" if value else f"{self.key}false"
        if kind is str and self.type in {None, "string"}:
            return self._text(value)
        expected = self.type or "a number, bool or string"
        raise self._refused(Code.WRONG_TYPE, f"expected {expected}, got {kind_of(value)}")

    def _number(self, value: float) -> str:
        if self.type == "int" and value.__class__ is float:
            value = self._whole(value)
        if self.low is not None and value < self.low:
            raise self._refused(Code.OUT_OF_RANGE, f"expected {self.low} or more, got {shown(value)}")
        if self.high is not None and value > self.high:
            raise self._refused(Code.OUT_OF_RANGE, f"expected {self.high} or less, got {shown(value)}")
        if self.type != "int":
            return f"{self.key}{value!r}"
        if not -INT_LIMIT <= value < INT_LIMIT:
            raise self._refused(Code.OUT_OF_RANGE, f"expected an integer of 64 bits, got {shown(value)}")
        return f"{self.key}{value!r}i"

    def _whole(self, value: float) -> int:
        """An integer that was written with a fraction or an exponent, or has more than 64 bits."""
        if not value.is_integer():
            raise self._refused(Code.WRONG_TYPE, f"expected int, got {shown(value)}")
        if abs(value) > EXACT_LIMIT:  # the device may have sent another integer
            raise self._refused(Code.OUT_OF_RANGE, f"expected an integer of 64 bits in digits, got {shown(value)}")
        return int(value)

    def _text(self, value: str) -> str:
        size = len(value.encode())
        if size > MAX_TEXT_BYTES:
            raise self._refused(Code.TOO_LONG, f"expected at most {MAX_TEXT_BYTES} bytes of UTF-8, got {size}")
        return self.key + quote(value)

    def column_format(self, column: Sequence[Any]) -> bytes | None:
        """A ``%`` format for every value of a column as JSON writes it; None if each value needs `write`."""
        kinds = set(map(type, column))
        if not kinds <= NUMBERS or self.type not in {None, "float", "int"}:
            return None
        if self.low is not None and min(column) < self.low:
            return None
        if self.high is not None and max(column) > self.high:
            return None
        key = self.key.replace("%", "%%").encode()
        if self.type != "int":
            return key + b"%b"
        whole = float not in kinds and min(column) >= -INT_LIMIT and max(column) < INT_LIMIT
        return key + b"%bi" if whole else None

    def _refused(self, code: Code, message: str) -> ReadingError:
        return ReadingError(code, message, self.name)


def check_field_name(name: str) -> None:
    """Accept the name of a field.

    Raises:
        ReadingError: ``bad_name``.
    """
    try:
        check_name(name)
    except ValueError as error:
        raise ReadingError(Code.BAD_NAME, str(error), cut(name, MAX_SHOWN_NAME)) from None
