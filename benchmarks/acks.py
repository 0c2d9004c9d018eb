"""``python -m benchmarks.acks``: what `server.ack_delay` saves, and how long devices wait for acks."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import orjson

from benchmarks.cases import traffic
from benchmarks.cases.load import Load
from benchmarks.harness.machine import Cores, allow_many_sockets, describe
from benchmarks.harness.servers import KINDS
from benchmarks.harness.stage import Bench

FIGURES = ("cpu_us_per_message", "messages_per_ack", "ack_p50_ms", "ack_p99_ms")
SETTING = "GATEWAY_SERVER__ACK_DELAY"


def measure(bench: Bench, load: Load, delays: list[str], runs: int) -> dict[str, list[dict[str, Any]]]:
    """Run the delays in turns, so that disturbances of the machine affect all of them."""
    found: dict[str, list[dict[str, Any]]] = {delay: [] for delay in delays}
    for run in range(runs):
        for delay in delays:
            os.environ[SETTING] = delay  # the gateway inherits it
            found[delay].append(traffic.measure(bench, KINDS["gateway"], load))
        print(f"run {run + 1} of {runs}", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.acks", description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=10.0, help="messages a second of each")
    parser.add_argument("--delay", action="append", help="such as 20ms; may be repeated")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="on the disk to fsync to")
    options = parser.parse_args()
    allow_many_sockets()
    cores = Cores.of_this_machine()
    cores.keep_to_the_side()
    with tempfile.TemporaryDirectory(prefix="gateway-acks-", dir=options.directory) as scratch:
        bench = Bench(Path(scratch), cores, options.devices)
        load = Load(options.devices, "reading", options.seconds, options.rate)
        found = measure(bench, load, options.delay or ["0s", "20ms", "50ms"], options.runs)
        result = {
            "medians": {
                delay: {name: round(statistics.median(facts[name] for facts in runs), 2) for name in FIGURES}
                for delay, runs in found.items()
            },
            "cpu": {delay: [round(facts["cpu_us_per_message"], 1) for facts in runs] for delay, runs in found.items()},
            "machine": describe(Path(scratch), cores),
        }
        print(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode())


if __name__ == "__main__":
    main()
