"""The shape of messages: a device sends nearly the same text again and again, and only the numbers in it change.

Reading a message of several readings as JSON makes two dictionaries for each reading, with the same names as in the
message before. Here the text is cut at its numbers, and put together again with the known text between them. If the
same bytes result, then nothing but numbers has changed.

Rules that hold here:

* A shape fits a message only if that is so, byte by byte, and its numbers are numbers in JSON. Any other message goes
  the long way (`codec`, `validation`). Both ways write the same bytes.
* Numbers are written as orjson writes them, however the device did: ``22.50`` is 22.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import orjson

from gateway.protocol.codec import MAX_READINGS
from gateway.protocol.encoded_message import EncodedMessage
from gateway.protocol.messages import MAX_SEQ, Readings
from gateway.protocol.timestamps import MAX_MS, MIN_MS
from gateway.time_units import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_START = 64
"""The readings of a message begin within so many bytes."""
_NUMBERS_ONLY = bytes(byte if byte in b"0123456789.-" else ord(" ") for byte in range(256))
_NEITHER_NUMBERS_NOR_COMMAS = bytes(byte for byte in range(256) if byte not in b"0123456789.-,")
_NS_OF_MS = b"000000"


@dataclass(slots=True, kw_only=True)
class ShapedReadings(Readings):
    """Readings of the same names: ``numbers`` are the seq, then times (ms) and values row by row; ``texts`` as written.

    ``items`` is empty. ``oldest`` and ``newest`` are the first and the last of the times.
    """

    shape: Shape
    texts: Sequence[bytes]
    numbers: Sequence[float]
    oldest: int
    newest: int

    @property
    def count(self) -> int:
        """Readings in the message."""
        return len(self.texts) // self.shape.width

    def encode(self, device: str, prefix: bytes) -> EncodedMessage:
        """Write every reading behind ``prefix``. None is refused: the names are known, and take any number."""
        width, texts, count = self.shape.width, self.texts, self.count
        first, *between = self.shape.keys
        start = prefix + first
        line: list[bytes] = []
        for key in between:
            line += (b"", key)
        line += (b"", b" ", b"", _NS_OF_MS + b"\n" + start)
        lines = line * count
        for value in range(1, width):
            lines[2 * value - 2 :: 2 * width] = texts[value + 1 :: width]
        lines[2 * width - 2 :: 2 * width] = texts[1::width]
        lines[-1] = _NS_OF_MS + b"\n"
        payload = start + b"".join(lines)
        last = (count - 1 - self.numbers[-width:0:-width].index(self.newest)) * width + 2
        latest = dict(zip(self.shape.names, self.numbers[last : last + width - 1], strict=True))
        return EncodedMessage(device, count, payload, count, latest, self.newest * NS_PER_MS)


class Shape:
    """``{"seq":_,"readings":[{"ts":_,"values":{NAME:_,..}},..]}``, with a space behind each ``,`` and ``:`` or none.

    ``names`` are such as stand alike in JSON and in a line.
    """

    __slots__ = ("_close", "_known", "_spaced", "keys", "names", "width")

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.width = 1 + len(names)
        """Numbers in a row."""
        encoded = [name.encode() for name in names]
        keys = [name + b"=" for name in encoded]
        self.keys = keys[:1] + [b"," + key for key in keys[1:]]
        """What goes before each value in a line."""
        self._known = _Text(encoded, b",", b":")
        self._spaced = _Text(encoded, b", ", b": ")

    def read(self, data: bytes) -> ShapedReadings | None:
        """The message in ``data``; None if it does not have this shape, or may not be valid."""
        return (self._spaced if data[7:8] == b" " else self._known).read(data, self)


class _Text:
    """The text of a message between its numbers, for names encoded, with these signs for ``,`` and ``:``."""

    __slots__ = ("_cycle", "_first", "_from", "_opening", "_stride")

    def __init__(self, names: Sequence[bytes], comma: bytes, colon: bytes) -> None:
        self._first = comma + b'"readings"' + colon + b'[{"ts"' + colon
        before = [comma + b'"' + name + b'"' + colon for name in names]
        before[0] = comma + b'"values"' + colon + b"{" + before[0].removeprefix(comma)
        self._opening = [b'{"seq"' + colon, b"", self._first]
        self._cycle: list[bytes] = []
        """The text of one reading, with an empty piece in the place of each number."""
        for text in [*before, b"}}" + comma + b'{"ts"' + colon]:
            self._cycle += (b"", text)
        # A name may have digits, which look like numbers at first.
        digits = accumulate(len(text.translate(_NUMBERS_ONLY).split()) for text in before)
        self._from = [1, *(2 + value + more for value, more in enumerate(digits))]
        """Where the numbers of each column begin among all that look like numbers, the ``seq`` before them."""
        self._stride = self._from[-1]

    def read(self, data: bytes, shape: Shape) -> ShapedReadings | None:
        """See `Shape.read`."""
        if self._first not in data[:_MAX_START]:
            return None
        if self._stride == shape.width:
            text = data.translate(None, _NEITHER_NUMBERS_NOR_COMMAS)  # one comma remains between two numbers
            found = text.split(b",")
        else:
            found = self._without_names(data.translate(_NUMBERS_ONLY).split())
            text = b",".join(found)
        count, rest = divmod(len(found) - 1, shape.width)
        if rest or not 0 < count <= MAX_READINGS:
            return None
        again = self._opening + self._cycle * count
        again[1::2] = found
        again[-1] = b"}}]}"
        if b"".join(again) != data:
            return None
        return _shaped_readings(shape, text, found)

    def _without_names(self, found: list[bytes]) -> list[bytes]:
        count, rest = divmod(len(found) - 1, self._stride)
        if rest:
            return []
        width = len(self._from)
        numbers = found[:1] * (1 + count * width)
        for column, start in enumerate(self._from):
            numbers[1 + column :: width] = found[start :: self._stride]
        return numbers


def _shaped_readings(shape: Shape, text: bytes, texts: list[bytes]) -> ShapedReadings | None:
    """The message with these numbers, its ``seq`` first; None if one is not a number, or not valid in its place."""
    text = b"[%b]" % text
    try:
        numbers: list[Any] = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    written = orjson.dumps(numbers)
    if written != text:
        texts = written[1:-1].split(b",")
    seq, times = numbers[0], sorted(numbers[1 :: shape.width])
    if seq.__class__ is not int or not 0 <= seq <= MAX_SEQ or set(map(type, times)) != {int}:
        return None
    if times[0] < MIN_MS or times[-1] > MAX_MS:
        return None
    return ShapedReadings(seq, (), shape=shape, texts=texts, numbers=numbers, oldest=times[0], newest=times[-1])
