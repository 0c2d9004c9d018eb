"""Devices that send as fast as TCP takes it, and keep to the protocol otherwise."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.gateway import RunningGateway

TS = 1_700_000_000_000


class Flooder:
    """One device with ``messages`` of ``readings`` texts of ``size`` bytes each, all with times of their own.

    It hears what it is told while TCP takes no more from it, too.
    """

    def __init__(self, name: str, messages: int, readings: int, size: int) -> None:
        self.name = name
        self.messages = messages
        self.throttled: Counter[str] = Counter()
        self.acked_to = -1
        self.lost: ConnectionClosed | None = None
        self._readings = readings
        self._text = name.ljust(size, ".")
        self._next = 0
        self._wait_until = 0.0

    async def run(self, gateway: RunningGateway) -> None:
        """Send and hear until the last message is acknowledged."""
        url = f"{gateway.ws}/v1/devices/{self.name}/stream"
        async with connect(url, compression=None, ping_interval=None, close_timeout=30) as socket:
            await socket.send(json.dumps({"type": "hello", "boot": "flood"}))
            sending = asyncio.create_task(self._send(socket))
            try:
                while self.acked_to < self.messages - 1:
                    self._told(json.loads(await socket.recv()))
            except ConnectionClosed as error:
                self.lost = error
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionClosed):
                await sending

    async def _send(self, socket: ClientConnection) -> None:
        while True:
            wait = self._wait_until - time.monotonic()
            if wait <= 0 and self._next < self.messages:
                seq = max(self._next, self.acked_to + 1)
                self._next = seq + 1
                await socket.send(self._message(seq))
            else:
                await asyncio.sleep(max(wait, 0.01))

    def _message(self, seq: int) -> str:
        first = TS + seq * self._readings
        rows = [{"ts": first + n, "values": {"text": self._text}} for n in range(self._readings)]
        return json.dumps({"seq": seq, "readings": rows})

    def _told(self, said: dict[str, Any]) -> None:
        if said["type"] == "ack":
            self.acked_to = max(self.acked_to, said["seq"])
        elif said["type"] == "throttle":
            self.throttled[said["limit"]] += 1
            self._wait_until = time.monotonic() + said["retry_after_ms"] / 1000
            self._next = min(self._next, said["from_seq"])
        else:
            assert said["type"] == "welcome", said


@contextlib.contextmanager
def flooding(gateway: RunningGateway, flooders: list[Flooder], seconds: float) -> Iterator[None]:
    """They send during the block; it ends when all is acknowledged."""

    async def run() -> None:
        await asyncio.gather(*(flooder.run(gateway) for flooder in flooders))

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    yield
    thread.join(seconds)
    for flooder in flooders:
        state = f"{flooder.name}: {flooder.acked_to} of {flooder.messages}, {flooder.throttled}, {flooder.lost}"
        assert flooder.acked_to == flooder.messages - 1, state
        assert flooder.lost is None, state
    assert not thread.is_alive()
