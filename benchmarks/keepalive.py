"""``python -m benchmarks.keepalive``: the cost of devices that send only pongs: the gateway's share of one core.

The defaults are the gateway's own: a ping to each device every 20 s. The share is of everything the process does in
that time, its timers and its pings; it is divided by the devices that there could be (each takes an open file on both
sides) and multiplied by 20,000.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.cases.load import Load
from benchmarks.harness.machine import Cores, allow_many_sockets, describe
from benchmarks.harness.servers import KINDS
from benchmarks.harness.stage import Bench

if TYPE_CHECKING:
    from collections.abc import Callable

DEVICES = 20_000
OTHER_FILES = 200


def main() -> None:
    """Connect the devices, wait, and print the CPU per second."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.keepalive", description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=DEVICES)
    parser.add_argument("--seconds", type=float, default=40.0, help="two rounds of pings")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="on the disk to fsync to")
    options = parser.parse_args()
    devices = min(options.devices, allow_many_sockets() - OTHER_FILES)
    cores = Cores.of_this_machine()
    cores.keep_to_the_side()
    with tempfile.TemporaryDirectory(prefix="gateway-keepalive-", dir=options.directory) as scratch:
        print(describe(Path(scratch), cores))
        bench = Bench(Path(scratch), cores, devices)
        with bench.stage(KINDS["gateway"], tls=options.tls) as stage, stage.driver() as driver:
            stage.settle()
            alone = _share(stage.server.cpu, options.seconds / 4)
            stage.connected(driver, Load(devices, "reading", options.seconds, tls=options.tls))
            pings = driver.ask("report", "report")["pings"]
            share = _share(stage.server.cpu, options.seconds)
            report = driver.ask("report", "report")
            print(
                f"{devices} devices, {report['links']} at the end, {report['pings'] - pings} pings: "
                f"{share:.2%} of a core, {share / devices * DEVICES:.2%} for {DEVICES}; {alone:.2%} without devices"
            )


def _share(cpu: Callable[[], float], seconds: float) -> float:
    before, start = cpu(), time.monotonic()
    time.sleep(seconds)
    return (cpu() - before) / (time.monotonic() - start)


if __name__ == "__main__":
    main()
