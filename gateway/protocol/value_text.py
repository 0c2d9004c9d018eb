"""How a value is quoted in an answer, so that a firmware developer recognises what the device sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MAX_SHOWN_TEXT = 40
"""Characters of a string value that an answer quotes."""
MAX_SHOWN_NAME = 80
"""Characters of a name that an answer quotes."""

_KINDS = {bool: "bool", int: "number", float: "number", str: "string", list: "array", dict: "object"}


@dataclass(frozen=True, slots=True)
class Foreign:
    """A value that JSON does not know, such as NaN. It is refused everywhere, because no rule accepts its class."""

    kind: str


def kind_of(value: Any) -> str:
    """The type of ``value``, in JSON's words."""
    return value.kind if value.__class__ is Foreign else _KINDS.get(value.__class__, "null")


def shown(value: Any) -> str:
    """A number as it is, a string cut and quoted, anything else by its type."""
    if value.__class__ is int or value.__class__ is float:
        return repr(value)
    return f'"{cut(value)}"' if value.__class__ is str else kind_of(value)


def cut(text: str, length: int = MAX_SHOWN_TEXT) -> str:
    """``text`` or its beginning."""
    return text if len(text) <= length else f"{text[:length]}…"
