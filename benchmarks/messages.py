"""The messages of the devices: the same bytes for every server, built and masked before the clock runs.

Rules that hold here:

* Message ``n`` of a run is the same for every device, so one frame serves them all: the device is named by its URL.
* Timestamps lie in the last hour and grow with ``n``; no two samples of a device share one, or a database would store
  fewer than were sent.
"""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

FIN_TEXT = 0x81
FIN_PING = 0x89
FIN_PONG = 0x8A
MASKED = 0x80
SEVEN_BITS = 125
SIXTEEN_BITS = 0xFFFF
SAMPLE_MS = 10
HOUR_MS = 3_600_000


@dataclass(frozen=True)
class Form:
    """One shape of message: its ``readings``, and the fields of each, which are what the database counts as rows."""

    readings: int
    fields: int
    body: Callable[[random.Random, int, int], dict[str, Any]]

    @property
    def rows(self) -> int:
        """Values in one message."""
        return self.readings * self.fields


def _values(rng: random.Random) -> dict[str, float]:
    return {
        "temp": round(20 + rng.random() * 5, 2),
        "hum": round(40 + rng.random() * 9, 1),
        "press": round(1000 + rng.random() * 20, 1),
        "batt": round(3.5 + rng.random() / 2, 2),
    }


def _reading(rng: random.Random, seq: int, start_ms: int) -> dict[str, Any]:
    return {"seq": seq, "ts": start_ms + seq * SAMPLE_MS, "values": _values(rng)}


def _batch(rng: random.Random, seq: int, start_ms: int) -> dict[str, Any]:
    first = start_ms + seq * 50 * SAMPLE_MS
    return {"seq": seq, "readings": [{"ts": first + i * SAMPLE_MS, "values": _values(rng)} for i in range(50)]}


def _block(rng: random.Random, seq: int, start_ms: int) -> dict[str, Any]:
    columns = {axis: [round(rng.gauss(0, 1), 3) for _ in range(100)] for axis in "xyz"}
    return {"seq": seq, "m": "vib", "t0": start_ms + seq * 100 * SAMPLE_MS, "dt": SAMPLE_MS, "columns": columns}


FORMS = {
    "reading": Form(1, 4, _reading),
    "batch": Form(50, 4, _batch),
    "block": Form(100, 3, _block),
}


class Frames:
    """The frames of one form, made on demand and in order."""

    def __init__(self, form: str, seed: int = 1) -> None:
        self._form = FORMS[form]
        self._rng = random.Random(seed)
        self._start_ms = time.time_ns() // 1_000_000 - HOUR_MS
        self.made: list[bytes] = []

    def up_to(self, count: int) -> None:
        """Make frames until ``made`` has at least ``count``."""
        for seq in range(len(self.made), count):
            self.made.append(client_frame(FIN_TEXT, orjson.dumps(self._form.body(self._rng, seq, self._start_ms))))


def client_frame(first: int, payload: bytes) -> bytes:
    """One masked frame of RFC 6455, section 5.2; ``first`` is its first byte."""
    size = len(payload)
    if size <= SEVEN_BITS:
        head = bytes((first, MASKED | size))
    elif size <= SIXTEEN_BITS:
        head = bytes((first, MASKED | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, MASKED | 127)) + size.to_bytes(8, "big")
    mask = os.urandom(4)
    repeated = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return head + mask + (int.from_bytes(payload, "big") ^ repeated).to_bytes(size, "big")
