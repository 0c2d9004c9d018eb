"""Runs the cases interleaved, and saves each result at once.

Rules that hold here:

* The servers of a case take turns, each time in another order, so that a machine that warms up or is disturbed for a
  while does it to all of them.
* A run that fails is a result too: it is recorded with its error, and the next one follows.
"""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from benchmarks.harness.database import DatabaseError
from benchmarks.harness.driver import GeneratorError
from benchmarks.harness.servers import KINDS, ServerError, install

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from benchmarks.cases.load import Load
    from benchmarks.cases.suite import Case
    from benchmarks.harness.servers import Kind
    from benchmarks.harness.stage import Bench

FAILURES = (DatabaseError, GeneratorError, ServerError, OSError, subprocess.SubprocessError)
"""Errors of a run that the server may cause; any other is an error of the benchmark."""
COLLECTED = ("cpu_us_per_message", "messages_per_second", "bytes_per_connection", "ack_p99_ms", "readings_per_second")


@dataclass(frozen=True)
class Plan:
    """The part of the suite to run: cases with scaled loads, servers, and the number of runs."""

    cases: Sequence[Case]
    servers: frozenset[str]
    runs: int | None
    connections: float
    seconds: float

    def turns(self) -> Iterator[tuple[Case, Load, str, int]]:
        """Every run, in order."""
        for case in self.cases:
            servers = [name for name in case.servers if name in self.servers]
            for run in range(self.runs or case.runs):
                for load in case.loads:
                    shift = run % max(1, len(servers))
                    for name in servers[shift:] + servers[:shift]:
                        yield case, load.scaled(self.connections, self.seconds), name, run


def run_all(bench: Bench, plan: Plan, report: dict[str, Any], path: Path) -> None:
    """Run everything; ``report["runs"]`` grows, and the file at ``path`` with it."""
    missing: dict[str, str] = {}
    for case, load, name, run in plan.turns():
        start = time.monotonic()
        facts = {"error": missing[name]} if name in missing else _run(bench, KINDS[name], case, load, missing)
        record = {"case": case.name, "load": load.label, "connections": load.connections, "server": name, "run": run}
        record |= {"form": load.form, "seconds": load.seconds, "took": time.monotonic() - start, **facts}
        report["runs"].append(record)
        path.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
        print(_line(record), flush=True)


def _run(bench: Bench, kind: Kind, case: Case, load: Load, missing: dict[str, str]) -> dict[str, Any]:
    try:
        install(kind)
    except (ServerError, subprocess.SubprocessError) as error:
        missing[kind.name] = str(error)
        return {"error": str(error)}
    try:
        return case.measure(bench, kind, load)
    except FAILURES as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _line(record: dict[str, Any]) -> str:
    facts = [f"{name}={record[name]:,.1f}" for name in COLLECTED if record.get(name) is not None]
    if "error" in record:
        facts.append(f"failed: {record['error'].splitlines()[0]}")
    where = f"{record['case']:10} {record['load']:20} {record['server']:10} run {record['run'] + 1}"
    return f"{where}  {'  '.join(facts)}  ({record['took']:.0f} s)"
