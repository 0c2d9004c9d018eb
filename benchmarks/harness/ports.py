"""Loopback ports for servers."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def free_port() -> int:
    """A port below the range that outgoing connections take theirs from, and that no process listens on."""
    for port in range(20000, 30000):
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise OSError("no free port between 20000 and 30000")


_given: set[int] = set()


def wait_listening(port: int, alive: Callable[[], bool], seconds: float) -> bool:
    """Wait until something accepts connections; False when it ended or the time did."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and alive():
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return True
        except OSError:
            time.sleep(0.05)
    return False
