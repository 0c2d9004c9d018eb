"""Objects in a reading become fields with dotted names: ``{"gps":{"lat":1}}`` is ``gps.lat``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.config.names import NAME_LENGTH
from gateway.errors import ReadingError
from gateway.protocol.messages import Code
from gateway.protocol.shown import MAX_SHOWN_NAME, cut

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_DEPTH = 3
MAX_FIELDS = 256
TOO_DEEP = f"expected at most {MAX_DEPTH} levels of objects"


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
