"""RFC 6455 frames without a socket: bytes in, whole messages and control frames out; and the frames a server sends.

Rules that hold here:

* The same bytes give the same frames however they are cut into chunks, and the work is linear in the bytes.
* Headers are judged as soon as they can be read: an unmasked frame at its second byte, a frame that is too big before
  its payload.
* The parser never holds more than one message of ``limit`` bytes and one chunk. The fragments of a message are bounded
  too (`MIN_FRAGMENTS`), since each costs as much as a small message and may be empty.
* After a violation nothing more is parsed. The frames before it are still delivered.
* Control frames may come between the fragments of a message and do not change it.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
"""Opcodes (RFC 6455, 5.2)."""
FINAL = 0x80
COMPRESSED = 0x40
"""The RSV1 bit, permessage-deflate's mark on the first frame of a message (RFC 7692, 6)."""
FRAMES_PER_TURN = 256
"""Frames parsed by one call at most, so that a chunk of tiny frames does not block the event loop."""

_WHOLE_TEXT = FINAL | TEXT
_OPCODE = 0x0F
_LENGTH = 0x7F
_RESERVED = 0x70
_CONTROL = 0x08
_MASKED = 0x80
_MAX_SHORT = 125
_MAX_REASON = 123
_MIN_FRAME = 6
"""Bytes of the shortest frame of a client."""
_OPCODES = frozenset((CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG))

MIN_FRAGMENTS = 64
BYTES_PER_FRAGMENT = 16
"""A message may have `MIN_FRAGMENTS` fragments, and one more for each `BYTES_PER_FRAGMENT` bytes of the limit."""

PROTOCOL_ERROR = 1002
NOT_UTF8 = 1007
POLICY = 1008
TOO_BIG = 1009
INTERNAL_ERROR = 1011

Frame = tuple[int, bytes]
"""(kind, payload): a whole message or a control frame. ``kind`` is the opcode, plus `COMPRESSED` if that bit is set."""

_short_header = struct.Struct(">BB").pack
_medium_header = struct.Struct(">BBH").pack
_long_header = struct.Struct(">BBQ").pack
_close_code = struct.Struct(">H")


class Violation(NamedTuple):
    """What the peer did wrong: the close code to answer with (RFC 6455, 7.4.1) and a short sentence."""

    code: int
    reason: str


class CloseFrame(NamedTuple):
    """The content of a Close frame; both fields are None if the frame was empty."""

    code: int | None
    reason: str | None


def too_big(limit: int) -> Violation:
    """The violation of a message of more than ``limit`` bytes."""
    return Violation(TOO_BIG, f"message is larger than {limit} bytes")


def encode_frame(first: int, payload: bytes) -> bytes:
    """A server's frame, unmasked; ``first`` is its first byte: `FINAL`, flags and opcode."""
    length = len(payload)
    if length <= _MAX_SHORT:
        return _short_header(first, length) + payload
    if length <= 0xFFFF:
        return _medium_header(first, 126, length) + payload
    return _long_header(first, 127, length) + payload


def encode_close(code: int | None, reason: str | None) -> bytes:
    """The payload of a Close frame; a reason longer than a control frame holds is cut between characters."""
    if code is None:
        if reason is None:
            return b""
        code = 1000
    text = (reason or "").encode()[:_MAX_REASON].decode(errors="ignore")
    return _close_code.pack(code) + text.encode()


def decode_close(payload: bytes) -> CloseFrame | Violation:
    """The content of a peer's Close frame, judged by RFC 6455, 7.4 and the IANA registry of close codes."""
    if not payload:
        return CloseFrame(None, None)
    if len(payload) == 1:
        return Violation(PROTOCOL_ERROR, "close frame of one byte")
    (code,) = _close_code.unpack_from(payload)
    if not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        return Violation(PROTOCOL_ERROR, f"close code {code} is not valid")
    try:
        reason = payload[2:].decode()
    except UnicodeDecodeError:
        return Violation(NOT_UTF8, "close reason is not UTF-8")
    return CloseFrame(code, reason or None)


class FrameParser:
    """Reads a client's frames.

    ``limit`` is the largest message in bytes (as sent, so before decompression), ``compression`` whether
    permessage-deflate was agreed, ``unmask`` takes the four mask bytes and the payload.
    """

    __slots__ = (
        "_compression",
        "_data",
        "_fragments",
        "_kind",
        "_message",
        "_message_number",
        "_needed",
        "_partial",
        "_position",
        "_short",
        "_unmask",
        "limit",
        "violation",
    )

    def __init__(self, limit: int, unmask: Callable[[bytes, bytes], bytes], *, compression: bool = False) -> None:
        self.limit = limit
        self._unmask = unmask
        self._compression = compression
        self._data = b""
        """Bytes that were given and not parsed, because a call stopped at `FRAMES_PER_TURN`; empty otherwise."""
        self._position = 0
        """Where in ``_data`` the next frame begins."""
        self._partial: bytearray | None = None
        """The beginning of a frame that is not whole; None between frames."""
        self._needed = 0
        """Length that ``_partial`` must reach before it is parsed again."""
        self._message: bytearray | None = None
        """The fragments so far of a fragmented message; None outside of one."""
        self._fragments = 0
        """Continuation frames of the fragmented message so far."""
        self._message_number = 1
        """Changes with each message, so that `unfinished` tells two unfinished messages apart."""
        self._kind = 0
        """Kind of the fragmented message, from its first frame."""
        self._short = _MASKED | min(limit, _MAX_SHORT)
        """Highest second byte of a frame that the fast path of `_parse` takes; 0 inside a fragmented message."""
        self.violation: Violation | None = None
        """Set once the peer has broken the protocol, after the frames that the same call returned."""

    @property
    def unfinished(self) -> int:
        """0 between messages. Inside a message a number that stays the same until the message has ended."""
        return 0 if self._message is None and self._partial is None else self._message_number

    @property
    def has_more(self) -> bool:
        """Whether the last call stopped at `FRAMES_PER_TURN` with bytes left for `next_frames`."""
        return bool(self._data)

    def single_text(self, data: bytes) -> bytes | None:
        """The payload if ``data`` is exactly one whole text message and nothing waits before it; None: call `feed`.

        Nearly every read from a device is such a message; this spares the list of frames.
        """
        if self._partial is not None or self._data or len(data) < _MIN_FRAME or data[0] != _WHOLE_TEXT:
            return None
        second = data[1]
        if _MASKED <= second <= self._short:
            start, length = 6, second - _MASKED
        elif second == _MASKED | 126 and self._short:
            start, length = 8, data[2] << 8 | data[3]
        else:
            return None
        if len(data) != start + length or length > self.limit or self.violation is not None:
            return None
        return self._unmask(data[start - 4 : start], data[start:])

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that ``data`` completes, in order, at most `FRAMES_PER_TURN`."""
        if self.violation is not None:
            return []
        if self._partial is not None:
            self._partial += data
            if len(self._partial) < self._needed:
                return []
            data = bytes(self._partial)
            self._partial = None
        elif self._data:
            data = self._data[self._position :] + data
        return self._parse(data, 0)

    def discard(self) -> None:
        """Drop all bytes that were given and not delivered."""
        self._data = b""
        self._partial = self._message = None

    def next_frames(self) -> list[Frame]:
        """The next frames of the bytes already given."""
        return self._parse(self._data, self._position) if self._data else []

    def _parse(self, data: bytes, position: int) -> list[Frame]:
        frames: list[Frame] = []
        end = len(data)
        unmask = self._unmask
        for _ in range(FRAMES_PER_TURN):
            if end - position < 2:
                self._needed = 2
                break
            # Nearly every frame a device sends is a whole text message shorter than 126 bytes.
            if data[position] == _WHOLE_TEXT and _MASKED <= (second := data[position + 1]) <= self._short:
                start = position + 6
                stop = start + second - _MASKED
                if stop > end:
                    self._needed = stop - position
                    break
                frames.append((TEXT, unmask(data[position + 2 : start], data[start:stop])))
            elif (stop := self._parse_any(data, position, frames)) == position:
                break
            position = stop
        else:
            if position < end:
                self._data, self._position = data, position
                return frames
        self._data = b""
        if frames and self._message is None:
            self._message_number += 1
        if position < end and self.violation is None:
            self._partial = bytearray(data[position:])
        return frames

    def _parse_any(self, data: bytes, position: int, frames: list[Frame]) -> int:
        """Parse one frame of any kind; the position after it, or ``position`` if it is incomplete or illegal."""
        if problem := self._problem(data[position], data[position + 1]):
            self.violation = Violation(PROTOCOL_ERROR, problem)
            return position
        length = data[position + 1] & _LENGTH
        start = position + 6
        if length > _MAX_SHORT:
            start += 2 if length == 126 else 8
            if len(data) < start:
                self._needed = start - position
                return position
            length = int.from_bytes(data[position + 2 : start - 4])
        first = data[position]
        if not first & _CONTROL and (excess := self._excess(length)) is not None:
            self.violation = excess
            return position
        stop = start + length
        if len(data) < stop:
            self._needed = stop - position
            return position
        self._take(first, self._unmask(data[start - 4 : start], data[start:stop]), frames)
        return stop

    def _excess(self, length: int) -> Violation | None:
        """The limit that a data frame of ``length`` bytes breaks; None if it breaks none."""
        if length + len(self._message or b"") > self.limit:
            return too_big(self.limit)
        if self._fragments > (allowed := MIN_FRAGMENTS + self.limit // BYTES_PER_FRAGMENT):
            return Violation(POLICY, f"message is in more than {allowed} pieces")
        return None

    def _problem(self, first: int, second: int) -> str | None:
        """What is wrong with the first two bytes of a frame (RFC 6455, 5.2, 5.4 and 5.5)."""
        opcode = first & _OPCODE
        if second < _MASKED:
            return "frame is not masked"
        if opcode not in _OPCODES:
            return f"opcode {opcode} is not known"
        reserved = first & _RESERVED
        if reserved and not (reserved == COMPRESSED and self._compression and opcode in (TEXT, BINARY)):
            return "reserved bit is set"
        if opcode & _CONTROL:
            if not first & FINAL:
                return "control frame is fragmented"
            return "control frame is too long" if second > _MASKED | _MAX_SHORT else None
        if opcode == CONTINUATION:
            return "nothing to continue" if self._message is None else None
        return "message inside a fragmented message" if self._message is not None else None

    def _take(self, first: int, payload: bytes, frames: list[Frame]) -> None:
        """Add a legal frame to its message, and to ``frames`` once the message is whole."""
        opcode = first & _OPCODE
        kind = first & (COMPRESSED | _OPCODE)
        if self._message is not None and opcode == CONTINUATION:
            self._message += payload
            self._fragments += 1
            if first & FINAL:
                frames.append((self._kind, bytes(self._message)))
                self._message = None
                self._fragments = 0
                self._short = _MASKED | min(self.limit, _MAX_SHORT)
        elif first & FINAL:
            frames.append((kind, payload))
        else:
            self._kind = kind
            self._message = bytearray(payload)
            self._message_number += 1
            self._short = 0
