from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.errors import ReadingError
from gateway.line_protocol import escape, parse_line
from gateway.protocol.field import Field
from tests.support.readings import NAMES, NUMBERS, SPECS, outcome


@example({"type": "int"}, "a", [0, 2**63])
@example({"type": "int"}, "a", [-(2**63) - 1])
@given(SPECS, NAMES, st.lists(st.one_of(NUMBERS, st.integers(-10, 10)), min_size=1, max_size=6))
def test_a_column_format_is_given_only_where_every_value_would_pass(
    spec: dict[str, Any], name: str, column: list[Any]
) -> None:
    low, high = spec.get("min"), spec.get("max")
    field = Field(name, f"{escape(name)}=", spec["type"], low, high)
    found = field.column_format(column)
    each = [outcome(field.write, value) for value in column]
    if found is None:
        in_digits = all(type(value) is int for value in column)
        assert spec["type"] in {"bool", "string"} or not in_digits or any(isinstance(text, tuple) for text in each)
        return
    assert all(isinstance(text, str) for text in each)
    for value, text in zip(column, each, strict=True):
        line = b"m " + found % orjson.dumps(value) + b" 1"
        assert parse_line(line) == parse_line(f"m {text} 1".encode())


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (None, 1, "a=1"),
        (None, 1.0, "a=1.0"),
        (None, True, "a=true"),
        (None, 'x"\\', 'a="x\\"\\\\"'),
        ("float", 5, "a=5"),
        ("int", 5, "a=5i"),
        ("int", 5.0, "a=5i"),
        ("int", -0.0, "a=0i"),
        ("int", float(2**53), "a=9007199254740992i"),
        ("bool", False, "a=false"),
        ("string", "", 'a=""'),
        ("string", "é" * 512, 'a="' + "é" * 512 + '"'),
    ],
)
def test_what_is_written(kind: Any, value: Any, text: str) -> None:
    assert Field("a", "a=", kind).write(value) == text


@pytest.mark.parametrize(
    ("kind", "value", "code", "message"),
    [
        (None, [], "wrong_type", "expected a number, bool or string, got array"),
        ("float", "1", "wrong_type", "expected float, got string"),
        ("float", True, "wrong_type", "expected float, got bool"),
        ("int", 1.5, "wrong_type", "expected int, got 1.5"),
        ("int", True, "wrong_type", "expected int, got bool"),
        ("int", 2**63, "out_of_range", "expected an integer of 64 bits, got 9223372036854775808"),
        ("int", -(2.0**63), "out_of_range", "expected an integer of 64 bits in digits, got -9.223372036854776e+18"),
        ("bool", 0, "wrong_type", "expected bool, got number"),
        ("string", 0, "wrong_type", "expected string, got number"),
        ("string", "é" * 513, "too_long", "expected at most 1024 bytes of UTF-8, got 1026"),
    ],
)
def test_what_is_refused(kind: Any, value: Any, code: str, message: str) -> None:
    with pytest.raises(ReadingError) as caught:
        Field("a", "a=", kind).write(value)
    assert (caught.value.code, caught.value.field, caught.value.message) == (code, "a", message)
