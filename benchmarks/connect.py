"""``python -m benchmarks.connect``: many devices connect at once, while a fleet streams and waits for its acks.

The storm is one generator with all its sockets connecting at the same moment, the fleet is another, which sends all
the time. Both share a core; the storm's process is nicer, so that it does not delay the fleet's own clock.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.cases.load import Load
from benchmarks.generator.orders import Pace, Target
from benchmarks.harness.machine import Cores, allow_many_sockets, describe
from benchmarks.harness.servers import KINDS
from benchmarks.harness.stage import Bench

if TYPE_CHECKING:
    from benchmarks.harness.driver import Driver
    from benchmarks.harness.stage import Stage

RATE = 10.0
CALM_SECONDS = 5.0
MAX_STORM_SECONDS = 100.0
GIVES_WAY = 10
"""Added to the storm's niceness."""


def measure(stage: Stage, fleet_size: int, storm_size: int, *, tls: bool) -> dict[str, Any]:
    """The fleet's latencies before, during and after the storm, and the storm's own results."""
    target = stage.target(Load(fleet_size, "reading", 0, tls=tls))
    with stage.driver() as fleet, stage.driver() as storm:
        fleet.connect(target, 60)
        os.setpriority(os.PRIO_PROCESS, storm.process.pid, GIVES_WAY)
        seconds = 2 * CALM_SECONDS + MAX_STORM_SECONDS
        fleet.go(Pace(seconds, int(seconds * RATE), RATE))
        time.sleep(CALM_SECONDS)
        facts = {"before": _window(fleet)}
        cpu = stage.server.cpu()
        facts["storm"] = _storm(storm, target, storm_size)
        facts["storm"]["cpu_us_per_connection"] = (stage.server.cpu() - cpu) / storm_size * 1e6
        facts["during"] = _window(fleet)
        time.sleep(CALM_SECONDS)
        facts["after"] = _window(fleet)
        report = fleet.ask("report", "report")
        facts["fleet"] = {name: report[name] for name in ("links", "acked_total", "failures", "throttles")}
        return facts


def _window(fleet: Driver) -> dict[str, Any]:
    return fleet.ask("window", "window")


def _storm(storm: Driver, target: Target, size: int) -> dict[str, Any]:
    order = Target(
        target.port, target.path, size, target.form, target.tls, target.acks, target.tokens, target.connections, size
    )
    storm.order("connect", **vars(order))
    connected = storm.await_event("connected", MAX_STORM_SECONDS)
    names = ("links", "seconds", "failures", "unexpected")
    return {name: value for name, value in connected.items() if name in names or name.startswith("connect_")}


def main() -> None:
    """Run the storm and print the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.connect", description=__doc__.splitlines()[0])
    parser.add_argument("--storm", type=int, default=10_000, help="devices that connect at once")
    parser.add_argument("--fleet", type=int, default=200, help=f"devices that send {RATE:.0f} messages a second each")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="on the disk to fsync to")
    options = parser.parse_args()
    allow_many_sockets()
    cores = Cores.of_this_machine()
    cores.keep_to_the_side()
    with tempfile.TemporaryDirectory(prefix="gateway-connect-", dir=options.directory) as scratch:
        print(describe(Path(scratch), cores))
        bench = Bench(Path(scratch), cores, options.storm + options.fleet)
        with bench.stage(KINDS["gateway"], tls=options.tls) as stage:
            for name, facts in measure(stage, options.fleet, options.storm, tls=options.tls).items():
                print(f"{name:7}", "  ".join(f"{key}={_shown(value)}" for key, value in facts.items()))


def _shown(value: object) -> str:
    return f"{value:,.1f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
