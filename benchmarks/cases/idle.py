"""The cost of devices that are connected and send nothing: memory each, and CPU for the server's pings.

Memory is what the process has resident above what it had before the devices came (after a few have come and gone, so
that nothing is loaded late). The kernel's own memory for the sockets is the same for every server and is not counted.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.cases.load import Load
    from benchmarks.harness.servers import Kind
    from benchmarks.harness.stage import Bench

FIRST_DEVICES = 20


def measure(bench: Bench, kind: Kind, load: Load) -> dict[str, Any]:
    """Connect, wait, and look at the process before and after."""
    with bench.stage(kind) as stage:
        with stage.driver() as first:
            stage.connected(first, replace(load, connections=FIRST_DEVICES))
        stage.settle()
        before = stage.server.rss()
        with stage.driver() as driver:
            connecting = stage.connected(driver, load)
            after_connecting = stage.server.rss()
            cpu, start = stage.server.cpu(), time.monotonic()
            time.sleep(load.seconds)
            seconds = time.monotonic() - start
            share = (stage.server.cpu() - cpu) / seconds
            after = stage.server.rss()
            report = driver.ask("report", "report")
        return {
            "bytes_per_connection": (after - before) / load.connections,
            "bytes_per_connection_at_first": (after_connecting - before) / load.connections,
            "cpu_share": share,
            "pings": report["pings"],
            "lost": load.connections - report["links"],
            "connect_seconds": connecting,
            "connections_per_second": load.connections / connecting,
        }
