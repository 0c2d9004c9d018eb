from __future__ import annotations

from typing import Any

import pytest

from gateway.protocol.value_text import cut, kind_of, shown


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (True, "bool", "bool"),
        (5, "number", "5"),
        (1.5, "number", "1.5"),
        ("x", "string", '"x"'),
        ("x" * 50, "string", '"' + "x" * 40 + '…"'),
        ([1], "array", "array"),
        ({"a": 1}, "object", "object"),
        (None, "null", "null"),
    ],
)
def test_json_values_by_their_json_names(value: Any, kind: str, text: str) -> None:
    assert (kind_of(value), shown(value)) == (kind, text)


def test_text_that_fits_is_not_cut() -> None:
    assert cut("x" * 80, 80) == "x" * 80
    assert cut("x" * 81, 80) == "x" * 80 + "…"
