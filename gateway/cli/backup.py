"""``gateway backup`` and ``gateway restore``: copy a running gateway, and continue from the copy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.options import json_option, with_config
from gateway.cli.output import moment, print_json
from gateway.state import backup as copies

if TYPE_CHECKING:
    from gateway.config import Config

directory = click.argument("target", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))


@click.command()
@directory
@click.option("--without-database", is_flag=True, help="Leave out the embedded database, which may be large.")
@json_option
@with_config
def backup(config: Config, target: Path, *, without_database: bool, as_json: bool) -> None:
    """Copy spool, state and the embedded database into an empty directory, while the gateway runs.

    The backup has every reading that was acknowledged before the command began. It is complete when backup.json exists.

    \b
    Example:  gateway backup /mnt/backup/$(date +%F)
    """
    copied = copies.backup(config, target, database=not without_database)
    _show(copied, f"copied to {target}", as_json=as_json)


@click.command()
@directory
@json_option
@with_config
def restore(config: Config, target: Path, *, as_json: bool) -> None:
    """Restore a backup into empty directories, on this or another machine. Then start the gateway.

    To move a gateway without losing a reading: stop it, make the backup, restore it, start. A backup does not have the
    readings that were acknowledged after it began.

    \b
    Example:  gateway restore /mnt/backup/2026-03-01 && gateway run
    """
    _show(copies.restore(config, target), "restored", as_json=as_json)


def _show(copied: copies.BackupManifest, done: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"made": moment(copied.made_ns), "bytes": copied.bytes, "files": copied.files})
    else:
        made = moment(copied.made_ns)
        click.echo(f"{done}: {len(copied.files)} files, {copied.bytes} bytes, as of {made}", err=True)
