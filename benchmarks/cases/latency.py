"""How long a device waits for the ack, while the server is half busy.

The rate that makes it half busy is found first, by two short runs on the same connections; the share of its core that
the server then had is among the results. The devices' view is the time from sending to the ack; the server's own
histograms (`/metrics`) are beside it, for the commit alone too, to the resolution of their buckets.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmarks.cases.traffic import sending
from benchmarks.harness.prometheus import Histogram, scrape

if TYPE_CHECKING:
    from benchmarks.cases.load import Load
    from benchmarks.harness.servers import Kind
    from benchmarks.harness.stage import Bench

HALF = 0.5
FINDING_SECONDS = 3.0
GENERATOR_SHARE = 0.75
"""The generator is not driven further than this: beyond it, it would measure itself."""


def measure(bench: Bench, kind: Kind, load: Load) -> dict[str, Any]:
    """Find half load, then measure at it."""
    with bench.stage(kind) as stage, stage.driver() as driver:
        stage.connected(driver, load)
        rate = load.rate
        for _ in range(2):
            facts = sending(stage, driver, replace(load, rate=rate, seconds=min(load.seconds, FINDING_SECONDS)))
            rate *= min(HALF / facts["server_share"], GENERATOR_SHARE / facts["generator_share"])
        before = scrape(stage.server.port)
        facts = sending(stage, driver, replace(load, rate=rate))
        after = scrape(stage.server.port)
        facts["rate"] = rate * load.connections
        for name in ("commit", "ack"):
            histogram = Histogram.between(before, after, f"gateway_{name}_seconds")
            facts[f"server_{name}"] = {label: histogram.percentile(at) for label, at in POINTS.items()}
        return facts


POINTS = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
