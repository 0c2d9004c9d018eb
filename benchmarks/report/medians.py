"""The median of every figure over the runs of a case, and the ratios that the project has set itself."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

Runs = list[dict[str, Any]]


@dataclass(frozen=True)
class Result:
    """All good runs of one server under one load, and what went wrong in the others."""

    case: str
    load: str
    connections: int
    server: str
    runs: Runs
    errors: tuple[str, ...]

    def median(self, name: str) -> float | None:
        """The median of a figure; None where no run has it."""
        values = self.values(name)
        return statistics.median(values) if values else None

    def values(self, name: str) -> list[float]:
        """A figure in each run that has it."""
        return [run[name] for run in self.runs if run.get(name) is not None]

    def spread(self, name: str) -> float | None:
        """How far apart the runs lie, as a share of their median."""
        values, middle = self.values(name), self.median(name)
        return (max(values) - min(values)) / middle if middle else None


def results(report: dict[str, Any]) -> list[Result]:
    """One result for each case, load and server, in the order in which they first ran."""
    grouped: dict[tuple[str, str, str], Runs] = {}
    for run in report["runs"]:
        grouped.setdefault((run["case"], run["load"], run["server"]), []).append(run)
    return [
        Result(
            case=case,
            load=load,
            connections=runs[0]["connections"],
            server=server,
            runs=[run for run in runs if "error" not in run],
            errors=tuple(run["error"] for run in runs if "error" in run),
        )
        for (case, load, server), runs in grouped.items()
    ]


@dataclass(frozen=True)
class Ratio:
    """Something the gateway must reach: ``name`` of it over ``name`` of another is at most ``limit``."""

    title: str
    limit: float
    value: float | None

    @property
    def holds(self) -> bool | None:
        """None where it was not measured."""
        return None if self.value is None else self.value <= self.limit


MESSAGE, READING, MEMORY = "cpu_us_per_message", "cpu_us_per_reading", "bytes_per_connection"
TARGETS = (
    ("fleet: CPU per message against picows that only parses", 1.8, "fleet", "picows", MESSAGE),
    ("fleet: CPU per message against Tornado + influxdb-client", 1 / 4, "fleet", "tutorial", MESSAGE),
    ("batch of 50: CPU per reading against Tornado + influxdb-client", 1 / 10, "batch", "tutorial", READING),
    ("idle: memory per authenticated device against Tornado with pings", 0.5, "idle", "tornado", MEMORY),
    ("fleet over TLS: CPU per message against Tornado over TLS", 1 / 2, "fleet-tls", "tornado", MESSAGE),
)
GROWTH = 1.25


def ratios(found: Iterable[Result]) -> list[Ratio]:
    """The gateway against the others, and against itself as it grows."""
    found = list(found)
    made = []
    for title, limit, case, rival, figure in TARGETS:
        own, others = (_figure(found, case, server, figure) for server in ("gateway", rival))
        made.append(Ratio(title, limit, own / others if own and others else None))
    growth = sorted((r for r in found if r.case == "growth" and r.server == "gateway"), key=lambda r: r.connections)
    grown = _grown([result.median(MESSAGE) for result in growth])
    made.append(Ratio("growth: CPU per message, most devices against fewest", GROWTH, grown))
    return made


def _figure(found: list[Result], case: str, server: str, figure: str) -> float | None:
    return next((r.median(figure) for r in found if (r.case, r.server) == (case, server)), None)


def _grown(costs: list[float | None]) -> float | None:
    first, last = (costs[0], costs[-1]) if len(costs) > 1 else (None, None)
    return last / first if first and last else None
