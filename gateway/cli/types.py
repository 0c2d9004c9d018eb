"""``gateway types``: the types of fields that the gateway has learned, and how to delete one."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from gateway.cli.options import json_option, with_config
from gateway.cli.output import moment, print_json, print_table
from gateway.errors import GatewayError
from gateway.protocol.field_types import declared_by
from gateway.state.field_types import FieldTypeStore
from gateway.state.file_names import FIELD_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.config import Config


@click.group()
def types() -> None:
    """List the type of each field, and delete a learned one. A running gateway applies a change within a second.

    \b
    Example:  gateway types list
    """


@contextlib.contextmanager
def _store(config: Config) -> Iterator[FieldTypeStore | None]:
    """The store; None if no type was ever learned, so that a look creates no file."""
    path = config.state.directory / FIELD_TYPES
    if not path.exists():
        yield None
        return
    with contextlib.closing(FieldTypeStore(path)) as store:
        yield store


@types.command(name="list")
@click.option("--measurement", metavar="M", help="Only the fields of this measurement.")
@json_option
@with_config
def list_types(config: Config, measurement: str | None, *, as_json: bool) -> None:
    """List the types that fields must have: declared by a profile, or learned from the first reading.

    \b
    Example:  gateway types list --measurement kiln
    """
    with _store(config) as store:
        learned = store.list(measurement) if store else []
    known: dict[tuple[str, str], tuple[str, str | None]] = {
        (name, field): (found, moment(learned_ns)) for name, field, found, learned_ns in learned
    }
    declared = declared_by(config.profiles.values())
    known |= {key: (found, None) for key, found in declared.items() if measurement in {None, key[0]}}
    rows = [(name, field, *known[name, field]) for name, field in sorted(known)]
    if as_json:
        names = ("measurement", "field", "type", "learned")
        print_json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        print_table(
            ("measurement", "field", "type", "known from"),
            [(*row[:3], f"a reading, {row[3]}" if row[3] else "a profile") for row in rows],
        )


@types.command()
@click.argument("measurement")
@click.argument("field")
@json_option
@with_config
def forget(config: Config, measurement: str, field: str, *, as_json: bool) -> None:
    """Delete a learned type: the next reading decides it again. For use after a change in the database.

    \b
    Example:  gateway types forget kiln state
    """
    if (measurement, field) in declared_by(config.profiles.values()):
        raise GatewayError(f"the type of {field} in {measurement} is declared by a profile: change it there")
    with _store(config) as store:
        if store is None or not store.forget(measurement, field):
            raise GatewayError(f"no type of {field} in {measurement} has been learned")
    if as_json:
        print_json({"measurement": measurement, "field": field})
    else:
        click.echo(f"the learned type of {field} in {measurement} was deleted", err=True)
