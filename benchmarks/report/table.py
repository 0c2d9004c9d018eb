"""The results as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.cases.suite import SUITE
from benchmarks.harness.servers import KINDS
from benchmarks.report.medians import Ratio, Result, ratios, results

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Column = tuple[str, Callable[[Result], str]]

MISSING = "-"


def figure(name: str, digits: int = 0, scale: float = 1.0, unit: str = "") -> Callable[[Result], str]:
    """A column's text: the median of a figure."""

    def text(result: Result) -> str:
        value = result.median(name)
        return MISSING if value is None else f"{value * scale:,.{digits}f}{unit}"

    return text


def _percentiles(result: Result) -> str:
    values = [result.median(f"ack_{name}_ms") for name in ("p50", "p99", "p99.9")]
    return MISSING if None in values else " / ".join(f"{value:,.1f}" for value in values)


def _spread(result: Result) -> str:
    value = result.spread("cpu_us_per_message")
    return MISSING if value is None else f"{value:.0%}"


def _generator(result: Result) -> str:
    """Its own share, and how busy its core was with everything on it."""
    own, core = result.median("generator_share"), result.median("generator_core_busy")
    return MISSING if own is None or core is None else f"{own:.0%} ({core:.0%})"


def _server(result: Result) -> str:
    label = KINDS[result.server].label
    return f"**{label}**" if result.server == "gateway" else label


SHARES: tuple[Column, ...] = (
    ("server's core", figure("server_share", 0, 100, " %")),
    ("generator (its core)", _generator),
)
FLEET: tuple[Column, ...] = (
    ("CPU per message, µs", figure("cpu_us_per_message", 1)),
    ("spread", _spread),
    ("messages/s", figure("messages_per_second")),
    ("ack p50 / p99 / p99.9, ms", _percentiles),
    ("stored", figure("stored_share", 1, 100, " %")),
    *SHARES,
)
BULK: tuple[Column, ...] = (
    ("CPU per reading, µs", figure("cpu_us_per_reading", 2)),
    ("spread", _spread),
    ("readings/s taken", figure("readings_per_second")),
    ("readings/s stored", figure("stored_readings_per_second")),
    ("stored", figure("stored_share", 1, 100, " %")),
    *SHARES,
)
IDLE: tuple[Column, ...] = (
    ("memory per device, KiB", figure("bytes_per_connection", 1, 1 / 1024)),
    ("CPU, share of a core", figure("cpu_share", 2, 100, " %")),
    ("connected per second", figure("connections_per_second")),
    ("pings", figure("pings")),
    ("lost", figure("lost")),
)
CATCH_UP: tuple[Column, ...] = (
    ("backlog, readings", figure("backlog")),
    ("drained, readings/s", figure("readings_per_second")),
    ("seconds", figure("drain_seconds", 1)),
    ("ack meanwhile, p50 of the worst second, ms", figure("ack_p50_ms", 1)),
    ("p99 of the worst second, ms", figure("ack_p99_ms", 1)),
    ("server's core", figure("server_share", 0, 100, " %")),
    ("database", figure("database_share", 0, 100, " %")),
)


def _server_side(name: str) -> Callable[[Result], str]:
    def text(result: Result) -> str:
        shown = [run[name] for run in result.runs if name in run]
        if not shown:
            return MISSING
        middle = shown[len(shown) // 2]
        return " / ".join(MISSING if value is None else f"{value:,.1f}" for value in middle.values())

    return text


LATENCY: tuple[Column, ...] = (
    ("messages/s", figure("rate")),
    ("server's core", figure("server_share", 0, 100, " %")),
    ("ack at the device p50 / p99 / p99.9, ms", _percentiles),
    ("commit p50 / p99 / p99.9, ms", _server_side("server_commit")),
    ("arrival to ack in the server, ms", _server_side("server_ack")),
    ("generator (its core)", _generator),
    ("generator late p99, ms", figure("generator_late_p99_ms", 1)),
)
COLUMNS: dict[str, tuple[Column, ...]] = {
    "fleet": FLEET,
    "fleet-tls": FLEET,
    "batch": BULK,
    "block": BULK,
    "idle": IDLE,
    "catch-up": CATCH_UP,
    "latency": LATENCY,
    "growth": FLEET,
}


def markdown(report: dict[str, Any]) -> str:
    """Everything between the README's markers."""
    found = results(report)
    parts = [_machine(report), "![The figures as bars and lines](results/suite.png)", _ratios(ratios(found))]
    for case in SUITE:
        own = [result for result in found if result.case == case.name]
        if own:
            parts += [f"### {case.title}", _table(own, COLUMNS[case.name], several=len(case.loads) > 1), *_remarks(own)]
    return "\n\n".join(parts)


def _machine(report: dict[str, Any]) -> str:
    machine, versions = report["machine"], report["machine"]["versions"]
    pinned = machine["pinned"]
    kind = "virtual machine" if machine["virtual"] else "machine"
    trial = [] if report["full"] else ["**A trial: too small or too short to mean anything.**", ""]
    return "\n".join(
        [
            *trial,
            f"Made by `{report['command']}` on {report['started']} in {report.get('took_minutes', MISSING)} minutes.",
            "",
            f"- {machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, a {kind}; "
            f"{machine['system']}, Linux {machine['kernel']}; load before the start {machine['load_before']}",
            f"- server on core {pinned['server']}, generator on core {pinned['generator']}, database on core "
            f"{pinned['database']}; appending 4 KiB and fdatasync takes {machine['fdatasync_ms']} ms",
            f"- Python {machine['python']}, "
            + ", ".join(f"{name} {value}" for name, value in versions.items() if value),
        ]
    )


def _ratios(made: Sequence[Ratio]) -> str:
    rows = ["| ratio | at most | measured | |", "|---|---|---|---|"]
    verdicts = {True: "holds", False: "**missed**", None: "not measured"}
    for ratio in made:
        value = MISSING if ratio.value is None else f"{ratio.value:.2f}"
        rows.append(f"| {ratio.title} | {ratio.limit:.2f} | {value} | {verdicts[ratio.holds]} |")
    return "\n".join(rows)


def _table(own: Sequence[Result], columns: Sequence[Column], *, several: bool) -> str:
    shown: list[Column] = [("server", _server), *columns]
    if several:
        shown.insert(0, ("devices", lambda result: f"{result.connections:,}"))
    rows = ["| " + " | ".join(title for title, _ in shown) + " |", "|---" * len(shown) + "|"]
    rows += ["| " + " | ".join(text(result) for _, text in shown) + " |" for result in own]
    return "\n".join(rows)


def _remarks(own: Sequence[Result]) -> list[str]:
    """What a reader must know before believing a row."""
    remarks = []
    for result in own:
        label, of = KINDS[result.server].label, len(result.runs) + len(result.errors)
        remarks += [f"- {label}: a run failed: {error.splitlines()[0]}" for error in sorted(set(result.errors))]
        for name, text in FLAWS.items():
            flawed = sum(bool(run.get(name)) for run in result.runs)
            if flawed:
                remarks.append(f"- {label}, {result.load}: {text} (in {flawed} of {of} runs)")
    return ["\n".join(remarks)] if remarks else []


FLAWS = {
    "generator_limited": "the generator was busy all the time, so the throughput may be its own",
    "generator_late": "the generator was late for its schedule",
    "server_not_full": "its core was not full, so its throughput was limited by the other core, not by the server",
    "undrained": "the backlog was not drained in time",
    "held": "it could not keep up: turns of the schedule were missed because it was not reading",
    "throttles": "it told devices to wait and send again (`throttle`)",
    "failures": "connections were lost",
    "unexpected": "it said something that a healthy session does not say",
}
