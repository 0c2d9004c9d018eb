"""``gateway devices``: who may connect."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.options import json_option, with_config
from gateway.cli.output import moment, print_json, print_table
from gateway.config import DEFAULT_PROFILE
from gateway.errors import RegistryError
from gateway.registry import Registry, check_profile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gateway.config import Config
    from gateway.registry import Device


@click.group()
def devices() -> None:
    """Register devices and end their access. A gateway that runs sees a change within a second.

    \b
    Example:  gateway devices add kiln-7 --tag site=north
    """


def _path(config: Config) -> Path:
    return config.state.directory / "registry.db"


@contextlib.contextmanager
def _registry(config: Config, *, create: bool = False) -> Iterator[Registry]:
    path = _path(config)
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
    elif not path.exists():
        raise RegistryError(f"no device is registered yet: there is no {path}")
    registry = Registry(path)
    try:
        yield registry
    finally:
        registry.close()


def _tags(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    tags = dict(value.partition("=")[::2] for value in values)
    if len(tags) < len(values) or not all("=" in value for value in values):
        raise click.BadParameter("expected NAME=VALUE, each name once, such as --tag site=north")
    return tags


def _print_token(device: str, token: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"id": device, "token": token})
    else:
        click.echo(token)


@devices.command()
@click.argument("device", metavar="ID")
@click.option("--profile", default=DEFAULT_PROFILE, show_default=True, help="A profile of the configuration.")
@click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", callback=_tags, help="Written on every reading.")
@json_option
@with_config
def add(config: Config, device: str, profile: str, tags: dict[str, str], *, as_json: bool) -> None:
    """Register a device and print its token, which cannot be shown again.

    \b
    Example:  gateway devices add kiln-7 --profile kiln --tag site=north
    """
    check_profile(profile, config.profiles)
    with _registry(config, create=True) as registry:
        _print_token(device, registry.add(device, profile, tags), as_json=as_json)


@devices.command(name="list")
@json_option
@with_config
def list_devices(config: Config, *, as_json: bool) -> None:
    """List the devices that are or were registered.

    \b
    Example:  gateway devices list --json | jq -r '.[].id'
    """
    found: list[Device] = []
    if _path(config).exists():
        with _registry(config) as registry:
            found = registry.list()
    if as_json:
        print_json([_described(device) for device in found])
    else:
        print_table(("id", "profile", "tags", "state", "registered"), [_row(device) for device in found])


@devices.command()
@click.argument("device", metavar="ID")
@json_option
@with_config
def show(config: Config, device: str, *, as_json: bool) -> None:
    """Show one device.

    \b
    Example:  gateway devices show kiln-7
    """
    with _registry(config) as registry:
        described = _described(registry.show(device))
    if as_json:
        print_json(described)
    else:
        tags = described.pop("tags")
        print_table(("what", "value"), [*described.items(), *((f"tag {name}", tags[name]) for name in tags)])


@devices.command()
@click.argument("device", metavar="ID")
@json_option
@with_config
def rotate(config: Config, device: str, *, as_json: bool) -> None:
    """Give a device a new token and print it; the old one ends, also that of a revoked device.

    \b
    Example:  gateway devices rotate kiln-7
    """
    with _registry(config) as registry:
        _print_token(device, registry.rotate(device), as_json=as_json)


@devices.command()
@click.argument("device", metavar="ID")
@json_option
@with_config
def revoke(config: Config, device: str, *, as_json: bool) -> None:
    """End a device's access; it is disconnected. Its profile and tags are kept: rotate lets it in again.

    \b
    Example:  gateway devices revoke kiln-7
    """
    with _registry(config) as registry:
        registry.revoke(device)
        if as_json:
            print_json(_described(registry.show(device)))
        else:
            click.echo(f"{device} is revoked", err=True)


def _described(device: Device) -> dict[str, Any]:
    return {
        "id": device.id,
        "profile": device.profile,
        "tags": dict(device.tags),
        "state": _state(device),
        "registered": moment(device.created_ns),
        "token_changed": moment(device.changed_ns),
    }


def _row(device: Device) -> tuple[object, ...]:
    tags = " ".join(f"{name}={value}" for name, value in device.tags.items())
    return device.id, device.profile, tags or None, _state(device), moment(device.created_ns)


def _state(device: Device) -> str:
    return "revoked" if device.revoked else "active"
