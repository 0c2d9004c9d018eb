"""The attacks on a connection, one function each; each goes on until the gateway closes the connection.

Some need only the port, others a device's token: each attacker of a siege has its own ``rogue``, a registered device.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import secrets
import zlib
from dataclasses import dataclass
from functools import cache
from itertools import count, islice
from typing import TYPE_CHECKING

from tests.defence.line import Line, frame, handshake
from tests.support.collisions import cbor_map, colliding

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TEXT, BINARY, FIRST, CONTINUATION, PING = 0x81, 0x82, 0x01, 0x00, 0x89
TS = 1_700_000_000_000
MESSAGE = 64 * 1024
DRIP = 0.2
"""Seconds between two small writes, or reads, of a slow attack."""
FLOOD = 4096
"""Frames in one write of a fast attack."""


@dataclass(frozen=True)
class Rogue:
    """An attacker: a registered device that misbehaves, and its loopback address."""

    device: str
    token: str
    address: str = "127.0.0.1"


Attack = "Callable[[Line, Rogue], Awaitable[None]]"


async def _drip(line: Line, data: bytes, seconds: float = DRIP) -> None:
    for byte in data:
        await line.say(bytes((byte,)))
        await asyncio.sleep(seconds)


async def half_open(line: Line, _rogue: Rogue) -> None:
    """Connect and send nothing."""
    await line.hear_out()


async def slow_header(line: Line, _rogue: Rogue) -> None:
    """A request whose headers have no end."""

    async def saying() -> None:
        await line.say(b"GET / HTTP/1.1\r\nHost: h\r\n")
        for number in count():
            await line.say(b"X-%d: x\r\n" % number)
            await asyncio.sleep(DRIP)

    await line.while_hearing(saying())


async def slow_body(line: Line, rogue: Rogue) -> None:
    """A request that promises a body and brings it byte by byte, with a good token."""
    head = f"POST /v1/devices/{rogue.device}/readings HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n"
    head += f"Authorization: Bearer {rogue.token}\r\n\r\n"
    await line.say(head.encode())
    await line.while_hearing(_drip(line, b" " * 60000, DRIP / 20))


async def slow_read(line: Line, _rogue: Rogue) -> None:
    """Ask for much, again and again, and take a few bytes now and then."""
    await line.say(b"GET /static/app.js HTTP/1.1\r\nHost: h\r\n\r\n" * 100)
    while True:
        await line.hear(16)
        await asyncio.sleep(DRIP)


async def stranger(line: Line, _rogue: Rogue) -> None:
    """Complete the handshake, and send no hello."""
    await line.upgrade(f"nobody-{secrets.token_hex(4)}")
    await line.hear_out()


async def trickle(line: Line, rogue: Rogue) -> None:
    """A message that comes byte by byte and has no end."""
    await line.upgrade(rogue.device, rogue.token)
    await line.while_hearing(_drip(line, frame(TEXT, b" " * (MESSAGE - 100))))


async def empty_fragments(line: Line, rogue: Rogue) -> None:
    """A message of empty fragments, without a last one."""

    async def saying() -> None:
        await line.say(frame(FIRST, b"["))
        while True:
            await line.say(frame(CONTINUATION) * FLOOD)

    await line.upgrade(rogue.device, rogue.token)
    await line.while_hearing(saying())


async def pings(line: Line, rogue: Rogue) -> None:
    """As many pings as go through."""

    async def saying() -> None:
        while True:
            await line.say(frame(PING) * FLOOD)

    await line.upgrade(rogue.device, rogue.token)
    await line.while_hearing(saying())


async def tiny_messages(line: Line, rogue: Rogue) -> None:
    """As many messages with nothing in them as go through."""

    async def saying() -> None:
        while True:
            await line.say(frame(TEXT, b"{}") * FLOOD)

    await line.upgrade(rogue.device, rogue.token)
    await line.while_hearing(saying())


@cache
def json_bombs() -> list[bytes]:
    """Messages that are small to send and might be dear to read."""
    rows = b",".join([b'{"values":{"a":[]}}'] * 3000)
    wide = ",".join(f'"{n:060}":{n}' for n in range(256))
    return [
        b"[" * MESSAGE,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"ts":' + b"9" * (MESSAGE - 100) + b',"values":{"a":1}}',
        b'{"values":{"a":1' + b"0" * (MESSAGE - 100) + b"}}",
        b'{"values":{"a":1e' + b"9" * 1000 + b"}}",
        b'{"' + b"k" * (MESSAGE - 100) + b'":1}',
        b"{" + b",".join([b'"a":1'] * 10_000) + b"}",
        b"[" + b",".join([b"[]"] * 5000) + b"]",
        b"[" + b",".join([b'{"a":1}'] * 5000) + b"]",
        b'{"readings":[' + rows + b"]}",
        f'{{"t0":{TS},"dt":1,"columns":{{{wide.replace(":", ":[").replace(",", "],")}]}}}}'.encode(),
        json.dumps({"m": "x" * 64, "readings": [{"a": 1}] * 5000}, separators=(",", ":")).encode(),
        b'"' + b"\\u0000" * 10_000 + b'"',
        b'{"type":"hello","info":{' + b",".join(b'"%d":"%b"' % (n, b"i" * 256) for n in range(32)) + b"}}",
    ]


async def json_bomb(line: Line, rogue: Rogue) -> None:
    """One bomb after the other."""

    async def saying() -> None:
        while True:
            for bomb in json_bombs():
                await line.say(frame(TEXT, bomb))
                await asyncio.sleep(DRIP / 3)

    await line.upgrade(rogue.device, rogue.token)
    await line.while_hearing(saying())


STRANGERS_KEYS = 1100
"""As many as fit into the 16 KiB that an unauthenticated connection may send."""


async def colliding_keys(line: Line, _rogue: Rogue) -> None:
    """A hello in CBOR whose keys are hashed alike, from a connection without a token."""
    await line.upgrade(f"nobody-{secrets.token_hex(4)}", None, "Sec-WebSocket-Protocol: telemetry.v1.cbor")
    await line.say(frame(BINARY, cbor_map(list(islice(colliding(), STRANGERS_KEYS)))))
    await line.hear_out()


@cache
def compression_bombs() -> tuple[bytes, bytes]:
    """58 MiB in less than 64 KiB, of pieces that are made once: gzip (RFC 1952, section 2.2), and bare deflate."""
    zeros, bare = bytes(1024**2), zlib.compressobj(wbits=-15)
    return gzip.compress(zeros) * 58, (bare.compress(zeros) + bare.flush(zlib.Z_FULL_FLUSH)) * 58


async def compression_bomb(line: Line, rogue: Rogue) -> None:
    """What would become a thousand times as much, as the body of a request and as a message (RFC 7692)."""
    body, message = compression_bombs()
    head = f"POST /v1/devices/{rogue.device}/readings HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\n"
    head += f"Authorization: Bearer {rogue.token}\r\nContent-Length: {len(body)}\r\n\r\n"
    await line.answer(head.encode() + body)
    await line.upgrade(rogue.device, rogue.token, "Sec-WebSocket-Extensions: permessage-deflate")
    await line.say(frame(0xC1, message))
    await line.hear_out()


async def tag_bomb(line: Line, rogue: Rogue) -> None:
    """Series that never come again: tags, measurements and fields."""

    def bomb() -> bytes:
        salt = secrets.token_hex(6)
        rows = [{"ts": TS + n, "tags": {"batch": f"{salt}{n}"}, "values": {"a": n}} for n in range(50)]
        rows += [{"ts": TS + n, "m": f"m{salt}{n}", "values": {f"f{salt}{n}": n}} for n in range(50)]
        return json.dumps({"readings": rows}).encode()

    async def saying() -> None:
        while True:
            await line.say(frame(TEXT, bomb()))
            await asyncio.sleep(DRIP)

    await line.upgrade(rogue.device, rogue.token)
    await line.while_hearing(saying())


async def guess(line: Line, rogue: Rogue) -> None:
    """Guessed tokens, in every place where a token can stand."""
    token = secrets.token_urlsafe(24)
    page = f"GET /v1/devices HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    for request in (handshake(rogue.device, token), handshake("no-such-device", token), page):
        await line.answer(request)
    await line.upgrade(rogue.device)
    await line.say(frame(TEXT, json.dumps({"type": "hello", "token": token}).encode()))
    await line.hear_out()


TRICKS = ("..", ".", "%2e%2e", "a%2fb", "%00", "a%0d%0aforged", "%c0%ae", "x" * 129, "%1b%5b2J", "a%E2%80%AE")
"""Ids that would be a path, a line of a log, or an order to a terminal."""


async def odd_request(line: Line, rogue: Rogue) -> None:
    """Requests that try paths, origins, headers and logs."""
    forged = "2026-01-01 00:00:00,000 CRITICAL forged"
    own = handshake(rogue.device, rogue.token, "Origin: http://evil.example")
    for request in (
        *(handshake(trick, rogue.token) for trick in TRICKS),
        own,
        b"GET /static/../../../../etc/passwd HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /static/%2e%2e/%2e%2e/registry.db HTTP/1.1\r\nHost: h\r\n\r\n",
        f"GET /v1/devices?search={'%25' * 500} HTTP/1.1\r\nHost: h\r\nUser-Agent: \x1b[31m{forged}\r\n\r\n".encode(),
    ):
        await line.answer(request)
    await line.upgrade(rogue.device, rogue.token)
    await line.say(frame(TEXT, json.dumps({"type": f"\n{forged}\x1b[2J", "boot": "\u2028"}).encode()))
    await line.say(frame(0x88, (4000).to_bytes(2) + f"\r\n{forged}".encode()))
    await line.hear_out()


async def bad_frame(line: Line, rogue: Rogue) -> None:
    """Frames that RFC 6455 does not allow, lengths beyond any memory, compression that was not agreed."""
    bad = (
        b"\x81\x02{}",
        frame(0xC1, b"\x00" * 16),
        b"\x81\xff" + (2**63 - 1).to_bytes(8) + bytes(4),
        b"\x89\xfe\xff\xff",
        frame(0x83, b"?"),
        frame(CONTINUATION, b"?"),
        frame(0x88, b"\x00"),
        frame(TEXT, b"\xff\xfe"),
        frame(BINARY, b"\x00"),
    )
    await line.upgrade(rogue.device, rogue.token, "Sec-WebSocket-Extensions: permessage-deflate")
    await line.say(secrets.choice(bad))
    await line.hear_out()


ATTACKS: dict[str, Callable[[Line, Rogue], Awaitable[None]]] = {
    "half_open": half_open,
    "slow_header": slow_header,
    "slow_body": slow_body,
    "slow_read": slow_read,
    "stranger": stranger,
    "trickle": trickle,
    "empty_fragments": empty_fragments,
    "pings": pings,
    "tiny_messages": tiny_messages,
    "json_bomb": json_bomb,
    "colliding_keys": colliding_keys,
    "compression_bomb": compression_bomb,
    "tag_bomb": tag_bomb,
    "guess": guess,
    "odd_request": odd_request,
    "bad_frame": bad_frame,
}
"""By name, in the order of a siege."""

SMALL_BUFFER = {"slow_read": 1024}
"""Attacks whose sockets take this little at a time."""
