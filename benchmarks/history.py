"""``python -m benchmarks.history``: 30 days of one reading a second, asked for in 800 buckets of min, mean and max.

For each database: what the gateway's sink takes, what the database takes for the same question asked directly (SQLite:
from the points, without summaries; the others: the bare request, in turns with the sink), and the coarse answer. For
SQLite also what long questions do to the writes and acks beside them. Every time is the median of ``--runs``, best and
worst in brackets.
"""

from __future__ import annotations

import argparse
import contextlib
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import urllib3
from websockets.sync.client import connect

from benchmarks.harness.ports import free_port
from benchmarks.harness.process import Child
from gateway.delivery.sink import SeriesQuery
from gateway.delivery.write_result import Stored
from gateway.sinks.influxdb import influxql, metricsql
from gateway.sinks.influxdb.v1 import InfluxV1Sink
from gateway.sinks.influxdb.v2 import InfluxV2Sink
from gateway.sinks.sqlite import SqliteSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from websockets.sync.client import ClientConnection

    from gateway.delivery.sink import Sink

SECOND = 1_000_000_000
POINTS = 30 * 86_400
START = 1_700_000_000 * SECOND // (3600 * SECOND) * 3600 * SECOND
BATCH = 20_000
INFLUXD = """
reporting-enabled = false
bind-address = "127.0.0.1:0"
[meta]
  dir = "{directory}/meta"
[data]
  dir = "{directory}/data"
  wal-dir = "{directory}/wal"
  query-log-enabled = false
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:{port}"
  log-enabled = false
"""


def question(points: int, *, coarse: bool = False) -> SeriesQuery:
    start = START + 1_234_567_890  # as a page asks: from any moment
    return SeriesQuery("pump-1", "temp", start, START + POINTS * SECOND, points, "telemetry", coarse)


def fill(sink: Sink) -> None:
    for first in range(0, POINTS, BATCH):
        lines = (
            f"telemetry,device=pump-1 hum={40 + at % 997 / 100},press={1000 + at % 89 / 10},"
            f"temp={20 + at % 1009 / 100},volt={3 + at % 83 / 100} {START + at * SECOND}\n"
            for at in range(first, min(first + BATCH, POINTS))
        )
        assert sink.write("".join(lines).encode()) == Stored()


def timed(call: Callable[[], object], runs: int) -> str:
    return shown([took(call) for _ in range(runs)])


def took(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1e3


def shown(taken: list[float]) -> str:
    return f"{statistics.median(taken):.0f} ms [{min(taken):.0f} to {max(taken):.0f}]"


def in_sqlite(directory: Path, runs: int) -> Iterator[str]:
    path = directory / "history.db"
    sink = SqliteSink(path)
    fill(sink)
    yield f"SQLite, nothing summarised: {timed(lambda: sink.query(question(800)), runs)}"
    yield f"SQLite, nothing summarised, coarse: {timed(lambda: sink.query(question(800, coarse=True)), runs)}"
    while sink.roll_up():
        pass
    for points in 800, 10_000, 100:
        taken = timed(partial(sink.query, question(points)), runs)
        yield f"SQLite, {points} buckets from summaries: {taken}"
    yield f"SQLite, coarse: {timed(lambda: sink.query(question(800, coarse=True)), runs)}"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        statement = "SELECT time_ns / 3240000000000 AS b, min(v2), avg(v2), max(v2) FROM points GROUP BY b"
        yield f"SQLite itself, from the points: {timed(lambda: connection.execute(statement).fetchall(), runs)}"
    yield from beside_writes(sink)
    sink.close()
    yield from beside_acks(directory, path)


def beside_writes(sink: SqliteSink) -> Iterator[str]:
    """Writes of small batches, alone and while a question reads every point again and again."""
    for asking in False, True:
        ended = threading.Event()
        asked = 0

        def ask(ended: threading.Event = ended) -> None:
            nonlocal asked
            while not ended.is_set():
                sink.query(SeriesQuery("pump-1", "temp", START, START + POINTS * SECOND // 10, 10_000))
                asked += 1

        thread = threading.Thread(target=ask)
        if asking:
            thread.start()
        taken = []
        end = time.perf_counter() + 5
        while (began := time.perf_counter()) < end:
            at = time.time_ns()
            lines = b"".join(b"telemetry,device=other-%d temp=20.5 %d\n" % (each, at) for each in range(100))
            assert sink.write(lines) == Stored()
            taken.append((time.perf_counter() - began) * 1e3)
            time.sleep(0.005)
        ended.set()
        if asking:
            thread.join()
        taken.sort()
        p50, p99 = taken[len(taken) // 2], taken[int(len(taken) * 0.99)]
        beside = f"beside {asked} questions to the points" if asking else "alone"
        yield f"SQLite, a write of 100 readings {beside}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, most {taken[-1]:.1f} ms"


def beside_acks(directory: Path, path: Path) -> Iterator[str]:
    """Acks of a running gateway, a message every 5 ms: alone, and while a viewer asks for every point all the time."""
    port, config = free_port(), directory / "config.yaml"
    settings = {
        "server": {"listen": f"127.0.0.1:{port}"},
        "auth": {"mode": "open"},
        "spool": {"directory": str(directory / "spool")},
        "state": {"directory": str(directory / "state")},
        "sqlite": {"path": str(path), "retention": None},
    }
    config.write_bytes(orjson.dumps(settings))  # JSON is YAML
    command = [sys.executable, "-m", "gateway", "run", "--config", str(config)]
    with Child(command, core=None, log=directory / "gateway.log") as gateway:
        device = connected(f"ws://127.0.0.1:{port}/v1/devices/acked/stream", gateway)
        for asking in False, True:
            ended = threading.Event()
            thread = threading.Thread(target=ask_without_end, args=(port, ended))
            if asking:
                thread.start()
            taken = sorted(acks(device, 1000))
            ended.set()
            if asking:
                thread.join()
            p50, p99 = taken[len(taken) // 2], taken[int(len(taken) * 0.99)]
            beside = "beside questions that read every point" if asking else "alone"
            yield f"Gateway on SQLite, an ack {beside}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, most {taken[-1]:.1f} ms"


def connected(url: str, gateway: Child) -> ClientConnection:
    deadline = time.monotonic() + 30
    while True:
        try:
            device = connect(url, legacy=True)
        except OSError as error:
            if time.monotonic() > deadline or not gateway.alive:
                raise RuntimeError(gateway.tail()) from error
            time.sleep(0.1)
        else:
            device.recv()
            return device


def acks(device: ClientConnection, count: int) -> Iterator[float]:
    for _ in range(count):
        seq = time.time_ns() // 1000
        yield took(lambda seq=seq: answered(device, seq))  # type: ignore[misc]
        time.sleep(0.005)


def answered(device: ClientConnection, seq: int) -> None:
    device.send(f'{{"seq":{seq},"values":{{"temp":20.5,"hum":40}}}}')
    while orjson.loads(device.recv(timeout=20)).get("seq") != seq:
        pass


def ask_without_end(port: int, ended: threading.Event) -> None:
    http = urllib3.PoolManager(retries=False, timeout=60)
    first, last = START // 1_000_000, START // 1_000_000 + POINTS * 1000 * 9 // 10
    fields = {"device": "pump-1", "field": "temp", "from": str(first), "to": str(last), "points": "10000"}
    while not ended.is_set():
        answer = http.request("GET", f"http://127.0.0.1:{port}/v1/query", fields=fields)
        assert answer.status == 200, answer.data


@contextlib.contextmanager
def server(command: list[str], url: str, log: Path) -> Iterator[None]:
    """A database, ready once it answers a POST to ``url``."""
    http = urllib3.PoolManager(retries=False, timeout=60)
    with Child(command, core=None, log=log) as child:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(urllib3.exceptions.HTTPError):
                if http.request("POST", url).status == 200:
                    break
            if time.monotonic() > deadline:
                raise RuntimeError(child.tail())
            time.sleep(0.05)
        yield


def in_influxdb(directory: Path, runs: int) -> Iterator[str]:
    port, config = free_port(), directory / "influxdb.conf"
    config.write_text(INFLUXD.format(directory=directory, port=port))
    url = f"http://127.0.0.1:{port}"
    made = f"{url}/query?q=CREATE%20DATABASE%20telemetry"
    with server(["influxd", "-config", str(config)], made, directory / "influxd.log"):
        sink = InfluxV1Sink(url, "telemetry", timeout=60)
        fill(sink)
        asked = question(800)
        fields = {"db": "telemetry", "epoch": "ns", "q": influxql.select(asked, ["telemetry"], [])}
        yield from in_turns("InfluxDB 1.6.7", sink, [(f"{url}/query", fields)], runs)


def in_victoria_metrics(directory: Path, runs: int) -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    options = [f"-httpListenAddr=127.0.0.1:{port}", f"-storageDataPath={directory}/vm", "-retentionPeriod=100y"]
    command = ["victoria-metrics", *options, "-loggerLevel=WARN"]
    with server(command, f"{url}/health", directory / "victoria-metrics.log"):
        sink = InfluxV2Sink(url, "telemetry", timeout=60)
        fill(sink)
        urllib3.PoolManager().request("GET", f"{url}/internal/force_flush")
        asked = [(url + path, fields) for path, fields in metricsql.requests(question(800))]
        yield from in_turns("VictoriaMetrics", sink, asked, runs)


def in_turns(name: str, sink: Sink, bare: list[tuple[str, dict[str, str]]], runs: int) -> Iterator[str]:
    """What the database takes for the bare requests, and the sink for the question they answer."""
    http = urllib3.PoolManager(retries=False, timeout=60)
    ways: dict[str, Callable[[], object]] = {
        "itself, the bare question": lambda: [http.request("GET", url, fields=fields) for url, fields in bare],
        "through the gateway's sink": lambda: sink.query(question(800)),
        "coarse": lambda: sink.query(question(800, coarse=True)),
    }
    assert sum(bucket.count for bucket in sink.query(question(800)).buckets) > POINTS - 10
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(runs):
        for way, call in ways.items():
            taken[way].append(took(call))
    yield from (f"{name}, {way}: {shown(each)}" for way, each in taken.items())
    sink.close()


DATABASES = {"sqlite": in_sqlite, "influxdb": in_influxdb, "victoria-metrics": in_victoria_metrics}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history", description=__doc__.splitlines()[0])
    parser.add_argument("database", nargs="*", default=list(DATABASES), help="; ".join(DATABASES))
    parser.add_argument("--directory", default="/var/tmp", help="on the disk to use")
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gateway-history-", dir=options.directory) as scratch:
        for name in options.database:
            for line in DATABASES[name](Path(scratch), options.runs):
                print(line, flush=True)


if __name__ == "__main__":
    main()
