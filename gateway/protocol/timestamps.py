"""The time of a reading: from the forms that devices send to nanoseconds since 1970.

Rules that hold here:

* Integers are exact. A float cannot hold nanoseconds of our time, so it is rounded to the microsecond.
* The range is InfluxDB's: the int64 nanoseconds but for its outermost values (1677-09-21 to 2262-04-11).
"""

from __future__ import annotations

import re
from datetime import date
from typing import Any

from gateway.errors import ReadingError
from gateway.protocol.messages import Code
from gateway.protocol.value_text import shown
from gateway.time_units import NS_PER_MS, NS_PER_S

MIN_NS = -9223372036854775806
MAX_NS = 9223372036854775806

# Milliseconds from 1973 to 2262: integers that are milliseconds by their magnitude and in range.
MIN_MS = 10**11
MAX_MS = MAX_NS // NS_PER_MS

# Numbers smaller than these in magnitude are seconds, milliseconds and microseconds; the rest are nanoseconds.
_SECONDS = 10**11
_MILLISECONDS = 10**14
_MICROSECONDS = 10**17

_DIGITS = re.compile(r"-?\d{1,20}", re.ASCII)
_EPOCH = date(1970, 1, 1).toordinal()
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ]([01]\d|2[0-3]):([0-5]\d):([0-5]\d|60)(?:\.(\d+))?"
    r"(?:[Zz]|([+-])([01]\d|2[0-3]):([0-5]\d))",
    re.ASCII,
)


def moment(value: Any) -> int:
    """The nanoseconds since 1970 of a ``ts``: a number told apart by magnitude, or an RFC 3339 string.

    Raises:
        ReadingError: ``bad_timestamp`` or ``timestamp_out_of_range``.
    """
    kind = value.__class__
    if kind is int:
        time_ns = _from_int(value)
    elif kind is float:
        time_ns = _from_float(value)
    elif kind is str:
        time_ns = _from_text(value)
    else:
        raise ReadingError(Code.BAD_TIMESTAMP, f"expected a number or an RFC 3339 string, got {shown(value)}", "ts")
    return in_range(time_ns, value, "ts")


def asked_moment(text: str) -> int:
    """The nanoseconds since 1970 of a time in a query, which is written as in ``ts``.

    Raises:
        ReadingError: as `moment`.
    """
    try:
        return moment(int(text) if _DIGITS.fullmatch(text) else text)
    except ReadingError as error:
        if error.code != Code.BAD_TIMESTAMP:
            raise
        forms = "a time with its zone such as 2023-11-14T22:13:20.5Z, or ms since 1970 such as 1700000000500"
        raise ReadingError(Code.BAD_TIMESTAMP, f"expected {forms}, got {shown(text)}", "ts") from None


def in_range(time_ns: int, value: Any, key: str) -> int:
    """``time_ns``, if a database can hold it; else a ReadingError about ``value`` of ``key``."""
    if MIN_NS <= time_ns <= MAX_NS:
        return time_ns
    text = f"expected a time from 1677-09-21 to 2262-04-11, got {shown(value)}"
    raise ReadingError(Code.TIMESTAMP_OUT_OF_RANGE, text, key)


def _from_int(value: int) -> int:
    size = abs(value)
    if size < _SECONDS:
        return value * NS_PER_S
    if size < _MILLISECONDS:
        return value * 1_000_000
    return value * 1_000 if size < _MICROSECONDS else value


def _from_float(value: float) -> int:
    size = abs(value)
    if size < _SECONDS:
        return round(value * 1e6) * 1_000
    if size < _MILLISECONDS:
        return round(value * 1e3) * 1_000
    return round(value) * 1_000 if size < _MICROSECONDS else round(value / 1e3) * 1_000


def _from_text(text: str) -> int:
    """RFC 3339 section 5.6: ``2023-11-14T22:13:20.123Z``, or with an offset; a leap second is the second after."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise _not_rfc3339(text)
    year, month, day, hour, minute, second, fraction, sign, hours, minutes = match.groups()
    try:
        days = date(int(year), int(month), int(day)).toordinal() - _EPOCH
    except ValueError:
        raise _not_rfc3339(text) from None
    seconds = ((days * 24 + int(hour)) * 60 + int(minute)) * 60 + int(second)
    if sign is not None:
        offset = int(hours) * 3600 + int(minutes) * 60
        seconds += offset if sign == "-" else -offset
    return seconds * NS_PER_S + int((fraction or "")[:9].ljust(9, "0"))


def _not_rfc3339(text: str) -> ReadingError:
    return ReadingError(
        Code.BAD_TIMESTAMP, f"expected a string such as 2023-11-14T22:13:20.5Z, got {shown(text)}", "ts"
    )


def aged(now_ns: int, age_ms: Any) -> int:
    """The nanoseconds since 1970 of something ``age_ms`` old.

    Raises:
        ReadingError: ``bad_timestamp`` or ``timestamp_out_of_range``.
    """
    if not is_number(age_ms) or age_ms < 0:
        raise ReadingError(Code.BAD_TIMESTAMP, f"expected a number of 0 or more, got {shown(age_ms)}", "age_ms")
    return in_range(now_ns - from_ms(age_ms), age_ms, "age_ms")


def from_ms(value: Any) -> int:
    """A number of milliseconds as nanoseconds. One that is too great, also infinity, gives a result out of range."""
    if value.__class__ is int:
        return int(value) * NS_PER_MS
    bounded: float = min(max(value, -1e14), 1e14)
    # A number as large as a present time is rounded like a time, a smaller one is a distance and is not.
    return round(bounded * 1e3) * 1_000 if abs(bounded) >= _SECONDS else round(bounded * 1e6)


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number; true and false are not."""
    return value.__class__ is int or value.__class__ is float
