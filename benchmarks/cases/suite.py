"""All cases, in the order in which they run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.cases import catch_up, idle, latency, traffic
from benchmarks.cases.load import Load

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.harness.servers import Kind
    from benchmarks.harness.stage import Bench

FLEET_RATE = 10_000
"""Messages per second in all, at every size of the growing fleet."""


@dataclass(frozen=True)
class Case:
    """One case: its servers, its loads, its way of measuring, and the number of runs (the table shows medians)."""

    name: str
    title: str
    servers: tuple[str, ...]
    loads: tuple[Load, ...]
    measure: Callable[[Bench, Kind, Load], dict[str, Any]]
    runs: int = 3


STORING = ("gateway", "picows", "tutorial", "node", "node-red")

SUITE = (
    Case(
        "fleet",
        "Fleet: 2,000 devices, 10 messages/s each, one reading per message",
        ("gateway", "picows", "picows-acks", "tornado", "tutorial", "node", "node-red"),
        (Load(2000, "reading", seconds=10, rate=10),),
        traffic.measure,
    ),
    Case(
        "fleet-tls",
        "The same fleet over TLS",
        ("gateway", "picows-acks", "tornado"),
        (Load(2000, "reading", seconds=10, rate=10, tls=True),),
        traffic.measure,
    ),
    Case(
        "batch",
        "Batch: 100 devices, 50 readings per message, as fast as it goes",
        STORING,
        (Load(100, "batch", seconds=8),),
        traffic.measure,
    ),
    Case(
        "block",
        "Block: 100 devices, columnar blocks of 100 samples, as fast as it goes",
        STORING,
        (Load(100, "block", seconds=8),),
        traffic.measure,
    ),
    Case(
        "idle",
        "Idle: 8,000 devices connected and silent for a minute, pings every 20 s",
        ("gateway", "tornado", "picows", "node"),
        (Load(8000, "reading", seconds=60),),
        idle.measure,
        runs=1,
    ),
    Case(
        "catch-up",
        "Catch-up: 2,000,000 readings wait for the database, 500 devices go on with 10 messages/s each",
        ("gateway",),
        (Load(500, "reading", seconds=10, rate=10, backlog=2_000_000),),
        catch_up.measure,
        runs=1,
    ),
    Case(
        "latency",
        "Latency: 2,000 devices keep the server half busy",
        ("gateway",),
        (Load(2000, "reading", seconds=20, rate=2.5),),
        latency.measure,
    ),
    Case(
        "growth",
        "Growth: 10,000 messages/s in all, from more and more devices",
        ("gateway", "picows", "picows-acks", "tutorial"),
        tuple(Load(n, "reading", seconds=10, rate=FLEET_RATE / n) for n in (100, 1000, 5000, 10000)),
        traffic.measure,
        runs=1,
    ),
)
