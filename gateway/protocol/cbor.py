"""The subset of CBOR (RFC 8949) that JSON can express: bytes in, the value out that the message would have in JSON.

Rules that hold here:

* The value has JSON's types only, so no other module knows of CBOR. NaN, infinity, a byte string and an unassigned
  simple value become `Foreign`, which refuses its reading. ``undefined`` is null (RFC 8949 section 6.1).
* Tags are refused. A tag can name a regular expression, a decimal of 10^9 digits or the item itself. The library acts
  upon two dozen of them, so each is disabled in it (`_REFUSED`), and a test tries all others.
* Not valid, and refused whole: keys that are not text or come twice (section 5.6), text that is not UTF-8, bytes after
  the item. Indefinite lengths are allowed: devices with little memory need them, and they reserve no memory here.
* Only text and byte strings are hashed as keys, because Python hashes these with a secret. A sender can make arrays
  that all have one hash, and a map of a few thousand such keys would take so long that all connections wait.
"""

from __future__ import annotations

import math
from io import BytesIO
from typing import Any

import cbor2

from gateway.errors import MessageError
from gateway.protocol.messages import Code
from gateway.protocol.value_text import Foreign, cut

MAX_DEPTH = 64
"""Levels of arrays and maps. A message with readings needs six at most."""

_MIN_INT = -(2**63)
_PLAIN = frozenset((str, bool, type(None)))
_KNOWN_TAGS = frozenset(
    (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799)
)
"""The tags that the library would act upon."""


def _refuse(_value: Any, _immutable: bool) -> Any:  # noqa: FBT001 - the library's call
    raise ValueError("tags are not understood here")


_REFUSED = dict.fromkeys(_KNOWN_TAGS, _refuse)


def parse(data: bytes) -> Any:
    """The value of ``data``, one CBOR item.

    Raises:
        MessageError: ``malformed_cbor``.
    """
    stream = BytesIO(data)
    try:
        value = cbor2.load(
            stream,
            tag_hook=_refuse,
            semantic_decoders=_REFUSED,
            max_depth=MAX_DEPTH,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
        )
    except cbor2.CBORDecodeError as error:
        raise _malformed(cut(str(error.__cause__ or error), 120)) from None
    if stream.tell() != len(data):
        raise _malformed(f"{len(data) - stream.tell()} bytes behind the item")
    return _checked(value)


def encode(message: dict[str, Any]) -> bytes:
    """A message of the gateway."""
    return cbor2.dumps(message)


def _checked(value: Any) -> Any:
    """``value`` with JSON's types only; arrays and maps are changed in place."""
    if value.__class__ is not dict and value.__class__ is not list:
        return _scalar(value)
    waiting: list[Any] = [value]
    while waiting:
        container = waiting.pop()
        named = container.__class__ is dict
        for key, member in container.items() if named else enumerate(container):
            if named and key.__class__ is not str:
                raise _malformed("a key that is no text")
            kind = member.__class__
            if kind is dict or kind is list:
                waiting.append(member)
            elif kind not in _PLAIN:
                container[key] = _scalar(member)
    return value


def _scalar(value: Any) -> Any:
    kind = value.__class__
    if kind is float:
        return value if math.isfinite(value) else Foreign("NaN" if math.isnan(value) else "infinity")
    if kind is int:
        return value if value >= _MIN_INT else float(value)  # as codec.parse reads such a number from JSON
    if kind in _PLAIN:
        return value
    if value is cbor2.undefined:
        return None
    return Foreign("byte string" if kind is bytes else "simple value")


def _malformed(problem: str) -> MessageError:
    return MessageError(Code.MALFORMED_CBOR, f"not CBOR: {problem}")
