"""The cost of traffic: CPU of the server from the first message until the last is where it belongs.

Rules that hold here:

* The clock of the CPU runs until the server has nothing left to do and the database has everything that was sent, so
  that a late server does not look cheaper.
* What was sent, acknowledged and stored is counted by three different programs, and a difference is shown.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from benchmarks.harness.driver import GeneratorError
from benchmarks.harness.process import core_busy
from benchmarks.messages import FORMS

if TYPE_CHECKING:
    from benchmarks.cases.load import Load
    from benchmarks.harness.driver import Driver
    from benchmarks.harness.servers import Kind
    from benchmarks.harness.stage import Bench, Stage

SENT_GRACE = 60.0
FULL = 0.9
"""A process above this share of its core limited the run."""
LATE_MS = 20.0
"""The greatest delay of a turn of the schedule."""


def measure(bench: Bench, kind: Kind, load: Load) -> dict[str, Any]:
    """One run of one server under one load."""
    with bench.stage(kind, tls=load.tls) as stage, stage.driver() as driver:
        connecting = stage.connected(driver, load)
        facts = sending(stage, driver, load)
        probed = driver.ask("probe", "probed")
        report = driver.ask("report", "report")
        facts |= {"connect_seconds": connecting, "answered": probed["pongs"], "rss_mib": stage.server.rss() / 2**20}
        return facts | complaints(report)


def sending(stage: Stage, driver: Driver, load: Load) -> dict[str, Any]:
    """Send, wait until everything is done, and compute the cost per message."""
    form, core = FORMS[load.form], stage.bench.cores.generator
    rows_before, acked_before = stage.database.rows(), driver.ask("report", "report")["acked_total"]
    start = driver.go(load.pace())
    cpu_start, database_start, core_start = stage.server.cpu(), stage.database.cpu(), core_busy(core)
    sent = driver.await_event("sent", load.seconds + SENT_GRACE)
    if not sent["sent"]:
        raise GeneratorError("nothing could be sent")
    seconds = sent["at"] - start
    cpu_sent, core_sent = stage.server.cpu(), core_busy(core)
    expected = sent["sent"] * form.rows if stage.server.kind.stores else 0
    drained = stage.drain(rows_before + expected)
    cpu = stage.server.cpu() - cpu_start
    window = driver.ask("window", "window")
    report = driver.ask("report", "report")
    messages, taken = sent["sent"], report["last_ack_at"] if stage.server.kind.acks else drained.taken
    facts: dict[str, Any] = {
        "messages": messages,
        "held": sent["held"],
        "cpu_us_per_message": cpu / messages * 1e6,
        "cpu_us_per_reading": cpu / messages / form.readings * 1e6,
        "messages_per_second": messages / (taken - start),
        "readings_per_second": messages * form.readings / (taken - start),
        "server_share": (cpu_sent - cpu_start) / seconds,
        "generator_share": sent["generator_cpu"] / seconds,
        "generator_core_busy": (core_sent - core_start) / seconds,
        "generator_late_p99_ms": sent.get("late_p99_ms"),
        "drain_seconds": drained.at - sent["at"],
    }
    if stage.server.kind.stores:
        facts["stored_share"] = (drained.rows - rows_before) / expected
        facts["stored_readings_per_second"] = messages * form.readings * facts["stored_share"] / (drained.at - start)
        facts["database_cpu_us_per_reading"] = (stage.database.cpu() - database_start) / messages / form.readings * 1e6
    if stage.server.kind.acks:
        acked = report["acked_total"] - acked_before
        facts |= {"acked_share": acked / messages, "messages_per_ack": messages / max(1, report["acks"])}
        facts |= {f"ack_{name}_ms": window[name] for name in ("p50", "p99", "p99.9", "max")}
    facts["generator_limited"] = facts["generator_share"] > FULL
    facts["generator_late"] = (facts["generator_late_p99_ms"] or 0) > LATE_MS
    facts["server_not_full"] = not load.rate and facts["server_share"] < FULL
    facts["measured_at"] = time.time()
    return facts


def complaints(report: dict[str, Any]) -> dict[str, Any]:
    """Counts that are 0 in a healthy run."""
    return {name: report[name] for name in ("failures", "throttles", "unexpected", "examples") if report[name]}
