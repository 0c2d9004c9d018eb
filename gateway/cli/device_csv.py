"""``gateway devices import`` and ``export``: many devices as CSV."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from gateway.cli.options import with_config
from gateway.cli.output import moment
from gateway.cli.registry import open_registry, registry_path, show_or_undo
from gateway.state.device_csv import DeviceTable, write_devices, write_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gateway.config import Config
    from gateway.state.registered_device import Device

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(name="import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--output", type=FILE, help="Write the new tokens into this new file, which only its owner may read.")
@with_config
def import_devices(config: Config, file: Path, output: Path | None) -> None:
    """Register the devices of a CSV file, all or none. Print the new tokens as CSV; they cannot be shown again.

    \b
    The first line names the columns: id and, as needed, profile, token (of a device that
    has one already: 32 random characters or more), state (active or revoked), tag:NAME.
    Example:  gateway devices import fleet.csv --output tokens.csv
    """
    made: list[tuple[str, str]] = []
    written: list[Path] = []
    with open_registry(config, create=True) as registry:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            table = DeviceTable(lines, config.profiles, registry.devices.ids())
        if table.problems:
            for problem in table.problems:
                click.echo(f"{file}, {problem}", err=True)
            click.echo("nothing was imported", err=True)
            sys.exit(1)

        def keep(tokens: Sequence[tuple[str, str]]) -> None:
            made.extend(tokens)
            if output is None:
                # Before the commit: if the tokens cannot be shown, no device is registered.
                with show_or_undo():
                    write_table(sys.stdout, ("id", "token"), tokens)
                    sys.stdout.flush()
            else:
                with _for_its_owner(output) as target:
                    written.append(output)
                    write_table(target, ("id", "token"), tokens)

        try:
            registry.add_all(table.devices, keep)
        except BaseException:
            for path in written:
                path.unlink(missing_ok=True)
            raise
    click.echo(f"{len(table.devices)} devices are registered, {len(made)} of them with a new token", err=True)


@click.command(name="export")
@click.option("--output", type=FILE, help="Write into this new file.")
@with_config
def export_devices(config: Config, output: Path | None) -> None:
    """Print all devices as CSV, which import reads. It has no tokens.

    \b
    Example:  gateway devices export > fleet.csv
    """
    devices: list[Device] = []
    if registry_path(config).exists():
        with open_registry(config) as registry:
            devices = registry.devices.list()
    described = (_cells(device) for device in devices)
    with contextlib.nullcontext(sys.stdout) if output is None else _for_its_owner(output) as target:
        write_devices(target, devices, described)


def _cells(device: Device) -> tuple[str, ...]:
    state = "revoked" if device.revoked else "active"
    return device.id, device.profile, state, moment(device.created_ns) or "", moment(device.changed_ns) or ""


@contextlib.contextmanager
def _for_its_owner(path: Path) -> Iterator[IO[str]]:
    """A new file that only its owner may read, durable at the end.

    Raises:
        FileExistsError: it exists already.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
