"""After an outage of the database: how fast the backlog drains while devices go on sending, and their acks."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmarks.cases.traffic import complaints
from benchmarks.generator.orders import Pace
from benchmarks.messages import FORMS

if TYPE_CHECKING:
    from benchmarks.cases.load import Load
    from benchmarks.harness.driver import Driver
    from benchmarks.harness.servers import Kind
    from benchmarks.harness.stage import Bench, Stage

FILLERS = 100
FILL_SECONDS = 120.0
NOTICE_SECONDS = 60.0
"""A gateway may wait up to half a minute between two tries of a database that is away."""
SAMPLE = 1.0


def measure(bench: Bench, kind: Kind, load: Load) -> dict[str, Any]:
    """Fill the spool without a database, let devices go on, and start the database again."""
    with bench.stage(kind, database=False) as stage:
        backlog = _fill(stage, load)
        stage.settle()
        with stage.driver() as live:
            stage.connected(live, load)
            longest = 2 * load.seconds + NOTICE_SECONDS + FILL_SECONDS
            live.go(Pace(seconds=longest, messages=int(longest * load.rate) + 2, rate=load.rate))
            time.sleep(load.seconds)
            before = live.ask("window", "window")
            facts = _drain(stage, live, backlog)
            time.sleep(load.seconds)
            facts |= {"ack_before": before, "ack_after": live.ask("window", "window")}
            return facts | complaints(live.ask("report", "report"))


def _fill(stage: Stage, load: Load) -> int:
    """Number of readings in the spool."""
    form = FORMS["batch"]
    messages = max(1, load.backlog // (FILLERS * form.readings))
    with stage.driver() as filler:
        stage.connected(filler, replace(load, connections=FILLERS, form="batch"))
        filler.go(Pace(seconds=FILL_SECONDS, messages=messages))
        sent = int(filler.await_event("sent", FILL_SECONDS + 10)["sent"])
        deadline = time.monotonic() + FILL_SECONDS
        while filler.ask("report", "report")["acked_total"] < sent and time.monotonic() < deadline:
            time.sleep(0.1)
    return sent * form.readings


def _drain(stage: Stage, live: Driver, backlog: int) -> dict[str, Any]:
    wanted = backlog * FORMS["batch"].fields
    stage.database.start()
    returned = time.monotonic()
    while not stage.database.rows() and time.monotonic() < returned + NOTICE_SECONDS:
        time.sleep(0.05)
    start, cpu, database = time.monotonic(), stage.server.cpu(), stage.database.cpu()
    live.ask("window", "window")
    first = rows = stage.database.rows()
    series, at = [], start
    while rows < wanted and time.monotonic() < start + FILL_SECONDS:
        time.sleep(SAMPLE)
        before, rows_before, rows, at = at, rows, stage.database.rows(), time.monotonic()
        window = live.ask("window", "window")
        rate = (rows - rows_before) / FORMS["batch"].fields / (at - before)
        series.append({"seconds": at - start, "readings_per_second": rate, **window})
    seconds, readings = at - start, (rows - first) / FORMS["batch"].fields
    return {
        "backlog": backlog,
        "undrained": rows < wanted,
        "noticed_seconds": start - returned,
        "drain_seconds": seconds,
        "readings_per_second": readings / seconds,
        "server_share": (stage.server.cpu() - cpu) / seconds,
        "database_share": (stage.database.cpu() - database) / seconds,
        "ack_p50_ms": _worst(series, "p50"),
        "ack_p99_ms": _worst(series, "p99"),
        "series": series,
    }


def _worst(series: list[dict[str, Any]], name: str) -> float | None:
    """The worst second of the catch-up."""
    return max((sample[name] for sample in series if sample[name] is not None), default=None)
