"""A thousand devices come at once while fifty stream: everybody gets in, and every message its ack.

``python -m benchmarks.connect`` does it with ten thousand and measures how long the acks take.
"""

from __future__ import annotations

import asyncio
import json
import resource
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.support import modes
from tests.support.gateway import running_gateway
from tests.support.streams import TEXT, client_frame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.gateway import RunningGateway

NEWCOMERS = 1000
STREAMING = 50
OPEN_FILES = 3 * (NEWCOMERS + STREAMING)
PATIENCE = 60.0
HANDSHAKE = (
    "GET /v1/devices/{}/stream HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[RunningGateway]:
    """A gateway that may open as many files as this takes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < OPEN_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, hard))
    try:
        with running_gateway(tmp_path) as running:
            yield running
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Device:
    """A device that is connected; what it is told is read by `text`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def text(self) -> dict[str, object]:
        """The next message of the gateway."""
        first, length = await self._reader.readexactly(2)
        assert first == TEXT, first
        if length == 126:
            length = int.from_bytes(await self._reader.readexactly(2))
        return dict(json.loads(await self._reader.readexactly(length)))


async def connect(gateway: RunningGateway, name: str) -> Device:
    """Connect and read the welcome."""
    address = urlsplit(gateway.url)
    context = ssl.create_default_context() if modes.TLS else None
    reader, writer = await asyncio.open_connection(address.hostname, address.port, ssl=context)
    writer.write(HANDSHAKE.format(name).encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), head
    device = Device(reader, writer)
    assert (await device.text())["type"] == "welcome"
    return device


async def stream(device: Device, stop: asyncio.Event) -> int:
    """Send, wait for the ack, send the next; how many were acknowledged until ``stop``."""
    seq = 0
    while not stop.is_set():
        device.writer.write(client_frame(TEXT, json.dumps({"seq": seq, "temp": 21.5}).encode()))
        assert await device.text() == {"type": "ack", "seq": seq}
        seq += 1
    return seq


def test_a_thousand_at_once_are_let_in_while_fifty_get_their_acks(gateway: RunningGateway) -> None:
    async def main() -> tuple[list[Device], list[int]]:
        streaming = [await connect(gateway, f"s{number}") for number in range(STREAMING)]
        over = asyncio.Event()
        streams = [asyncio.create_task(stream(device, over)) for device in streaming]
        newcomers = await asyncio.gather(*(connect(gateway, f"n{number}") for number in range(NEWCOMERS)))
        over.set()
        acked = await asyncio.gather(*streams)
        for device in (*streaming, *newcomers):
            device.writer.transport.abort()
        return newcomers, acked

    newcomers, acked = asyncio.run(asyncio.wait_for(main(), PATIENCE))
    assert len(newcomers) == NEWCOMERS
    assert min(acked) > 1, "the storm held up somebody's acks to its end"
    assert gateway.metric('gateway_connections_total{result="accepted"}') == NEWCOMERS + STREAMING
    assert gateway.metric('gateway_connections_total{result="too_many"}') == 0
