"""``python -m benchmarks.process``: the effect of the interpreter's settings on gc pauses, CPU, memory and acks.

Each setting has a gateway of its own, on which ``--devices`` connect and then send ``--rate`` messages a second in all.
``stock`` is Python's own, ``shipped`` is `gateway.process.interpreter`; others are ``GEN0,GEN1,GEN2,SWITCH_INTERVAL``.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from benchmarks.cases import traffic
from benchmarks.cases.load import Load
from benchmarks.harness.machine import Cores, allow_many_sockets, describe
from benchmarks.harness.servers import KINDS
from benchmarks.harness.stage import Bench

if TYPE_CHECKING:
    from benchmarks.harness.servers import Kind, Setting

SHOWN = ("cpu_us_per_message", "connect_seconds", "rss_mib", "ack_p50_ms", "ack_p99_ms", "ack_p99.9_ms")


def observed(setting: str, report: Path) -> Kind:
    """The gateway under ``setting``."""
    gateway = KINDS["gateway"]

    def command(paths: Setting) -> list[str]:
        python, _, _, *arguments = gateway.command(paths)
        return [python, "-m", "benchmarks.harness.observed", str(report), setting, *arguments]

    return replace(gateway, command=command)


def measure(bench: Bench, setting: str, load: Load) -> dict[str, Any]:
    """One run."""
    report = bench.directory / "pauses.json"
    facts = traffic.measure(bench, observed(setting, report), load)
    return {name: round(facts[name], 1) for name in SHOWN} | orjson.loads(report.read_bytes())


def main() -> None:
    """Run the settings in turn."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.process", description=__doc__.splitlines()[0])
    parser.add_argument("settings", nargs="*", default=["stock", "shipped"])
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=10_000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="on the disk to fsync to")
    options = parser.parse_args()
    allow_many_sockets()
    cores = Cores.of_this_machine()
    cores.keep_to_the_side()
    load = Load(options.devices, "reading", options.seconds, options.rate / options.devices)
    with tempfile.TemporaryDirectory(prefix="gateway-process-", dir=options.directory) as scratch:
        print(describe(Path(scratch), cores))
        bench = Bench(Path(scratch), cores, options.devices)
        for _ in range(options.runs):
            for setting in options.settings:
                print(setting, measure(bench, setting, load), flush=True)


if __name__ == "__main__":
    main()
