"""Tables for people, JSON for scripts.

Rules that hold here:

* Text of devices or databases is printed with its control characters escaped, so that it cannot control the terminal.
* A table in a file or a pipe is not cut to a width.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.time_units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_UNLIMITED = 1_000_000


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under headings; None is shown as ``-``."""
    table = Table(*(column.upper() for column in columns), box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text("-" if cell is None else printable(str(cell)), overflow="fold") for cell in row))
    Console(width=None if sys.stdout.isatty() else _UNLIMITED, highlight=False).print(table)


def print_json(value: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_json_line(value: Any) -> None:
    """Print one JSON document on one line, for outputs of any length."""
    click.echo(json.dumps(value, separators=(",", ":"), ensure_ascii=False))


def printable(text: str) -> str:
    """``text`` with everything that is not printable escaped."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def moment(ns: int | None) -> str | None:
    """``ns`` since 1970 as UTC, to the second."""
    if ns is None:
        return None
    return datetime.fromtimestamp(ns // NS_PER_S, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def number(value: float) -> str:
    """A whole number with a space between thousands."""
    return f"{value:,.0f}".replace(",", " ")


def span(minutes: float | None) -> str | None:
    """``minutes`` for people, in the unit that makes it a short number."""
    if minutes is None:
        return None
    if minutes < 120:
        return f"{minutes:.1f} minutes"
    return f"{minutes / 60:.1f} hours" if minutes < 48 * 60 else f"{number(minutes / 1440)} days"
