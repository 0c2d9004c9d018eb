"""``python -m benchmarks.slowhttp``: slowhttptest against the port, and how long well-behaved devices wait for acks.

Slow headers, slow bodies and slow readers, one after the other, each with a calm stretch before it to compare with, and
measured from its first connection on. How often they send is as in slowhttptest's own examples. ``--rate`` is how
many connect a second, and that is the cost: a request takes a third of a millisecond.

The attackers' process has to share the generator's core on a machine with two, where it is in the way of the devices
themselves. So before each attack the same is done to a socket that nobody reads, which shows how much of the difference
to the calm before is theirs.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.cases.load import Load
from benchmarks.generator.orders import Pace
from benchmarks.harness.machine import Cores, allow_many_sockets, describe
from benchmarks.harness.servers import KINDS
from benchmarks.harness.stage import Bench

if TYPE_CHECKING:
    from benchmarks.harness.driver import Driver
    from benchmarks.harness.stage import Stage

PROGRAM = "slowhttptest"
RATE = 1.0
"""Messages a second of each device."""
SETTLE_SECONDS = 3.0
GIVES_WAY = 10
"""Added to the attackers' niceness."""
BACKLOG = 4096
TOLERATED = 1.2
"""How many times as long as in the calm before devices may wait during an attack, on average and at the median."""


@dataclass(frozen=True)
class Mode:
    """One kind of slow client: the options of slowhttptest and the path it requests."""

    name: str
    options: tuple[str, ...]
    path: str


MODES = (
    Mode("slow headers", ("-H", "-i", "10", "-x", "24"), "/"),
    Mode("slow bodies", ("-B", "-i", "10", "-s", "8192", "-x", "10"), "/v1/devices/nobody/readings"),
    Mode("slow readers", ("-X", "-w", "512", "-y", "1024", "-n", "5", "-z", "32", "-k", "3"), "/static/app.js"),
)


def measure(stage: Stage, devices: int, attack: tuple[int, int], seconds: float) -> list[dict[str, Any]]:
    """What the devices saw before and in each ``attack`` of so many connections, so many of them a second."""
    found = []
    with stage.driver() as fleet:
        fleet.connect(stage.target(Load(devices, "reading", 0)), 60)
        total = len(MODES) * (3 * seconds + 6 * SETTLE_SECONDS) + 60
        fleet.go(Pace(total, int(total * RATE), RATE))
        for mode in MODES:
            time.sleep(SETTLE_SECONDS)
            facts: dict[str, Any] = {"mode": mode.name, "before": _window(fleet, seconds)}
            with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as nobody:
                facts["elsewhere"], _ = _attacked(fleet, mode, nobody.getsockname()[1], attack, seconds)
            time.sleep(SETTLE_SECONDS)
            facts["during"], facts["attackers"] = _attacked(fleet, mode, stage.server.port, attack, seconds)
            found.append(facts)
        report = fleet.ask("report", "report")
    found.append({name: report[name] for name in ("links", "acked_total", "failures", "throttles", "unexpected")})
    return found


def _window(fleet: Driver, seconds: float) -> dict[str, Any]:
    fleet.ask("window", "window")
    time.sleep(seconds)
    return fleet.ask("window", "window")


def _attacked(
    fleet: Driver, mode: Mode, port: int, attack: tuple[int, int], seconds: float
) -> tuple[dict[str, Any], dict[str, str]]:
    """What the devices saw during an attack on ``port``, and what the attackers say."""
    with _attack(mode, port, attack, seconds) as attackers:
        seen = _window(fleet, seconds)
        said, _ = attackers.communicate(timeout=60)
    return seen, _told(said)


def command(mode: Mode, port: int, attack: tuple[int, int], seconds: float) -> list[str]:
    """The command line of slowhttptest."""
    connections, rate = attack
    often = ("-c", str(connections), "-r", str(rate), "-l", str(int(seconds)), "-p", "3")
    return [PROGRAM, *mode.options, *often, "-u", f"http://127.0.0.1:{port}{mode.path}"]


def _attack(mode: Mode, port: int, attack: tuple[int, int], seconds: float) -> subprocess.Popen[str]:
    order = command(mode, port, attack, seconds)
    attackers = subprocess.Popen(order, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    os.setpriority(os.PRIO_PROCESS, attackers.pid, GIVES_WAY)
    return attackers


def _told(said: str) -> dict[str, str]:
    """The last table that slowhttptest prints."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said)
    names = "connected", "pending", "error", "closed", "service available"
    return {name: found[-1] for name in names if (found := re.findall(rf"^{name}:\s+(\w+)", plain, re.MULTILINE))}


def worst(found: list[dict[str, Any]], name: str) -> float:
    """How many times as long as before the devices waited in the worst attack, by that figure of a window."""
    return float(max(facts["during"][name] / facts["before"][name] for facts in found if "mode" in facts))


def main() -> int:
    """Attack and print. Returns 1 if the devices waited too long."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slowhttp", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--devices", type=int, default=1000, help=f"well-behaved, {RATE:.0f} message a second each")
    parser.add_argument("--connections", type=int, default=1400, help="of slowhttptest")
    parser.add_argument("--rate", type=int, default=200, help="of them a second")
    parser.add_argument("--seconds", type=float, default=7.0, help="of each attack, and of the calm before it")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="on the disk to fsync to")
    options = parser.parse_args()
    if shutil.which(PROGRAM) is None:
        print(f"{PROGRAM} is missing: apt install {PROGRAM}", file=sys.stderr)
        return 2
    allow_many_sockets()
    cores = Cores.of_this_machine()
    cores.keep_to_the_side()
    with tempfile.TemporaryDirectory(prefix="gateway-slowhttp-", dir=options.directory) as scratch:
        print(describe(Path(scratch), cores))
        bench = Bench(Path(scratch), cores, options.devices)
        with bench.stage(KINDS["gateway"]) as stage:
            found = measure(stage, options.devices, (options.connections, options.rate), options.seconds)
    for facts in found:
        print("  ".join(f"{key}={value}" for key, value in facts.items()))
    times = {name: round(worst(found, name), 2) for name in ("mean", "p50")}
    print(f"worst attack, against the calm before: {times}")
    return 0 if max(times.values()) <= TOLERATED else 1


if __name__ == "__main__":
    sys.exit(main())
