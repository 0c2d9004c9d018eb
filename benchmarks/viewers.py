"""``python -m benchmarks.viewers``: what viewers of the live feed cost: CPU per message, with viewers and without.

The devices stay connected and send, in turns without and with viewers, so that disturbances of the machine affect both.
The viewers are one process beside the generator; it reads everything as fast as it comes.
"""

from __future__ import annotations

import argparse
import selectors
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from benchmarks.cases.load import Load
from benchmarks.cases.traffic import sending
from benchmarks.harness.machine import Cores, allow_many_sockets, describe
from benchmarks.harness.process import Child
from benchmarks.harness.servers import KINDS
from benchmarks.harness.stage import Bench

if TYPE_CHECKING:
    from benchmarks.harness.driver import Driver
    from benchmarks.harness.stage import Stage

FIGURES = (
    "cpu_us_per_message",
    "messages_per_second",
    "ack_p50_ms",
    "ack_p99_ms",
    "server_share",
    "generator_share",
    "generator_core_busy",
)
CHUNK = 1 << 18


def read(port: int, query: str, count: int) -> None:
    """The viewers' process: watch until its input ends, then print what they received."""
    selector, counts = selectors.DefaultSelector(), {"bytes": 0, "readings": 0, "conflated": 0, "totals": 0}
    for _ in range(count):
        viewer = socket.create_connection(("127.0.0.1", port))
        viewer.sendall(f"GET /v1/live{query} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        selector.register(viewer, selectors.EVENT_READ)
    print("watching", flush=True)
    selector.register(sys.stdin, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is sys.stdin:
                print(orjson.dumps(counts).decode())
                return
            data = key.fileobj.recv(CHUNK)  # type: ignore[union-attr]
            if not data:
                sys.exit("the gateway closed a viewer's stream")
            counts["bytes"] += len(data)
            counts["readings"] += data.count(b"event: readings")
            counts["totals"] += data.count(b"event: totals")
            counts["conflated"] += data.count(b'"conflated":true')


class Viewers(Child):
    """Keep this many viewers connected inside the block."""

    def __init__(self, stage: Stage, query: str, count: int, log: Path) -> None:
        command = [sys.executable, "-m", "benchmarks.viewers", "--port", str(stage.server.port)]
        command += ["--query", query, "--viewers", str(count)]
        super().__init__(command, core=stage.bench.cores.generator, log=log, pipes=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"watching\n", self.tail()

    def counts(self) -> dict[str, int]:
        """End the viewers. Returns what they all received."""
        output, _ = self.process.communicate(timeout=60)
        return dict(orjson.loads(output))


def measure(stage: Stage, driver: Driver, load: Load, options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Run ``runs`` turns of each."""
    found: dict[str, list[dict[str, Any]]] = {"nobody": [], "viewers": []}
    for run in range(options.runs):
        stage.settle()
        found["nobody"].append(sending(stage, driver, load))
        stage.settle()
        with Viewers(stage, options.query, options.viewers, stage.bench.directory / "viewers.log") as viewers:
            start = time.monotonic()
            facts = sending(stage, driver, load)
            facts["watched"] = viewers.counts() | {"seconds": time.monotonic() - start}
            found["viewers"].append(facts)
        print(f"run {run + 1} of {options.runs}", file=sys.stderr)
    return found


def report(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians, the greatest differences, and what viewers cost by themselves."""
    medians = {who: {name: statistics.median(f[name] for f in runs) for name in FIGURES} for who, runs in found.items()}
    alone, watched = medians["nobody"], medians["viewers"]
    return {
        "medians": medians,
        "runs": {who: [{name: round(f[name], 2) for name in FIGURES} for f in runs] for who, runs in found.items()},
        "cpu_per_message_ratio": watched["cpu_us_per_message"] / alone["cpu_us_per_message"],
        "throughput_ratio": watched["messages_per_second"] / alone["messages_per_second"],
        "watched": [facts["watched"] for facts in found["viewers"]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.viewers", description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=10.0, help="messages a second of each; 0: as fast as it goes")
    parser.add_argument("--viewers", type=int, default=200)
    parser.add_argument("--query", default="", help="such as '?device=load-1'; all devices by default")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="on the disk to fsync to")
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    allow_many_sockets()
    if options.port is not None:
        read(options.port, options.query, options.viewers)
        return
    cores = Cores.of_this_machine()
    cores.keep_to_the_side()
    with tempfile.TemporaryDirectory(prefix="gateway-viewers-", dir=options.directory) as scratch:
        bench = Bench(Path(scratch), cores, options.devices)
        load = Load(options.devices, "reading", options.seconds, options.rate)
        with bench.stage(KINDS["gateway"]) as stage, stage.driver() as driver:
            stage.connected(driver, load)
            result = report(measure(stage, driver, load, options))
        result["machine"] = describe(Path(scratch), cores)
        print(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode())


if __name__ == "__main__":
    main()
