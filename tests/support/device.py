"""A device on a WebSocket of another library, a message at a time."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from websockets.sync.client import ClientConnection, connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.gateway import RunningGateway


@contextlib.contextmanager
def device(gateway: RunningGateway, name: str, **options: Any) -> Iterator[ClientConnection]:
    """A device that has read its welcome."""
    with connect(f"{gateway.ws}/v1/devices/{name}/stream", compression=None, **options) as socket:
        assert answer(socket)["type"] == "welcome"
        yield socket


def answer(socket: ClientConnection) -> dict[str, Any]:
    """The next message of the gateway."""
    return dict(json.loads(socket.recv(timeout=10)))


def hello(socket: ClientConnection, boot: str) -> int | None:
    """Name the run of sequence numbers; the last of it that is safe."""
    socket.send(json.dumps({"type": "hello", "boot": boot}))
    last: int | None = answer(socket)["last_seq"]
    return last
