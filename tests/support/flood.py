"""Devices that send as fast as TCP takes it, each from a thread of its own, and keep to the protocol otherwise."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.gateway import RunningGateway

TS = 1_700_000_000_000


class Flooder:
    """One device with ``messages`` of ``readings`` texts of ``size`` bytes each, all with times of their own."""

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
        self._changed = threading.Condition()

    def run(self, gateway: RunningGateway) -> None:
        """Send and hear until the last message is acknowledged."""
        url = f"{gateway.ws}/v1/devices/{self.name}/stream"
        with connect(url, compression=None, ping_interval=None, close_timeout=30) as socket:
            hearing = threading.Thread(target=self._hear, args=(socket,), daemon=True)
            hearing.start()
            socket.send(json.dumps({"type": "hello", "boot": "flood"}))
            try:
                while (seq := self._turn()) is not None:
                    socket.send(self._message(seq))
            except ConnectionClosed as error:
                self.lost = error
            hearing.join()

    def _turn(self) -> int | None:
        """The number to send next, once it may be sent; None when all are acknowledged."""
        with self._changed:
            while not self._over:
                wait = self._wait_until - time.monotonic()
                if wait <= 0 and self._next < self.messages:
                    self._next = max(self._next, self.acked_to + 1) + 1
                    return self._next - 1
                self._changed.wait(max(wait, 0.01))
        return None

    @property
    def _over(self) -> bool:
        return self.acked_to == self.messages - 1 or self.lost is not None

    def _message(self, seq: int) -> str:
        first = TS + seq * self._readings
        rows = [{"ts": first + n, "values": {"text": self._text}} for n in range(self._readings)]
        return json.dumps({"seq": seq, "readings": rows})

    def _hear(self, socket: ClientConnection) -> None:
        try:
            while not self._over:
                self._told(json.loads(socket.recv()))
        except ConnectionClosed as error:
            self.lost = error

    def _told(self, said: dict[str, Any]) -> None:
        with self._changed:
            if said["type"] == "ack":
                self.acked_to = max(self.acked_to, said["seq"])
            elif said["type"] == "throttle":
                self.throttled[said["limit"]] += 1
                self._wait_until = time.monotonic() + said["retry_after_ms"] / 1000
                self._next = min(self._next, said["from_seq"])
            else:
                assert said["type"] == "welcome", said
            self._changed.notify_all()


@contextlib.contextmanager
def flooding(gateway: RunningGateway, flooders: list[Flooder], seconds: float) -> Iterator[None]:
    """They send during the block; it ends when all is acknowledged."""
    threads = [threading.Thread(target=flooder.run, args=(gateway,), daemon=True) for flooder in flooders]
    for thread in threads:
        thread.start()
    yield
    deadline = time.monotonic() + seconds
    for thread, flooder in zip(threads, flooders, strict=True):
        thread.join(max(0.0, deadline - time.monotonic()))
        state = f"{flooder.name}: {flooder.acked_to} of {flooder.messages}, {flooder.throttled}, {flooder.lost}"
        assert not thread.is_alive(), state
        assert flooder.lost is None, state
