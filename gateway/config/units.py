"""How durations, sizes and addresses are written in a configuration, and read back.

Rules that hold here:

* A duration always has a unit: a bare ``10`` is refused, because it could mean seconds or milliseconds. A size
  without a unit is in bytes.
* A formatted value can be parsed again, to the same value.
"""

from __future__ import annotations

import ipaddress
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, WithJsonSchema

if TYPE_CHECKING:
    from collections.abc import Callable

_SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}

DURATION_PATTERN = r"^[0-9]+(\.[0-9]+)? ?(ms|s|m|h|d)$"
SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)? ?(B|KiB|MiB|GiB|TiB)?$"
LISTEN_PATTERN = r"^(\[[0-9A-Fa-f:.]+\]|[^\[\]:/ ]+):[0-9]{1,5}$"


def _amount(text: str) -> tuple[Decimal, str]:
    number = text.rstrip("BKMGTidhms ")
    return Decimal(number), text[len(number) :].strip()


def parse_duration(value: Any) -> float:
    """Seconds of ``20s``, ``5ms``, ``1.5m``, ``1h`` or ``30d``.

    Raises:
        ValueError: it is not written like that.
    """
    text = str(value)
    if not isinstance(value, str) or not re.fullmatch(DURATION_PATTERN, text, re.ASCII):
        raise ValueError(f"expected a duration such as 500ms, 20s, 5m, 1h or 30d, got {text[:40]}")
    number, unit = _amount(text)
    return float(number * _SECONDS[unit])


def format_duration(seconds: float) -> str:
    """``seconds`` in the largest unit that takes a whole number of it."""
    exact = Decimal(str(seconds))
    for unit in ("d", "h", "m", "s"):
        if exact >= _SECONDS[unit] and exact % _SECONDS[unit] == 0:
            return f"{exact / _SECONDS[unit]:.0f}{unit}"
    return f"{(exact * 1000).normalize():f}ms" if seconds else "0s"


def parse_size(value: Any) -> int:
    """Bytes of ``64KiB``, ``1.5MiB``, ``1GiB`` or a plain number of bytes.

    Raises:
        ValueError: it is not written like that.
    """
    text = str(value)
    if isinstance(value, bool) or not re.fullmatch(SIZE_PATTERN, text, re.ASCII):
        raise ValueError(f"expected a size such as 512B, 64KiB, 16MiB or 1GiB, got {text[:40]}")
    number, unit = _amount(text)
    return int(number * _BYTES[unit or "B"])


def format_size(size: int) -> str:
    """``size`` bytes in the largest unit that takes a whole number of it."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size >= _BYTES[unit] and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return f"{size}B"


class ListenAddress(NamedTuple):
    """Where the gateway listens: a name or address, and a TCP port (0: one that is free)."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(value: Any) -> ListenAddress:
    """The address in ``127.0.0.1:8080``, ``[::1]:8080`` or ``gateway.example:8080``.

    Raises:
        ValueError: it is not written like that.
    """
    if isinstance(value, ListenAddress):
        return value
    text = str(value)
    host, _, port = text.rpartition(":")
    if not re.fullmatch(LISTEN_PATTERN, text, re.ASCII) or int(port) > 65535:
        raise ValueError(
            f"expected host:port such as 127.0.0.1:8080, [::1]:8080 or 0.0.0.0:8080 (every network), got {text[:60]}"
        )
    return ListenAddress(host.strip("[]"), int(port))


def between(low: str, high: str, parse: Callable[[str], float]) -> AfterValidator:
    """A validator for a duration or a size: from ``low`` to ``high``, both included."""
    minimum, maximum = parse(low), parse(high)

    def check(value: float) -> float:
        if not minimum <= value <= maximum:
            raise ValueError(f"must be from {low} to {high}")
        return value

    return AfterValidator(check)


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN}),
]
"""Seconds, written with a unit."""

Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(format_size, return_type=str, when_used="json"),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": SIZE_PATTERN}, {"type": "integer", "minimum": 0}]}),
]
"""Bytes, written with or without a unit."""

Listen = Annotated[
    ListenAddress,
    BeforeValidator(parse_listen),
    PlainSerializer(str, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": LISTEN_PATTERN}),
]
"""A `ListenAddress`, written ``host:port``."""
