"""How a value is named in an answer, so that a firmware developer recognises what was sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MAX_SHOWN_TEXT = 40
MAX_SHOWN_NAME = 80

_KINDS = {bool: "bool", int: "number", float: "number", str: "string", list: "array", dict: "object"}


@dataclass(frozen=True, slots=True)
class Foreign:
    """A value that JSON does not know, such as NaN: refused wherever it stands, since no rule takes its class."""

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
