r"""A point in line protocol: written when a reading is accepted, parsed for readers that need its values.

Rules that hold here:

* One point is one line that ends with a newline; its timestamp is in nanoseconds. A newline inside a string value is
  legal and stays, so a payload is cut by `split_lines`, not by ``split(b"\n")``.
* A backslash escapes ``,``, ``=`` and space in tag keys, tag values and field keys, ``,`` and space in measurements.
  Nothing escapes the backslash itself: names with a backslash before one of these, before ``"`` or another backslash
  or at the end have no line protocol; `gateway.config.names` refuses them. In string values ``"`` and ``\`` are
  escaped.
* Names and tag values have no control characters; the caller has checked that.
* `parse_line` reads what `Series.line` writes, value for value: floats by their shortest repr, ints with ``i``.

Source: the line protocol reference of InfluxDB 1.x, 2.x and 3.x, and what InfluxDB 1.6.7 was seen to do
(docs/reference/protocol.md, "How names and strings reach the database").
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

Value = float | int | bool | str

_NAME = str.maketrans({",": r"\,", "=": r"\=", " ": r"\ "})
_MEASUREMENT = str.maketrans({",": r"\,", " ": r"\ "})

# Possessive quantifiers (++): no backtracking on a long text that is not a line.
_WORD = r"(?:\\.|[^\\=, \n])++"
_VALUE = r'(?:"(?:\\.|[^\\"])*+"|[^", \n]++)'
_LINE = re.compile(
    r"((?:\\.|[^\\, \n])++)"
    rf"((?:,{_WORD}={_WORD})*+) "
    rf"({_WORD}={_VALUE}(?:,{_WORD}={_VALUE})*+) "
    r"(-?[0-9]+)\n",
    re.DOTALL,
)
_LINE_BYTES = re.compile(_LINE.pattern.encode(), re.DOTALL)
_TAG = re.compile(rf",({_WORD})=({_WORD})")
_FIELD = re.compile(rf"({_WORD})=({_VALUE}),?", re.DOTALL)
_ESCAPED = re.compile(r"\\([,= ])")
_ESCAPED_TEXT = re.compile(r'\\([\\"])')


class Series:
    """A measurement with its tags: ``prefix`` is the line up to the fields, escaped, with tags sorted by key."""

    __slots__ = ("prefix",)

    def __init__(self, measurement: str, tags: Mapping[str, str]) -> None:
        pairs = "".join(f",{escape(key)}={escape(tags[key])}" for key in sorted(tags))
        self.prefix = f"{measurement.translate(_MEASUREMENT)}{pairs} "

    def line(self, fields: Mapping[str, Value], time_ns: int) -> bytes:
        """One point; an int becomes a database integer, which the caller has checked to have 64 bits."""
        pairs = ",".join(f"{escape(key)}={encode_value(value)}" for key, value in fields.items())
        return f"{self.prefix}{pairs} {time_ns}\n".encode()


def escape(name: str) -> str:
    """A tag key, tag value or field key as it stands in a line."""
    return name.translate(_NAME)


def encode_value(value: Value) -> str:
    """A field value as it stands in a line."""
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, str):
        return quote(value)
    return f"{value!r}i" if isinstance(value, int) else repr(value)


def quote(text: str) -> str:
    """A string value as it stands in a line."""
    return '"' + text.replace("\\", r"\\").replace('"', r"\"") + '"'


def parse_line(line: bytes) -> tuple[str, dict[str, str], dict[str, Value], int]:
    """Measurement, tags, fields and time (ns since 1970) of one point, with its newline or without.

    Raises:
        ValueError: this is not a line of line protocol.
    """
    text = line.decode()
    if "\\" in text or '"' in text:
        return _parse_quoted(text)
    head, pairs, time_ns = text.split(" ")
    measurement, tags = _parse_plain_head(head)
    fields: dict[str, Value] = {}
    for pair in pairs.split(","):
        key, value = pair.split("=")
        fields[key] = _scalar(value)
    return measurement, dict(tags), fields, int(time_ns)


@lru_cache(maxsize=4096)
def _parse_plain_head(head: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    measurement, *pairs = head.split(",")
    tags = []
    for pair in pairs:
        key, value = pair.split("=")
        tags.append((key, value))
    return measurement, tuple(tags)


def _parse_quoted(text: str) -> tuple[str, dict[str, str], dict[str, Value], int]:
    match = _LINE.fullmatch(text if text.endswith("\n") else text + "\n")
    if match is None:
        raise ValueError(f"not line protocol: {text[:200]!r}")
    measurement, tags = _parse_head(match[1], match[2])
    fields = {unescape(key): _parse_value(value) for key, value in _FIELD.findall(match[3])}
    return measurement, dict(tags), fields, int(match[4])


@lru_cache(maxsize=4096)
def _parse_head(measurement: str, tags: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    pairs = [(unescape(key), unescape(value)) for key, value in _TAG.findall(tags)]
    return unescape(measurement), tuple(pairs)


def _parse_value(text: str) -> Value:
    if text[0] != '"':
        return _scalar(text)
    return _ESCAPED_TEXT.sub(r"\1", text[1:-1]) if "\\" in text else text[1:-1]


def unescape(name: str) -> str:
    """What `escape` was given."""
    return _ESCAPED.sub(r"\1", name) if "\\" in name else name


def _scalar(text: str) -> Value:
    last = text[-1:]
    if last == "i":
        return int(text[:-1])
    if last == "e":
        return _boolean(text)
    return float(text)


def _boolean(text: str) -> bool:
    if text not in {"true", "false"}:
        raise ValueError(f"neither a number nor true nor false: {text[:200]!r}")
    return text == "true"


def split_lines(payload: bytes, lines: int | None = None) -> list[bytes]:
    """The points of a payload, each with its newline; newlines inside strings do not end a point.

    ``lines`` is how many there are, if the caller knows it; that is faster.

    Raises:
        ValueError: the payload is not that many points of line protocol.
    """
    plain = b'"' not in payload if lines is None else payload.count(b"\n") == lines
    if plain and payload.endswith(b"\n"):
        return [line + b"\n" for line in payload[:-1].split(b"\n")]
    found = [match[0] for match in _LINE_BYTES.finditer(payload)]
    if len(found) != (lines or len(found)) or sum(map(len, found)) != len(payload):
        raise ValueError(f"{len(payload)} bytes are not {'points' if lines is None else f'{lines} points'}")
    return found
