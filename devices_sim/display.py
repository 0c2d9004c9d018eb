"""Progress of a run on stderr, and its summary on stdout.

On a terminal, progress is one line that changes. Elsewhere it is a line every few seconds, for a log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from devices_sim.tally import Tally

_PLAIN_EVERY = 5.0
"""Seconds between two lines of progress that is not on a terminal."""
_AWAITING = (
    "devices that no operator approved: {}. While they wait, `gateway devices list --pending` shows them and "
    "`gateway devices approve ID` approves one. --tokens FILE gives devices their tokens; --enrol FILE saves those "
    "that they get"
)


class Progress:
    """A context manager around a run; see `devices_sim.run.Display`."""

    def __init__(self, devices: int, *, quiet: bool = False) -> None:
        self._devices = devices
        self._quiet = quiet
        self._console = Console(stderr=True, highlight=False)
        self._live = (
            Live(console=self._console, auto_refresh=False) if self._console.is_terminal and not quiet else None
        )
        self._before = (0.0, 0)
        """Seconds and acknowledged readings of the last line, for the rate."""

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def progress(self, tally: Tally, elapsed: float, trouble: str) -> None:
        """A second has passed."""
        if self._live is not None:
            self._live.update(Text(self._line(tally, elapsed, trouble)), refresh=True)
        elif not self._quiet and elapsed - self._before[0] >= _PLAIN_EVERY:
            self._console.print(self._line(tally, elapsed, trouble), soft_wrap=True, markup=False)

    def _line(self, tally: Tally, elapsed: float, trouble: str) -> str:
        then, acked = self._before
        self._before = (elapsed, tally.acked)
        rate = (tally.acked - acked) / max(elapsed - then, 1e-9)
        parts = [
            f"{elapsed:6.0f} s",
            f"connected {tally.connected}/{self._devices}",
            f"sent {tally.sent}",
            f"acked {tally.acked} ({rate:.0f}/s)",
            f"refused {tally.refused}",
            f"resent {tally.resent}",
        ]
        if tally.latency.count:
            parts.append(f"ack p50 {_ms(tally.latency.percentile(0.5))} p99 {_ms(tally.latency.percentile(0.99))}")
        if trouble:
            parts.append(trouble)
        return "  ".join(parts)


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms"


def show_summary(summary: dict[str, Any], console: Console) -> None:
    """Print the summary of a run. Numbers count readings, unless their name says otherwise."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in _rows(summary):
        table.add_row(name, value)
    console.print(table)
    for text in (*summary["stopped_because"], *summary["violation_texts"]):
        console.print(text, style="red", markup=False, soft_wrap=True)
    if waiting := summary["awaiting_approval"]:
        console.print(_AWAITING.format(waiting), style="red", markup=False, soft_wrap=True)
    if not summary["connects"]:
        console.print(f"no device ever connected: {summary['last_failure']}", style="red", markup=False, soft_wrap=True)


def _rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    latency, cpu = summary["latency_ms"], summary["cpu_us_per_reading"]
    names = ("sent", "acked", "refused", "outstanding", "resent", "held_back", "never_sent", "oversized", "history")
    rows = [(name.replace("_", " "), str(summary[name])) for name in names if summary[name] or name in names[:5]]
    rows.append(("messages", str(summary["messages"])))
    rows.append(("throttled", _counts(summary["throttled"])))
    rows.append(("reconnects", str(summary["reconnects"])))
    for name in ("connect_failures", "stopped", "duplicates", "violations"):
        rows += [(name.replace("_", " "), str(summary[name]))] * bool(summary[name])
    for name in ("closes", "reject_codes", "error_codes", "ignored"):
        rows += [(name.replace("_", " "), _counts(summary[name]))] * bool(summary[name])
    rows += [(f"send to ack, {name}", "-" if value is None else f"{value:.1f} ms") for name, value in latency.items()]
    rows.append(("largest delay of a sample", f"{summary['lag'] * 1000:.1f} ms"))
    rows.append(("CPU per reading, simulator", f"{cpu['simulator']:.1f} us"))
    rows.append(("CPU per reading, gateway", "not available" if cpu["gateway"] is None else f"{cpu['gateway']:.1f} us"))
    return rows


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "0"
