"""``python -m benchmarks``: the whole suite, or part of it, then the table and the chart.

A full run (all cases, all servers, full size) is written into README.md and results/; anything less is for trying out
and goes to a directory of its own.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson

from benchmarks.cases.suite import SUITE
from benchmarks.harness.machine import Cores, allow_many_sockets, describe
from benchmarks.harness.servers import KINDS
from benchmarks.harness.stage import Bench
from benchmarks.report.chart import draw
from benchmarks.report.readme import publish
from benchmarks.report.table import markdown
from benchmarks.runner import Plan, run_all

HERE = Path(__file__).parent
RESULTS = HERE / "results"
TRIAL = Path("data/benchmarks")


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    names = [case.name for case in SUITE]
    parser.add_argument("--only", action="append", choices=names, help="a case; may be repeated")
    parser.add_argument("--server", action="append", choices=list(KINDS), help="a server; may be repeated")
    parser.add_argument("--runs", type=int, help="runs of each case instead of its own number")
    parser.add_argument("--connections", type=float, default=1.0, help="scale of the number of devices, such as 0.05")
    parser.add_argument("--seconds", type=float, default=1.0, help="scale of the durations, such as 0.2")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="on the disk to fsync to")
    parser.add_argument("--output", type=Path, help=f"for results; {RESULTS.name}/ for a full run, else {TRIAL}/")
    parser.add_argument("--list", action="store_true", help="say what would run")
    parser.add_argument("--render", type=Path, metavar="JSON", help="only make table and chart of an earlier run")
    return parser.parse_args()


def main() -> None:
    """Run the suite, or render the results of a run."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the processes of the run end with it
    options = arguments()
    plan = Plan(
        cases=[case for case in SUITE if not options.only or case.name in options.only],
        servers=frozenset(options.server or KINDS),
        runs=options.runs,
        connections=options.connections,
        seconds=options.seconds,
    )
    if options.list:
        for case, load, server, run in plan.turns():
            print(f"{case.name:10} {load.label:20} {server:10} run {run + 1}, {load.seconds:.0f} s")
        return
    full = not (options.only or options.server or options.runs) and options.connections == options.seconds == 1
    output = options.output or (options.render.parent if options.render else RESULTS if full else TRIAL)
    output.mkdir(parents=True, exist_ok=True)
    report = (
        orjson.loads(options.render.read_bytes())
        if options.render
        else _run(plan, options.directory, output, full=full)
    )
    draw(report, output / "suite.png")
    if report["full"]:
        publish(markdown(report), HERE / "README.md")
    else:
        print(markdown(report))


def _run(plan: Plan, directory: Path, output: Path, *, full: bool) -> dict[str, Any]:
    allow_many_sockets()
    cores = Cores.of_this_machine()
    cores.keep_to_the_side()
    devices = max(load.connections for _, load, _, _ in plan.turns())
    with tempfile.TemporaryDirectory(prefix="gateway-benchmarks-", dir=directory) as scratch:
        report: dict[str, Any] = {
            "command": shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
            "full": full,
            "started": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            "machine": describe(Path(scratch), cores),
            "runs": [],
        }
        start = time.monotonic()
        run_all(Bench(Path(scratch), cores, max(devices, 100)), plan, report, output / "suite.json")
        report["took_minutes"] = round((time.monotonic() - start) / 60, 1)
    (output / "suite.json").write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    return report


if __name__ == "__main__":
    main()
