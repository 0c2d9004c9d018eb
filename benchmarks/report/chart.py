"""The results as one picture of six panels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.harness.servers import KINDS
from benchmarks.report.medians import Result, results

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

COLORS = {
    "gateway": "#d1495b",
    "picows": "#8d99ae",
    "picows-acks": "#6c757d",
    "tornado": "#edae49",
    "tutorial": "#30638e",
    "node": "#66a182",
    "node-red": "#7b4b94",
}
INK = "#2b2d42"


def draw(report: dict[str, Any], path: Path) -> None:
    """Write a PNG; a panel without results says so."""
    found = results(report)
    with mpl.rc_context({"font.size": 9, "axes.edgecolor": "#c5c8d4", "text.color": INK, "axes.labelcolor": INK}):
        figure = Figure(figsize=(13, 8), layout="constrained")
        axes = figure.subplots(2, 3)
        _bars(axes[0, 0], _of(found, "fleet"), "cpu_us_per_message", "Fleet: CPU per message, µs")
        _bars(axes[0, 1], _of(found, "batch"), "cpu_us_per_reading", "Batch of 50: CPU per reading, µs")
        _bars(axes[0, 2], _of(found, "idle"), "bytes_per_connection", "Idle: memory per device, KiB", 1 / 1024)
        _growth(axes[1, 0], _of(found, "growth"))
        _latency(axes[1, 1], found)
        _catch_up(axes[1, 2], _of(found, "catch-up"))
        machine = report["machine"]
        figure.suptitle(f"{machine['processor']}, one core for the server · {report['started']}", fontsize=10)
        figure.savefig(path, dpi=120)


def _of(found: Sequence[Result], case: str) -> list[Result]:
    return [result for result in found if result.case == case and result.runs]


def _titled(axes: Axes, title: str, *, empty: bool) -> None:
    axes.set_title(title, loc="left", fontweight="bold", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    if empty:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axes.transAxes, color="#8d99ae")


def _bars(axes: Axes, own: Sequence[Result], name: str, title: str, scale: float = 1.0) -> None:
    pairs = [(result.server, value * scale) for result in own if (value := result.median(name)) is not None]
    pairs.sort(key=lambda pair: pair[1])
    _titled(axes, title, empty=not pairs)
    if not pairs:
        return
    labels = [KINDS[server].label for server, _ in pairs]
    bars = axes.barh(labels, [value for _, value in pairs], color=[COLORS[server] for server, _ in pairs])
    axes.bar_label(bars, [f"{value:.3g}" for _, value in pairs], padding=3)
    axes.set_xlim(0, max(value for _, value in pairs) * 1.15)
    axes.invert_yaxis()


def _growth(axes: Axes, own: Sequence[Result]) -> None:
    _titled(axes, "Growth: CPU per message, µs, by devices", empty=not own)
    for server in dict.fromkeys(result.server for result in own):
        points = [(r.connections, r.median("cpu_us_per_message")) for r in own if r.server == server]
        axes.plot(*zip(*points, strict=True), marker="o", color=COLORS[server], label=KINDS[server].label)
    if own:
        axes.set_xscale("log")
        axes.set_ylim(0, 1.35 * axes.get_ylim()[1])  # room for the legend
        sizes = sorted({result.connections for result in own})
        axes.set_xticks(sizes, [f"{size / 1000:g}k" if size >= 1000 else f"{size}" for size in sizes])
        axes.minorticks_off()
        axes.legend(frameon=False, loc="upper left")


def _latency(axes: Axes, found: Sequence[Result]) -> None:
    shown = [
        (label, [result.median(f"ack_{name}_ms") or 0.0 for name in ("p50", "p99", "p99.9")])
        for case, label in (("latency", "half load"), ("fleet", "fleet"))
        for result in _of(found, case)
        if result.server == "gateway"
    ]
    _titled(axes, "Ack latency at the device, ms", empty=not shown)
    for i, (label, values) in enumerate(shown):
        bars = axes.bar([x + i * 0.4 for x in range(3)], values, 0.38, label=label, color=("#d1495b", "#e8a0a9")[i])
        axes.bar_label(bars, [f"{value:.1f}" for value in values], padding=2)
    if shown:
        axes.set_xticks([x + 0.2 * (len(shown) - 1) for x in range(3)], ["p50", "p99", "p99.9"])
        axes.legend(frameon=False)


def _catch_up(axes: Axes, own: Sequence[Result]) -> None:
    series = own[0].runs[0]["series"] if own else []
    _titled(axes, "Catch-up after an outage", empty=not series)
    if not series:
        return
    seconds = [sample["seconds"] for sample in series]
    axes.fill_between(seconds, [sample["readings_per_second"] for sample in series], color="#30638e", alpha=0.3)
    axes.set(xlabel="seconds since the database is back", ylabel="readings/s stored (area)", ylim=(0, None))
    right = axes.twinx()
    right.plot(seconds, [sample["p99"] or 0.0 for sample in series], color="#d1495b", linestyle="--")
    right.set(ylabel="ack p99 of live traffic, ms (dashed)", ylim=(0, None))
    right.spines["top"].set_visible(False)
