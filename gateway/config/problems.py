"""The problems of a configuration in plain words: ``path: problem (where it was set)``.

Rules that hold here:

* A value is shown only where it cannot be a secret: a wrong number or word, but never a section, a text or the value of
  an unknown key.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from gateway.config.model import Config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from gateway.config.sources import Location

_WORDING = {
    "bool_parsing": "expected true or false, got {input}",
    "bool_type": "expected true or false, got {input}",
    "dict_type": "expected a section of names and values",
    "float_parsing": "expected a number",
    "greater_than_equal": "must be {ge} or more, got {input}",
    "int_from_float": "expected a whole number, got {input}",
    "int_parsing": "expected a whole number, got {input}",
    "int_type": "expected a whole number, got {input}",
    "less_than_equal": "must be {le} or less, got {input}",
    "literal_error": "expected {expected}, got {input}",
    "model_type": "expected a section of settings",
    "model_attributes_type": "expected a section of settings",
    "path_type": "expected a path",
    "string_type": "expected text; put numbers, dates and words such as yes, no, on in quotes",
    "tuple_type": "expected a list, such as [a, b]",
    "value_error": "{error}",
}


def explain(error: ValidationError, origins: Mapping[Location, str]) -> dict[Location, str]:
    """One problem per mistake, by the setting."""
    found = {}
    for detail in error.errors(include_url=False):
        location = tuple(str(key) for key in detail["loc"] if key != "[key]")
        found[location] = problem(location, _text(location, detail), origins)
    return found


def problem(location: Location, text: str, origins: Mapping[Location, str]) -> str:
    """``text`` with the path of its setting, and where that was set."""
    places = (origins.get(location[:end]) for end in range(len(location), 0, -1))
    origin = next((place for place in places if place), None)
    return f"{'.'.join(location)}: {text}" + (f" ({origin})" if origin else "")


def _text(location: Location, detail: ErrorDetails) -> str:
    if detail["type"] == "extra_forbidden":
        return _unknown(location)
    wording = _WORDING.get(detail["type"])
    if wording is None:
        return detail["msg"]
    return wording.format(input=repr(detail["input"])[:60], **detail.get("ctx", {}))


def _unknown(location: Location) -> str:
    name, siblings = location[-1], _settings_of(location[:-1])
    close = get_close_matches(name, siblings, 1)
    if close:
        return f"unknown setting; did you mean {close[0]}?"
    elsewhere = [f"{section}.{name}" for section in Config.model_fields if name in _settings_of((section,))]
    if elsewhere:
        return f"unknown setting here; did you mean {' or '.join(elsewhere)}?"
    return f"unknown setting; known here: {', '.join(siblings)}"


def _settings_of(location: Location) -> list[str]:
    kind: Any = Config
    for key in location:
        # Below a mapping such as profiles every name leads to the same kind of section.
        kind = kind.model_fields[key].annotation if _is_section(kind) else get_args(kind)[1]
    return list(kind.model_fields) if _is_section(kind) else []


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
