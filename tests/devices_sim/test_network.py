from __future__ import annotations

import asyncio

import pytest

from devices_sim.network import Network, websocket_url
from devices_sim.tally import Tally


def test_a_devices_address() -> None:
    async def main() -> list[str]:
        network = Network("wss://h/base", Tally())
        await network.close()
        return [network.stream_url(name) for name in ("sim-1", "a:b.c_d", "a/b c")]

    assert asyncio.run(main()) == [
        "wss://h/base/v1/devices/sim-1/stream",
        "wss://h/base/v1/devices/a:b.c_d/stream",
        "wss://h/base/v1/devices/a%2Fb%20c/stream",
    ]


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("ws://127.0.0.1:8080", "ws://127.0.0.1:8080"),
        ("http://h:1/", "ws://h:1"),
        ("https://h/base/", "wss://h/base"),
    ],
)
def test_urls_that_name_a_gateway(given: str, used: str) -> None:
    assert websocket_url(given) == used


@pytest.mark.parametrize("given", ["", "127.0.0.1:8080", "ftp://h", "ws://", "ws://h?x=1", "ws://h#x"])
def test_urls_that_do_not(given: str) -> None:
    with pytest.raises(ValueError, match="not the address of a gateway"):
        websocket_url(given)
