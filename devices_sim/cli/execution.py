"""What the commands `run` and `replay` share: event loop, progress, summary, report and exit code."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import click
import orjson
from rich.console import Console

from devices_sim.display import Progress, show_summary
from devices_sim.report import Report
from devices_sim.run import Outcome, Plan, Source, conduct

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from devices_sim.network import Network

_FILES_BESIDE_SOCKETS = 64


def carry_out(plan: Plan, build: Callable[[Network, str], Sequence[Source]], devices: int, *, quiet: bool) -> Outcome:
    """Conduct a run, on uvloop where it is installed."""
    _allow_sockets(devices)
    with Progress(devices, quiet=quiet) as progress:
        return _runner()(conduct(plan, build, progress))


def conclude(outcome: Outcome, run: dict[str, Any], report: Path | None, *, as_json: bool) -> None:
    """Write the report, print the summary, and end the command."""
    if report is not None:
        Report({**run, "boot": outcome.boot}, outcome.summary, outcome.devices).write(report)
    if as_json:
        click.echo(orjson.dumps(outcome.summary, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))
    else:
        show_summary(outcome.summary, Console(highlight=False))
    sys.exit(0 if outcome.complete else 1)


def _runner() -> Callable[[Any], Outcome]:
    try:
        import uvloop  # noqa: PLC0415 - not there on Windows
    except ImportError:
        return asyncio.run
    return uvloop.run


def _allow_sockets(devices: int) -> None:
    """Raise the limit of open files for ``devices`` sockets.

    Raises:
        click.ClickException: this process may not open that many.
    """
    try:
        import resource  # noqa: PLC0415 - not there on Windows
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = devices + _FILES_BESIDE_SOCKETS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed:
        raise click.ClickException(f"{devices} devices need {needed} open files, {hard} are allowed: see `ulimit -Hn`")
