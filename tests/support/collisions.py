"""Keys that Python hashes alike: a CBOR array becomes a tuple, and tuples are hashed without a secret.

The hash is `tuplehash` of CPython's Objects/tupleobject.c, a reduced xxHash, of which each step can be undone.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import cbor2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PRIME_1 = 11400714785074694791
_PRIME_2 = 14029467366897019727
_PRIME_5 = 2870177450012600261
_MASK = 2**64 - 1
_UNDOES_2 = pow(_PRIME_2, -1, 2**64)
_OWN_HASH = 2**61 - 1
"""Integers nearer to 0 are their own hash, but for -1."""


def colliding() -> Iterator[tuple[int, int]]:
    """Pairs of one hash, without end."""
    for first in count(1):
        mixed = (_PRIME_5 + first * _PRIME_2) & _MASK
        mixed = (mixed << 31 | mixed >> 33) * _PRIME_1 & _MASK
        second = -mixed * _UNDOES_2 & _MASK
        if second >> 63:
            second -= 2**64
        if abs(second) < _OWN_HASH and second != -1:
            yield first, second


def cbor_map(keys: Sequence[object]) -> bytes:
    """The CBOR map of these keys, fewer than 65,536; each has 1 for its value."""
    return b"\xb9" + len(keys).to_bytes(2) + b"".join(cbor2.dumps(key) + b"\x01" for key in keys)
