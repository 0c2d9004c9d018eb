"""A device whose network goes away without a FIN: packets are dropped in a network namespace made for this test."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.gateway import RunningGateway, running_gateway, wait_for
from tests.support.servers import binary

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMESPACE = "gateway-test-device"
CLONE_NEWNET = 0x40000000
"""A network of its own, for unshare(2) and setns(2)."""
OURS, THEIRS = "10.213.7.1", "10.213.7.2"
TIMEOUT = 2.0

CLIENT = """
import json, sys
from websockets.sync.client import connect
with connect(sys.argv[1]) as socket:
    socket.recv()
    socket.send(json.dumps({"seq": 1, "temp": 1}))
    print(socket.recv(), flush=True)
    for message in socket:
        print(message, flush=True)
"""


def ip(*arguments: str, check: bool = True) -> None:
    subprocess.run([binary("ip", "iproute2"), *arguments], check=check, capture_output=True, timeout=10)


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """Inside the block this thread, and what it starts, has a network of its own.

    A browser of another test fails its requests with ERR_NETWORK_CHANGED when an address comes or goes on the machine.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open() as home:
        if libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        try:
            ip("link", "set", "lo", "up")
            yield
        finally:
            assert libc.setns(home.fileno(), CLONE_NEWNET) == 0


@pytest.fixture
def link() -> Iterator[None]:
    """A network of our own, and a namespace with one veth into it."""
    if os.geteuid() != 0:
        message = "needs root to make a network namespace"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    with own_network():
        ip("netns", "add", NAMESPACE)
        try:
            ip("link", "add", "ours", "type", "veth", "peer", "name", "eth0", "netns", NAMESPACE)
            ip("addr", "add", f"{OURS}/24", "dev", "ours")
            ip("link", "set", "ours", "up")
            ip("-n", NAMESPACE, "addr", "add", f"{THEIRS}/24", "dev", "eth0")
            ip("-n", NAMESPACE, "link", "set", "eth0", "up")
            yield
        finally:
            ip("netns", "del", NAMESPACE, check=False)


def network_gateway() -> dict[str, Any]:
    return {
        "server": {"listen": f"{OURS}:0", "allow_open_network": True},
        "auth": {"viewer_token": "viewer-token-0123456789"},
        "keepalive": {"ping_interval": "1s", "timeout": f"{TIMEOUT}s"},
    }


def state(gateway: RunningGateway) -> str:
    status, body = gateway.request("/v1/devices/far", token="viewer-token-0123456789")
    return str(body["state"]) if status == 200 else "unknown"


@pytest.mark.server
@pytest.mark.usefixtures("link")
def test_a_device_that_vanishes_is_dropped_within_the_time_out_plus_one_second(tmp_path: Path) -> None:
    with running_gateway(tmp_path, network_gateway()) as gateway:
        client = subprocess.Popen(
            ["ip", "netns", "exec", NAMESPACE, sys.executable, "-c", CLIENT, f"{gateway.ws}/v1/devices/far/stream"],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert client.stdout is not None
            assert json.loads(client.stdout.readline()) == {"type": "ack", "seq": 1}
            assert state(gateway) == "live"
            ip("-n", NAMESPACE, "link", "set", "eth0", "down")
            gone_at = time.monotonic()
            wait_for(lambda: state(gateway) == "offline", "the device to be dropped", TIMEOUT + 1)
            assert time.monotonic() - gone_at > TIMEOUT / 2, "not before its time"
        finally:
            client.kill()
            client.communicate()
        assert gateway.request("/metrics", token="viewer-token-0123456789")[1].count('reason="keepalive"') >= 1
        assert gateway.stop() == 0
