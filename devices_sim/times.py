"""Times of recorded data sets, read to the nanosecond, and written so that the gateway reads the same time.

A time without a zone is UTC. The magnitude of a number gives its unit, as in the protocol: seconds below 1e11,
milliseconds below 1e14, microseconds below 1e17, else nanoseconds.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal

_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
_CALENDAR = re.compile(
    r"(\d{4})([-/])(\d{1,2})\2(\d{1,2})"
    r"(?:[T ](\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?)?\s*(Z|z|[+-]\d{2}:?\d{2})?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SCALES = ((10**11, 10**9), (10**14, 10**6), (10**17, 10**3))
_UNAMBIGUOUS_NS = 10**17


def parse_time(text: str, pattern: str | None = None) -> int:
    """Nanoseconds since 1970 of ISO 8601, ``YYYY/MM/DD[ HH:MM[:SS]]``, an epoch number, or a strptime ``pattern``.

    Raises:
        ValueError: it is none of them.
    """
    text = text.strip()
    if pattern is not None:
        moment = datetime.strptime(text, pattern)  # noqa: DTZ007 - the line below gives it a zone
        return _since_epoch(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    if _NUMBER.fullmatch(text):
        return _from_number(text)
    found = _CALENDAR.fullmatch(text)
    if found is None:
        raise ValueError(f"not a time: {text!r}")
    year, _, month, day, hour, minute, second, fraction, zone = found.groups()
    iso = f"{year}-{month:0>2}-{day:0>2}T{(hour or '0'):0>2}:{minute or '00'}:{second or '00'}{zone or 'Z'}"
    return _since_epoch(datetime.fromisoformat(iso.upper())) + int((fraction or "0").ljust(9, "0"))


def is_calendar_time(text: str) -> bool:
    """Whether ``text`` is a time that could be nothing else: a date, not a number."""
    try:
        parse_time(text)
    except ValueError:
        return False
    return not _NUMBER.fullmatch(text.strip())


def wire_time(time_ns: int) -> int | str:
    """A ``ts`` that means exactly ``time_ns``: ms or ns where their magnitude tells, RFC 3339 near 1970 and before."""
    if abs(time_ns) >= _UNAMBIGUOUS_NS:
        milliseconds, rest = divmod(time_ns, 10**6)
        return time_ns if rest else milliseconds
    seconds, nanoseconds = divmod(time_ns, 10**9)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}" + (f".{nanoseconds:09d}Z" if nanoseconds else "Z")


def _from_number(text: str) -> int:
    number = Decimal(text)
    scale = next((scale for bound, scale in _SCALES if abs(number) < bound), 1)
    return int(number * scale)


def _since_epoch(moment: datetime) -> int:
    passed = moment - _EPOCH
    return (passed.days * 86400 + passed.seconds) * 10**9 + passed.microseconds * 1000
