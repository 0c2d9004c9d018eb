"""Inputs for the fuzz targets: the corpus, and strategies that change it.

`corpus/TARGET/` holds what is worth beginning with, and everything that was ever found; the golden vectors are added.
"""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cbor2
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
VARIANTS = 40
"""For each example of hypothesis, which takes as long to make one as some targets take for a hundred."""
LONGEST = 8192
VECTORS = HERE.parent / "vectors"

_BYTES = [bytes([value]) for value in (0, 1, 0x7F, 0x80, 0xFF, 0x0A, 0x22, 0x5C, 0x2C, 0x3D, 0x20)]
_JSON = [
    *(b'"seq":', b'"ts":', b'"values":', b'"readings":[', b'"columns":{', b'"dt":', b'"t0":', b'"tags":{"line":'),
    *(
        b'"type":"hello"',
        b'"boot":',
        b'"ack":"stored"',
        b"null",
        b"true",
        b"1e999",
        b"-0.0",
        b"1e308",
        b"[" * 70,
        b'{"a":' * 5,
    ),
    *(
        b'"\\ud800"',
        b'"\\u0000"',
        b"9007199254740993",
        b"18446744073709551616",
        b'"' + b"x" * 1100 + b'"',
        b'"_x":1',
        b'"time":1',
    ),
]
_SENML = [
    *(
        b'"bn":"d1:"',
        b'"bt":1.7e9',
        b'"bu":"Cel"',
        b'"bv":1e308',
        b'"bs":2',
        b'"bver":10',
        b'"n":"d1:a"',
        b'"u":"V"',
        b'"v":1',
    ),
    *(b'"vs":"x"', b'"vb":true', b'"vd":"aGk"', b'"s":1', b'"t":-5', b'"ut":1', b'"x_":1', b"{},", b"1e308"),
]
_CBOR = [
    *(cbor2.dumps(text) for text in ("seq", "ts", "values", "readings", "columns", "dt", "t0", "tags", "type", "info")),
    *map(
        bytes.fromhex,
        (
            "9f",
            "bf",
            "ff",
            "f7",
            "f97e00",
            "f97c00",
            "fb7ff0000000000000",
            "c2",
            "d81c",
            "d81d00",
            "1bffffffffffffffff",
        ),
    ),
    *map(
        bytes.fromhex,
        ("3bffffffffffffffff", "5b7fffffffffffffff", "7bffffffffffffffff", "9bffffffffffffffff", "f0", "81" * 70),
    ),
]
_STEPS = [b"\n\nc", b"\n\nd", b"\n\nf", b"\n\nk", b"\n\nr", b"\n\ns", b"\n\nw", b"\n\na"]
_TIMES = [
    *(b'"type":"time","t0":', b'"last":{"t0":1700003600000,"t3":1700003600001}', b'"age_ms":', b'"bt":1700003600'),
    *(b"1700003600000", b"1700000060000", b"1699913600000", b"1700000060001", b"1.7000036e9", b"86400001"),
]
TOKENS: dict[str, list[bytes]] = {
    "frames": [
        *map(
            bytes.fromhex,
            ("8180", "8280", "0180", "8080", "8880", "8980", "8a80", "c180", "81fe", "81ff", "81fe0100", "89fe"),
        )
    ],
    "json": [*_JSON, *_TIMES],
    "cbor": _CBOR,
    "senml": [*_SENML, *_JSON, *_TIMES],
    "session": [*_STEPS, *_TIMES, *_JSON, *_SENML, *_CBOR],
    "clock": [bytes(8), b"\xff\xff"],
    "spool": [],
    "record": [b"\xffTGR"],
    "lines": [
        b"\\",
        b'"',
        b",",
        b"=",
        b" ",
        b"\n",
        b"i",
        b"nan",
        b"1e400",
        b"-9223372036854775808",
        b'="',
        b"a,b=c d=1 1\n",
    ],
}


@cache
def corpus(target: str) -> list[bytes]:
    """The inputs to begin with; one is empty."""
    kept = [path.read_bytes() for path in sorted((CORPUS / target).iterdir())] if (CORPUS / target).exists() else []
    return [b"", *kept, *_from_vectors(target)]


def _from_vectors(target: str) -> list[bytes]:
    scripts = [
        case["script"] for path in VECTORS.glob("*.json") for case in json.loads(path.read_text(encoding="utf-8"))
    ]
    sent: list[Any] = [step["send"] for script in scripts for step in script if "send" in step]
    match target:
        case "json":
            return [json.dumps(value).encode() for value in sent]
        case "cbor":
            return [cbor2.dumps(value) for value in sent]
        case "senml":
            examples = json.loads((VECTORS / "senml" / "rfc8428.json").read_text(encoding="utf-8"))
            return [json.dumps(case["send"]).encode() for case in examples]
        case "lines":
            stored = [step["stores"] for script in scripts for step in script if "stores" in step]
            return [f"{line}\n".encode() for entry in stored for line in entry.get("lines", [])]
        case "session":
            said = [b"\n\nc\n\n".join(_steps(script)) for script in scripts]
            return [bytes([first]) + steps for steps in said for first in (0, 6, 9)]
    return []


def _steps(script: list[dict[str, Any]]) -> list[bytes]:
    return [b"s" + json.dumps(step["send"]).encode() for step in script if "send" in step]


def inputs(target: str) -> st.SearchStrategy[tuple[bytes, int]]:
    """An input of the corpus, or any bytes, and the seed of what `variants` makes of it."""
    return st.tuples(st.sampled_from(corpus(target)) | st.binary(max_size=256), st.integers(0, 2**63))


def variants(target: str, data: bytes, seed: int) -> Iterator[bytes]:
    """``data``, and what becomes of it by one to six changes each time."""
    rng = random.Random(seed)
    seeds, tokens = corpus(target), TOKENS[target] + _BYTES
    yield data
    for _ in range(VARIANTS):
        changed = data
        for _ in range(rng.randint(1, 6)):
            changed = _changed(changed, rng, seeds, tokens)
        yield changed[:LONGEST]


def _changed(data: bytes, rng: random.Random, seeds: list[bytes], tokens: list[bytes]) -> bytes:
    at, size = rng.randint(0, len(data)), rng.randint(1, 16)
    match rng.randrange(6):
        case 0 if at < len(data):
            return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
        case 1:
            return data[:at] + rng.choice(tokens) + data[at:]
        case 2:
            return data[:at] + data[at + size :]
        case 3:
            return data[:at] + data[at : at + size] * 2 + data[at + size :]
        case 4:
            other = rng.choice(seeds)
            return data[:at] + other[rng.randint(0, len(other)) :]
    return data[:at] + rng.randbytes(size) + data[at + size :]
