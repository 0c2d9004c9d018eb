"""The hot path keeps its price: what a message costs in calls, and that neither it nor an idle device costs the loop
a task, a future or a timer.

Numbers, not times: they are the same on every machine. The fleet case, one message of one reading per device and
commit, is the dearest way for a message to come, because nothing is shared but the commit. When a change makes the path
dearer on purpose, run with ``-s``, see the table, and write the new number into `CALLS_PER_MESSAGE`.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from contextlib import ExitStack
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING

import pytest
import yaml

from gateway.app import Gateway
from gateway.config import load
from tests.support.counting import Asked, Calls
from tests.support.gateway import config_for
from tests.support.modes import LOOPS, TLS, new_event_loop
from tests.support.streams import TEXT, client_frame

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(TLS, reason="counts the way of plain TCP")

DEVICES = 50
ROUNDS = 6
CALLS_PER_MESSAGE = 26
"""Calls of Python functions that every message of one reading makes, from its frame to its ack."""
PATIENCE = 10.0


class Fleet:
    """Devices on sockets of their own, which answer to nothing."""

    def __init__(self, url: str) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._address = host, int(port)
        self._sockets: list[socket.socket] = []
        self._stack = ExitStack()

    def connect(self, count: int) -> None:
        """Connect, and wait for every welcome."""
        for number in range(len(self._sockets), len(self._sockets) + count):
            sock = self._stack.enter_context(socket.create_connection(self._address, PATIENCE))
            sock.sendall(
                f"GET /v1/devices/d{number}/stream HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
            )
            self._sockets.append(sock)
            self._until(sock, b'"welcome"')

    def send(self, seq: int) -> None:
        """One message of each."""
        reading = {"seq": seq, "ts": 1_700_000_000_000 + seq, "values": {"temp": 21.5, "hum": 40, "ok": True, "n": 1}}
        frame = client_frame(TEXT, json.dumps(reading).encode())
        for sock in self._sockets:
            sock.sendall(frame)

    def acknowledged(self, seq: int) -> None:
        """Wait for everybody's ack."""
        for sock in self._sockets:
            self._until(sock, b'{"type":"ack","seq":%d}' % seq)

    def _until(self, sock: socket.socket, text: bytes) -> None:
        received = b""
        while text not in received:
            data = sock.recv(4096)
            assert data, received
            received += data

    def close(self) -> None:
        """Leave."""
        self._stack.close()


def with_gateway(directory: Path, loop: str, test: Callable[[Gateway, Fleet], Awaitable[None]]) -> None:
    """Run ``test`` beside a gateway, in one event loop."""

    async def main() -> None:
        path = directory / "config.yaml"
        path.write_text(yaml.safe_dump(config_for(directory, {"batch": {"max_age": "1m"}})))  # delivery is not counted
        gateway = Gateway(load(path, {}))
        await gateway.start()
        fleet = Fleet(gateway.url)
        try:
            await test(gateway, fleet)
        finally:
            fleet.close()
            await gateway.stop()

    with asyncio.Runner(loop_factory=lambda: new_event_loop(loop)) as runner:
        runner.run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_message_costs_no_more_calls_than_it_did_and_nothing_of_the_loop(tmp_path: Path, loop: str) -> None:
    rounds: list[tuple[Counter[str], Counter[str]]] = []

    async def test(_gateway: Gateway, fleet: Fleet) -> None:
        await asyncio.to_thread(fleet.connect, DEVICES)
        asked = Asked(asyncio.get_running_loop())
        for seq in range(ROUNDS):
            calls.begin()
            asked.made.clear()
            fleet.send(seq)
            await asyncio.to_thread(fleet.acknowledged, seq)
            rounds.append((calls.end(), Counter(asked.made)))
        asked.restore()

    with Calls() as calls:
        with_gateway(tmp_path, loop, test)
    # Whatever else goes on in the gateway falls into some rounds only: what all of them have is the messages'.
    counted, made = (reduce(and_, found) for found in zip(*rounds, strict=True))
    per_message = {name: count // DEVICES for name, count in counted.most_common() if count >= DEVICES}
    table = [f"{count:3d}  {name}" for name, count in per_message.items()]
    print(f"\n{loop}: {sum(per_message.values())} calls per message, of the loop {dict(made)}", *table, sep="\n")
    assert sum(per_message.values()) <= CALLS_PER_MESSAGE
    assert made.total() < DEVICES


@pytest.mark.parametrize("loop", LOOPS)
def test_an_idle_device_has_no_task_and_no_timer(tmp_path: Path, loop: str) -> None:
    async def test(gateway: Gateway, fleet: Fleet) -> None:
        asked = Asked(asyncio.get_running_loop())
        await asyncio.to_thread(fleet.connect, 1)
        await gateway.parts.spool.flush()  # the record that it came
        tasks, timers = len(asyncio.all_tasks()), asked.waiting
        await asyncio.to_thread(fleet.connect, DEVICES)
        await gateway.parts.spool.flush()
        assert len(asyncio.all_tasks()) - tasks < DEVICES / 10
        assert asked.waiting - timers < DEVICES / 10
        asked.restore()

    with_gateway(tmp_path, loop, test)
