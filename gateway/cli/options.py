"""The options of most commands: ``--config`` and ``--json``."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gateway.config import find
from gateway.config.loader import INSTALLED_CONFIG, LoadedConfig, read

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")

config_path_option = click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"Configuration file; by default ./config.yaml or, if there is none, {INSTALLED_CONFIG}.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def configuration(
    path: Path | None, *, serving: bool = False, writing: bool = False
) -> tuple[Path | None, LoadedConfig]:
    """The path of the configuration file and its contents; without a file, None and the defaults, with a notice.

    ``serving`` and ``writing`` are as for `read`.

    Raises:
        ConfigError: with every problem.
    """
    path = path or find()
    if path is None:
        click.echo(f"neither ./config.yaml nor {INSTALLED_CONFIG} exists: using the defaults", err=True)
    return path, read(path, os.environ, serving=serving, writing=writing)


def with_config(command: F, *, writing: bool = False) -> Callable[..., Any]:
    """Give a command ``--config``, and the configuration as its first argument; ``writing`` as for `read`."""

    @config_path_option
    @functools.wraps(command)
    def wrapped(*args: Any, path: Path | None, **options: Any) -> Any:
        _, loaded = configuration(path, writing=writing)
        return command(loaded.config, *args, **options)

    return wrapped
