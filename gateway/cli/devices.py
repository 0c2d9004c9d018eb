"""``gateway devices``: which devices may connect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gateway.cli.device_csv import export_devices, import_devices
from gateway.cli.enrolment import approve, print_pending, refuse
from gateway.cli.options import json_option, with_config
from gateway.cli.output import moment, print_json, print_table
from gateway.cli.registry import open_registry, parse_tags, registry_path, show_or_undo
from gateway.config import DEFAULT_PROFILE
from gateway.config.units import parse_duration
from gateway.state.registered_device import check_profile

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.config import Config
    from gateway.state.registered_device import Device

MAX_OVERLAP = 30 * 86400


@click.group()
def devices() -> None:
    """Register devices and end their access. A running gateway applies a change within a second.

    \b
    Example:  gateway devices add kiln-7 --tag site=north
    """


def _printing(device: str, *, as_json: bool) -> Callable[[str], None]:
    """Prints a token before the change is committed: if it cannot be printed, nothing changes."""

    def keep(token: str) -> None:
        with show_or_undo():
            if as_json:
                print_json({"id": device, "token": token})
            else:
                click.echo(token)

    return keep


@devices.command()
@click.argument("device", metavar="ID")
@click.option("--profile", default=DEFAULT_PROFILE, show_default=True, help="A profile of the configuration.")
@click.option(
    "--tag", "tags", multiple=True, metavar="NAME=VALUE", callback=parse_tags, help="Written on every reading."
)
@json_option
@with_config
def add(config: Config, device: str, profile: str, tags: dict[str, str], *, as_json: bool) -> None:
    """Register a device and print its token, which cannot be shown again.

    \b
    Example:  gateway devices add kiln-7 --profile kiln --tag site=north
    """
    check_profile(profile, config.profiles)
    with open_registry(config, create=True) as registry:
        registry.add(device, profile, tags, _printing(device, as_json=as_json))


devices.add_command(approve)
devices.add_command(refuse)
devices.add_command(import_devices)
devices.add_command(export_devices)


@devices.command(name="list")
@click.option("--pending", is_flag=True, help="List the devices that wait for approval, with their claim codes.")
@json_option
@with_config
def list_devices(config: Config, *, pending: bool, as_json: bool) -> None:
    """List the registered devices, also revoked ones; with --pending the devices that wait for approval.

    \b
    Example:  gateway devices list --json | jq -r '.[].id'
    """
    if pending:
        return print_pending(config, as_json=as_json)
    found: list[Device] = []
    if registry_path(config).exists():
        with open_registry(config) as registry:
            found = registry.devices.list()
    if as_json:
        print_json([_described(device) for device in found])
    else:
        print_table(("id", "profile", "tags", "state", "registered"), [_row(device) for device in found])
    return None


@devices.command()
@click.argument("device", metavar="ID")
@json_option
@with_config
def show(config: Config, device: str, *, as_json: bool) -> None:
    """Show one device.

    \b
    Example:  gateway devices show kiln-7
    """
    with open_registry(config) as registry:
        described = _described(registry.devices.show(device))
    if as_json:
        print_json(described)
    else:
        tags = described.pop("tags")
        print_table(("what", "value"), [*described.items(), *((f"tag {name}", tags[name]) for name in tags)])


def _overlap(_ctx: click.Context, _param: click.Parameter, value: str) -> float:
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if seconds > MAX_OVERLAP:
        raise click.BadParameter("expected at most 30d")
    return seconds


@devices.command()
@click.argument("device", metavar="ID")
@click.option(
    "--overlap",
    metavar="DURATION",
    default="0s",
    callback=_overlap,
    help="How long the old token stays valid too; it ends at the first use of the new one at the latest.",
)
@json_option
@with_config
def rotate(config: Config, device: str, overlap: float, *, as_json: bool) -> None:
    """Give a device a new token and print it; the old one ends. A revoked device may connect again.

    \b
    Example:  gateway devices rotate kiln-7 --overlap 1h
    """
    with open_registry(config) as registry:
        registry.rotate(device, overlap, _printing(device, as_json=as_json))


@devices.command()
@click.argument("device", metavar="ID")
@json_option
@with_config
def revoke(config: Config, device: str, *, as_json: bool) -> None:
    """End a device's access; it is disconnected. Its profile and tags are kept for rotate.

    \b
    Example:  gateway devices revoke kiln-7
    """
    with open_registry(config) as registry:
        registry.revoke(device)
        if as_json:
            print_json(_described(registry.devices.show(device)))
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
        "old_token_until": moment(device.old_until_ns or None),
    }


def _row(device: Device) -> tuple[object, ...]:
    tags = " ".join(f"{name}={value}" for name, value in device.tags.items())
    return device.id, device.profile, tags or None, _state(device), moment(device.created_ns)


def _state(device: Device) -> str:
    return "revoked" if device.revoked else "active"
