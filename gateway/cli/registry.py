"""The registry and the option ``--tag``, for the commands below ``gateway devices``."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from gateway.errors import RegistryError
from gateway.state.file_names import REGISTRY
from gateway.state.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gateway.config import Config


def registry_path(config: Config) -> Path:
    """The path of the registry's file, whether it exists or not."""
    return config.state.directory / REGISTRY


@contextlib.contextmanager
def open_registry(config: Config, *, create: bool = False) -> Iterator[Registry]:
    """The registry.

    Raises:
        RegistryError: there is none, and ``create`` is false.
    """
    path = registry_path(config)
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
    elif not path.exists():
        raise RegistryError(f"no device is registered yet: there is no {path}")
    registry = Registry(path)
    try:
        yield registry
    finally:
        registry.close()


@contextlib.contextmanager
def show_or_undo() -> Iterator[None]:
    """For printing new tokens before their change is committed.

    Raises:
        RegistryError: they cannot be printed, also because of a broken pipe; this rolls the change back.
    """
    try:
        yield
    except OSError as error:
        raise RegistryError(f"a new token cannot be shown ({error.strerror}); nothing was changed") from error


def parse_tags(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """The tags of ``--tag`` options."""
    tags = dict(value.partition("=")[::2] for value in values)
    if len(tags) < len(values) or not all("=" in value for value in values):
        raise click.BadParameter("expected NAME=VALUE, each name once, such as --tag site=north")
    return tags
