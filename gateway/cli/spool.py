"""``gateway spool``: the readings that wait for the database. It only reads; the gateway may run meanwhile."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.options import json_option, with_config
from gateway.cli.output import moment, number, print_json, print_json_line, print_table, printable, span
from gateway.config.units import format_size
from gateway.ledger import NO_SEQ
from gateway.line_protocol import split_lines
from gateway.spool import inspection
from gateway.spool.files import Files
from gateway.spool.log_reader import discover
from gateway.time_units import NS_PER_S

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.config import Config
    from gateway.ledger import Entry
    from gateway.spool.inspection import SegmentReport
    from gateway.spool.record import Record

RATE_SECONDS = 300
"""The present rate is the rate of arrival in the last so many seconds, as far as they are still in the spool."""


@click.group()
def spool() -> None:
    """Show the readings that wait for the database, and check the spool's files.

    \b
    Example:  gateway spool status
    """


def _exists(directory: Path) -> bool:
    if not directory.is_dir():
        click.echo(f"there is no spool yet: no directory {directory}", err=True)
        return False
    return True


@dataclass(slots=True)
class _Sums:
    """Sums over records."""

    readings: int = 0
    bytes: int = 0
    oldest_ns: int | None = None
    """When the oldest record was committed, in ns since 1970; None without records."""

    def add(self, record: Record) -> None:
        self.readings += record.readings
        self.bytes += record.size
        self.oldest_ns = record.committed_ns if self.oldest_ns is None else min(self.oldest_ns, record.committed_ns)

    def per_second(self, now_ns: int) -> tuple[float, float]:
        """Readings and bytes a second since the oldest of them."""
        seconds = max(1.0, (now_ns - (self.oldest_ns or now_ns)) / 1e9)
        return self.readings / seconds, self.bytes / seconds


@spool.command()
@json_option
@with_config
def status(config: Config, *, as_json: bool) -> None:
    """Show how many readings and bytes wait, and how long this takes at the present rate.

    \b
    Example:  gateway spool status
    """
    described = _status(config, time.time_ns())
    if as_json:
        print_json(described)
        return
    waits = f"{number(described['readings_waiting'])} readings, {number(described['bytes_waiting'])} bytes"
    rate = f"{described['readings_per_second']:.1f} readings/s, {number(described['bytes_per_second'])} bytes/s"
    rows: list[tuple[str, object]] = [
        ("waiting", waits),
        ("oldest", described["oldest"]),
        ("takes at this rate", span(described["minutes_waiting"])),
        ("present rate", rate),
        ("full at this rate in", span(described["minutes_until_full"])),
        ("cap", format_size(described["max_bytes"])),
        ("on disk", f"{number(described['bytes_on_disk'])} bytes in {described['segments']} segments"),
        ("directory", described["directory"]),
    ]
    print_table(("what", "value"), rows)


def _status(config: Config, now_ns: int) -> dict[str, Any]:
    directory = config.spool.directory
    waiting, recent = _Sums(), _Sums()
    segments = discover(Files(), directory) if _exists(directory) else []
    if segments:
        delivered = inspection.cursor_position(directory)
        # From the last segment's beginning even when all of it was delivered: the present rate is in there.
        for record in inspection.records(directory, min(delivered, segments[-1].first_id - 1)):
            if record.id > delivered:
                waiting.add(record)
            if record.committed_ns >= now_ns - RATE_SECONDS * NS_PER_S:
                recent.add(record)
    readings_rate, bytes_rate = recent.per_second(now_ns)
    return {
        "directory": str(directory),
        "readings_waiting": waiting.readings,
        "bytes_waiting": waiting.bytes,
        "oldest": moment(waiting.oldest_ns),
        "minutes_waiting": _minutes(waiting.readings, readings_rate),
        "readings_per_second": round(readings_rate, 3),
        "bytes_per_second": round(bytes_rate, 3),
        "minutes_until_full": _minutes(max(0, config.spool.max_bytes - waiting.bytes), bytes_rate),
        "max_bytes": config.spool.max_bytes,
        "bytes_on_disk": sum(segment.size for segment in segments),
        "segments": len(segments),
    }


def _minutes(amount: float, per_second: float) -> float | None:
    """How long ``amount`` takes; None without a rate."""
    return round(amount / per_second / 60, 2) if per_second else None


@spool.command()
@json_option
@with_config
@click.pass_context
def verify(ctx: click.Context, config: Config, *, as_json: bool) -> None:
    """Read and check every record. Exits with 1 if something is damaged, and says where.

    \b
    Example:  gateway spool verify
    """
    directory = config.spool.directory
    reports = list(inspection.verify(directory)) if _exists(directory) else []
    damages = [damage for report in reports for damage in report.damage]
    if as_json:
        print_json([_checked(report) for report in reports])
    else:
        if damages:
            print_table(("file", "byte", "length", "what"), [(d.path, d.offset, d.length, d.reason) for d in damages])
        unfinished = sum(report.unfinished for report in reports)
        tail = f", {unfinished} bytes at the end are unfinished" if unfinished else ""
        click.echo(
            f"{number(sum(report.records for report in reports))} records with "
            f"{number(sum(report.readings for report in reports))} readings in {len(reports)} segments are good, "
            f"{len(damages)} places are damaged{tail}"
        )
    ctx.exit(1 if damages else 0)


def _checked(report: SegmentReport) -> dict[str, Any]:
    return {
        "path": str(report.path),
        "bytes": report.size,
        "records": report.records,
        "readings": report.readings,
        "unfinished_bytes": report.unfinished,
        "damage": [{"offset": d.offset, "length": d.length, "reason": d.reason} for d in report.damage],
    }


@spool.command()
@click.option("--device", metavar="ID", help="Only points of this device.")
@click.option("--all", "everything", is_flag=True, help="Also points that were delivered and are still kept.")
@json_option
@with_config
def dump(config: Config, device: str | None, *, everything: bool, as_json: bool) -> None:
    """Print the waiting points as line protocol; with --json one object for each message, with its counts.

    \b
    Example:  gateway spool dump --device kiln-7 | head
    """
    directory = config.spool.directory
    if not _exists(directory):
        return
    delivered = inspection.cursor_position(directory)
    for record in inspection.records(directory, 0 if everything else delivered):
        for entry in record.entries:
            if device is not None and entry.device != device:
                continue
            if as_json:
                print_json_line(_described(record, entry, delivered=record.id <= delivered))
            else:
                _print_points(entry)


def _print_points(entry: Entry) -> None:
    if not sys.stdout.isatty():
        click.echo(entry.payload, nl=False)
        return
    for line in _points(entry):
        click.echo(printable(line))


def _points(entry: Entry) -> list[str]:
    lines = split_lines(entry.payload, entry.lines)
    return [line.decode(errors="replace").removesuffix("\n") for line in lines]


def _described(record: Record, entry: Entry, *, delivered: bool) -> dict[str, Any]:
    return {
        "record": record.id,
        "committed": moment(record.committed_ns),
        "delivered": delivered,
        "kind": entry.kind.name.lower(),
        "device": entry.device,
        "boot": entry.boot,
        "seq": None if entry.seq == NO_SEQ else entry.seq,
        "lines": entry.lines,
        "duplicate": entry.duplicate,
        "rejected": entry.rejected,
        "gaps": entry.gaps,
        "verdicts": entry.verdicts.decode(errors="replace"),
        "points": _points(entry),
    }
