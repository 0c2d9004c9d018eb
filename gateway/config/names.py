"""What devices, measurements, fields and tags may be called (docs/reference/protocol.md, "Connecting" and "Names")."""

from __future__ import annotations

import re

DEVICE_ID = re.compile(r"(?!\.\.?\Z)[A-Za-z0-9._:-]{1,128}", re.ASCII)
"""``.`` and ``..`` are not allowed, because browsers and proxies take them for steps in a path."""
NAME_LENGTH = 64
TAG_VALUE_LENGTH = 256
DEVICE_TAG = "device"
"""The tag that the gateway itself writes on every point."""

# C0, DEL and C1, and halves of surrogate pairs, which UTF-8 cannot carry.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# Line protocol escapes comma, equals sign and space by a backslash, and has no escape for the backslash. InfluxDB
# also drops a backslash before a double quote in measurements and fields, and VictoriaMetrics one of two in a row.
_LOOSE_BACKSLASH = re.compile(r'\\([,= "\\]|$)')


def check_device_id(text: str) -> str:
    """``text``, if it is a valid device id.

    Raises:
        ValueError: it is not.
    """
    if not DEVICE_ID.fullmatch(text):
        raise ValueError("a device id is 1 to 128 of A-Z a-z 0-9 . _ : -")
    return text


def check_name(text: str) -> str:
    """``text``, if it is a valid name of a field, a tag or a measurement.

    Raises:
        ValueError: it is not.
    """
    _check_text(text, "a name", NAME_LENGTH)
    if text == "time" or text.startswith("_"):
        raise ValueError("`time` and names beginning with _ belong to the database")
    return text


def check_measurement(text: str) -> str:
    """``text``, if it is a valid name of a measurement.

    Raises:
        ValueError: it is not.
    """
    if text.startswith("#"):
        raise ValueError("a line that begins with # is a comment to the database")
    return check_name(text)


def check_tag(name: str, value: str) -> None:
    """Check a tag of a device or a profile.

    Raises:
        ValueError: the name or the value is not allowed.
    """
    if check_name(name) == DEVICE_TAG:
        raise ValueError(f"the tag {DEVICE_TAG} is written by the gateway")
    _check_text(value, "a tag's value", TAG_VALUE_LENGTH)


def _check_text(text: str, what: str, length: int) -> None:
    if not 1 <= len(text) <= length:
        raise ValueError(f"{what} has 1 to {length} characters")
    if _CONTROL.search(text):
        raise ValueError(f"{what} has no control characters")
    if _LOOSE_BACKSLASH.search(text):
        raise ValueError(f'{what} has no backslash at its end or before a comma, equals sign, space, " or another')
