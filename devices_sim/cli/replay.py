"""``devices-sim replay``: a recorded data set."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from devices_sim.cli.execution import carry_out, conclude
from devices_sim.cli.options import FILE, connection_options, read_tokens, tls_context
from devices_sim.replay import Recording
from devices_sim.run import Plan
from devices_sim.table import Columns, TableError, read_table

if TYPE_CHECKING:
    from pathlib import Path


def speed_factor(_context: click.Context, _parameter: click.Parameter, value: str) -> float | None:
    """Callback of ``--speed``: a factor, or None for as fast as possible."""
    if value == "max":
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)x", value)
    if found is None or float(found[1]) == 0:
        raise click.BadParameter(f"not a speed such as 10x or max: {value}")
    return float(found[1])


@click.command(
    epilog="""\b
Examples:
  devices-sim replay weather.csv --device station-7
  devices-sim replay power.csv --device plant --device-column source --time-column year
  devices-sim replay stocks.csv --device nyse --tag-column symbol --time-format '%b %d %Y'
"""
)
@click.argument("file", type=FILE)
@click.option("--device", required=True, help="Id of the device, or with --device-column the start of each id.")
@click.option("--token", help="Token of the device. For several devices, use --tokens.")
@click.option("--tokens", type=FILE, help="File with lines `device,token`.")
@click.option(
    "--speed",
    callback=speed_factor,
    default="max",
    show_default=True,
    help="A multiple of the recorded pace, such as 10x, or max for as fast as possible.",
)
@click.option("--time-column", help="Column with the time. [default: found by name or content]")
@click.option("--time-format", help="Format of the time (strptime), if it is not ISO 8601, Y/M/D or an epoch number.")
@click.option("--tag-column", "tag_columns", multiple=True, help="Column that becomes a tag; can be repeated.")
@click.option("--device-column", help="Column that names the device of each row.")
@click.option("--measurement", help="Measurement of the readings. [default: as in the device's profile]")
@click.option("--batch", type=click.IntRange(1, 5000), default=500, show_default=True, help="Most rows in one message.")
@connection_options
def replay(  # noqa: PLR0913 - an option each
    *,
    file: Path,
    device: str,
    token: str | None,
    tokens: Path | None,
    speed: float | None,
    time_column: str | None,
    time_format: str | None,
    tag_columns: tuple[str, ...],
    device_column: str | None,
    measurement: str | None,
    batch: int,
    url: str,
    ca: Path | None,
    ack: str,
    grace: float,
    report: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Send the rows of a CSV file as readings. The header names the fields, and one column is the time.

    Columns of numbers and of true/false are sent as numbers and booleans, all others as text. A time without a zone is
    UTC.
    """
    by_id = read_tokens(tokens) if tokens else {}
    columns = Columns(time_column, time_format, tag_columns, device_column)
    try:
        rows = read_table(file, columns)
        recording = Recording(rows, device, lambda name: by_id.get(name, token), speed, measurement, batch, ack)
        devices = len(recording.by_device())
    except (TableError, UnicodeDecodeError) as error:
        raise click.UsageError(str(error)) from error
    plan = Plan(url, None, grace, tls_context(ca))
    outcome = carry_out(plan, recording.build, devices, quiet=quiet)
    run = {"command": "replay", "url": url, "ack": ack, "file": str(file), "rows": len(rows)}
    conclude(outcome, run, report, as_json=as_json)
