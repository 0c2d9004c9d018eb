"""``devices-sim verify``: whether the database has every acknowledged reading."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
import orjson
from rich.console import Console
from rich.table import Table

from devices_sim.cli.options import FILE, duration
from devices_sim.report import Report, ReportError
from devices_sim.stores import Store, StoreError, open_store
from devices_sim.verify import Verdict
from devices_sim.verify import verify as compare

if TYPE_CHECKING:
    from pathlib import Path

    from devices_sim.report import DeviceReport


@click.command(
    epilog="""\b
Examples:
  devices-sim verify --report run.json --database sqlite:data/telemetry.db
  devices-sim verify --report run.json --database http://127.0.0.1:8086 --db telemetry
  devices-sim verify --report run.json --database victoria-metrics:http://127.0.0.1:8428
"""
)
@click.option("--report", type=FILE, required=True, help="Report that `run` or `replay` wrote.")
@click.option(
    "--database", required=True, help="sqlite:PATH, the URL of an InfluxDB (with --db), or victoria-metrics:URL."
)
@click.option("--db", help="Database of InfluxDB, or the bucket mapped to one.")
@click.option("--user", help="User of InfluxDB 1.")
@click.option("--password", envvar="DEVICES_SIM_PASSWORD", help="Password of InfluxDB 1; or DEVICES_SIM_PASSWORD.")
@click.option("--token", envvar="DEVICES_SIM_TOKEN", help="Token of InfluxDB 2 or 3; or DEVICES_SIM_TOKEN.")
@click.option(
    "--wait",
    callback=duration,
    metavar="DURATION",
    default="10s",
    show_default=True,
    help="How long to look again while readings are missing.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
def verify(
    *,
    report: Path,
    database: str,
    db: str | None,
    user: str | None,
    password: str | None,
    token: str | None,
    wait: float,
    as_json: bool,
) -> None:
    """Check that the database has every reading that the gateway acknowledged.

    The exit code is 1 if a reading is missing, has another value, or is there twice.
    """
    try:
        store = open_store(database, db=db, user=user, password=password, token=token)
        devices = Report.read(report).devices
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--database") from error
    except ReportError as error:
        raise click.BadParameter(str(error), param_hint="--report") from error
    try:
        verdict = _verdict_with_retries(devices, store, wait)
    except StoreError as error:
        raise click.ClickException(str(error)) from error
    _show(verdict, as_json=as_json)
    sys.exit(0 if verdict.good else 1)


def _verdict_with_retries(devices: list[DeviceReport], store: Store, wait: float) -> Verdict:
    """The verdict, after new attempts while readings are missing or the database cannot be read, ``wait`` s at most."""
    deadline, told = time.monotonic() + wait, False
    while True:
        late = time.monotonic() >= deadline
        try:
            verdict = compare(devices, store)
        except StoreError as error:
            if late:
                raise
            if not told:
                click.echo(f"{error}; trying again for {wait:.0f} s", err=True)
            told = True
        else:
            if late or not verdict.missing:
                return verdict
        time.sleep(min(0.2, wait))


def _show(verdict: Verdict, *, as_json: bool) -> None:
    if as_json:
        click.echo(orjson.dumps(asdict(verdict), option=orjson.OPT_INDENT_2))
        return
    console = Console(highlight=False)
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name in ("acked", "stored", "missing", "wrong", "doubled"):
        table.add_row(name, str(getattr(verdict, name)))
    console.print(table)
    if verdict.values_skipped:
        console.print(f"{verdict.values_skipped} values were not checked: this database does not keep their type")
    for text in verdict.examples:
        console.print(text, style="red", markup=False, soft_wrap=True)
