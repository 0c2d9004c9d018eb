"""A gateway under a service manager: a restart that devices hardly notice, and signs of life that mean something.

The fleet of the restart is small enough for every change; the full size is one command away:
``GATEWAY_RESTART_DEVICES=2000 GATEWAY_RESTART_SECONDS=30 pytest tests/e2e/test_restart.py -s``.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.support.disk import slow_calls
from tests.support.gateway import wait_for
from tests.support.manager import Manager
from tests.support.simulator import simulate, verify

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEVICES = int(os.environ.get("GATEWAY_RESTART_DEVICES", "200"))
SECONDS = int(os.environ.get("GATEWAY_RESTART_SECONDS", "3"))
COMES_BACK = 60
POST = b'POST /v1/devices/d/readings HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\n{"a":1}'


def test_a_restart_under_load_loses_nothing_and_refuses_no_device(tmp_path: Path) -> None:
    options = ("--devices", str(DEVICES), "--interval", "1s")
    with contextlib.closing(Manager(tmp_path / "gateway")) as manager:
        url = manager.url.replace("http", "ws")
        with manager.gateway() as first, simulate(tmp_path, "run", "--url", url, *options) as simulation:
            started = time.monotonic()
            wait_for(lambda: first.metric("gateway_connections") == DEVICES, "all devices", COMES_BACK)
            began = time.monotonic()
            assert first.stop() == 0
            stopped = time.monotonic()
            assert manager.hear("STOPPING=1")
            with manager.gateway() as second:
                ready = time.monotonic()
                wait_for(lambda: second.metric("gateway_connections") == DEVICES, "all devices again", COMES_BACK)
                time.sleep(max(0.0, started + SECONDS - time.monotonic()))
                simulation.end_readings()
                report = simulation.finish(COMES_BACK)
                wait_for(lambda: second.pending() == 0, "everything to be delivered", COMES_BACK)
                accounts = second.accounts()
    verify(tmp_path / "report.json", f"sqlite:{tmp_path}/gateway/data.db")
    summary = report["summary"]
    print(json.dumps({"stop": round(stopped - began, 2), "start": round(ready - stopped, 2), **summary}))
    assert (summary["connect_failures"], summary["last_failure"]) == (0, "")
    assert summary["drained"] == summary["reconnects"] == DEVICES
    assert summary["closes"]["1012"] == DEVICES
    assert sum(account["stored"] for account in accounts.values()) == summary["acked"]


def test_each_device_is_told_a_moment_of_its_own_then_acknowledged_then_closed(tmp_path: Path) -> None:
    with (
        contextlib.closing(Manager(tmp_path)) as manager,
        manager.gateway() as gateway,
        contextlib.ExitStack() as stack,
    ):
        url = manager.url.replace("http", "ws")
        devices = [stack.enter_context(connect(f"{url}/v1/devices/d{n}/stream")) for n in range(5)]
        with slow_calls(gateway.process.pid, "fdatasync", 1, tmp_path):
            for device in devices:
                device.send('{"seq":7,"a":1}')
                device.send('{"type":"hello"}')
                welcomes = [json.loads(device.recv(timeout=20))["type"] for _ in range(2)]
                assert welcomes == ["welcome", "welcome"], "the reading was read, and its commit is under way"
            gateway.process.terminate()
            heard = [list(until_closed(device)) for device in devices]
        assert gateway.process.wait(20) == 0
    assert [[message["type"] for message in told] for told in heard] == [["drain", "ack"]] * 5
    assert sorted(told[0]["reconnect_after_ms"] for told in heard) == [2000, 2002, 2004, 2006, 2008]
    assert [device.close_code for device in devices] == [1012] * 5


def until_closed(device: ClientConnection) -> Iterator[dict[str, Any]]:
    with contextlib.suppress(ConnectionClosed):
        while True:
            yield json.loads(device.recv(timeout=20))


def test_who_comes_between_two_gateways_waits_for_the_second(tmp_path: Path) -> None:
    with contextlib.closing(Manager(tmp_path)) as manager:
        with manager.gateway() as first:
            assert first.stop() == 0
        with manager.dial() as early:
            early.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            with manager.gateway():
                assert early.recv(1000).startswith(b"HTTP/1.1 200")


def test_signs_of_life_end_while_the_disk_holds_a_commit_up_and_come_back(tmp_path: Path) -> None:
    with (
        contextlib.closing(Manager(tmp_path, watchdog=0.2)) as manager,
        manager.gateway() as gateway,
        manager.dial() as client,
    ):
        assert manager.hear("WATCHDOG=1"), "idle is healthy"
        with slow_calls(gateway.process.pid, "fdatasync", 2, tmp_path):
            client.sendall(POST)
            wait_for(lambda: "no more signs of life" in gateway.log, "the commit to be missed")
            while manager.hear("WATCHDOG=1", 0.01):
                pass
            assert gateway.request("/healthz")[0] == 200, "the event loop turns"
            assert not manager.hear("WATCHDOG=1", 0.5)
            assert client.recv(1000).startswith(b"HTTP/1.1 200"), "the disk took it after all"
            assert manager.hear("WATCHDOG=1")
