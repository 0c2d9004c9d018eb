"""Settings that are changed key by key: JSON Merge Patch (RFC 7396), and the difference that is left.

Rules that hold here:

* ``null`` deletes a key, an object is merged into an object, and any other value replaces the one that was there.
* Nothing is changed in place. Objects nest at most `MAX_DEPTH` deep (`check_value`), so recursion has a bound.
"""

from __future__ import annotations

from typing import Any

from gateway.protocol.value_text import Foreign, kind_of

MAX_DEPTH = 8
"""Objects and arrays within each other, the settings themselves included."""
MAX_SETTINGS = 8 * 1024
"""Bytes of JSON that the settings of a device may have, desired and reported each."""

Settings = dict[str, Any]


def merged(target: Any, patch: Settings) -> Settings:
    """``target`` with ``patch`` applied, as in RFC 7396 section 2."""
    result: Settings = dict(target) if target.__class__ is dict else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value) if value.__class__ is dict else value
    return result


def difference(desired: Settings, reported: Settings) -> Settings:
    """The keys of ``desired`` that ``reported`` lacks or has otherwise. Keys that only the device has are its own."""
    missing: Settings = {}
    for key, value in desired.items():
        found = reported.get(key)
        if value.__class__ is dict and found.__class__ is dict:
            if below := difference(value, found):
                missing[key] = below
        elif key not in reported or found.__class__ is not value.__class__ or found != value:
            missing[key] = value
    return missing


def check_value(value: Any, allowed: int = MAX_DEPTH) -> None:
    """Accept a value that JSON knows and that does not nest too deep.

    Raises:
        ValueError: JSON has no such value, or it nests deeper.
    """
    if value.__class__ is Foreign:
        raise ValueError(f"JSON knows no {kind_of(value)}")
    if value.__class__ is not dict and value.__class__ is not list:
        return
    if not allowed:
        raise ValueError(f"objects and arrays are at most {MAX_DEPTH} deep")
    for member in value.values() if value.__class__ is dict else value:
        check_value(member, allowed - 1)
