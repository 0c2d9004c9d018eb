"""A start with a long backlog: seconds, constant memory, and devices that notice nothing while it drains.

Small enough for every change; ``GATEWAY_STARTUP_MIB=1024 pytest tests/e2e/test_startup.py -s`` is the full size. Both
print the figures.
"""

from __future__ import annotations

import json
import os
import re
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.backlog import MIB, build
from tests.support.device import answer, device
from tests.support.gateway import RunningGateway, running_gateway, wait_for
from tests.support.scripted import Reply, ScriptedServer

if TYPE_CHECKING:
    from pathlib import Path

    from websockets.sync.client import ClientConnection

SIZE = int(os.environ.get("GATEWAY_STARTUP_MIB", "48")) * MIB
EMPTY_RSS = 64 * MIB
"""A gateway with nothing in its spool stays below it, and one with any spool below twice that."""
PROBES = 150
AWAY = Reply(503, {"Retry-After": "1"})


def peak_rss(gateway: RunningGateway) -> int:
    """The most memory the process has had, in bytes (``VmHWM``, proc(5))."""
    with open(f"/proc/{gateway.process.pid}/status", encoding="ascii") as status:  # noqa: PTH123
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read())[1]) * 1024  # type: ignore[index]


def latencies(socket: ClientConnection, first: int) -> list[float]:
    """Seconds from each of some messages to its ack, in order of size."""
    found = []
    for seq in range(first, first + PROBES):
        begun = time.perf_counter()
        socket.send(json.dumps({"seq": seq, "ts": time.time(), "values": {"n": seq}}))
        assert answer(socket) == {"type": "ack", "seq": seq}
        found.append(time.perf_counter() - begun)
        time.sleep(0.01)
    return sorted(found)


def told(name: str, found: list[float]) -> str:
    return f"ack while {name}: p50 {found[len(found) // 2] * 1e3:.1f} ms, p99 {found[-2] * 1e3:.1f} ms"


@pytest.mark.parametrize("readings", [1, 50])
def test_a_long_backlog_is_recovered_in_constant_memory_and_drains_beside_live_devices(
    tmp_path: Path, readings: int
) -> None:
    waiting = build(tmp_path, SIZE, readings)
    with ScriptedServer(AWAY) as script:
        influx = {"url": script.url, "api": "v1", "database": "d"}
        over = {"sink": "influxdb", "influxdb": influx, "spool": {"max_bytes": "4GiB"}}
        begun = time.monotonic()
        with running_gateway(tmp_path, over) as gateway, device(gateway, "live") as socket:
            ready = time.monotonic() - begun
            assert f"{waiting} readings wait" in gateway.log
            recovery = re.search(r"read in ([\d.]+) s", gateway.log)
            recovered = peak_rss(gateway)
            waited = latencies(socket, 0)
            script.says(Reply(204))
            begun = time.monotonic()
            wait_for(lambda: gateway.metric("gateway_readings_stored_total") > 0, "the backlog to drain")
            drained = latencies(socket, PROBES)
            left = gateway.request("/readyz")[1]["spool"]["pending_readings"]
            wait_for(lambda: gateway.request("/readyz")[1]["spool"]["pending_readings"] == 0, "its end", 600)
            seconds = time.monotonic() - begun
            peak = peak_rss(gateway)
            stored = gateway.metric("gateway_readings_stored_total")
    print(
        f"\n{SIZE // MIB} MiB, {waiting} readings in messages of {readings}: {recovery and recovery[1]} s of recovery, "
        f"{ready:.1f} s until devices are taken, {recovered / MIB:.0f} MiB then and {peak / MIB:.0f} MiB at most; "
        f"{told('the database is away', waited)}; {told('it drains', drained)} ({left} readings left); "
        f"drained in {seconds:.1f} s"
    )
    assert stored == waiting + 2 * PROBES
    assert recovered < 2 * EMPTY_RSS
