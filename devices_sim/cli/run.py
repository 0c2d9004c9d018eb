"""``devices-sim run``: a simulated fleet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from devices_sim.cli.execution import carry_out, conclude
from devices_sim.cli.options import (
    FILE,
    NEW_FILE,
    connection_options,
    duration,
    read_certificates,
    read_tokens,
    tls_context,
)
from devices_sim.fleet import Fleet, names
from devices_sim.keyring import Keyring, KeyringError
from devices_sim.run import Plan
from devices_sim.scenario import Group, ScenarioError, bundled_scenarios, default_scenario, load_scenario, scaled
from devices_sim.wire import FORMATS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def scenario_groups(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[Group, ...] | None:
    """Callback of ``--scenario``: the groups of a bundled scenario, or of a file."""
    if value is None:
        return None
    path = bundled_scenarios().get(value) or FILE.convert(value, parameter, context)
    try:
        return load_scenario(path)
    except (ScenarioError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{value}\n{error}") from error


@click.command(
    epilog="""\b
Examples:
  devices-sim run --devices 1000 --interval 1s --duration 1m --report run.json
  devices-sim run --url wss://gw.example --tokens tokens.csv --scenario rough.yaml
"""
)
@click.option("--devices", type=click.IntRange(min=1), help="Number of devices. [default: as in the scenario, or 20]")
@click.option(
    "--interval",
    callback=duration,
    metavar="DURATION",
    default="1s",
    show_default=True,
    help="Time between the samples of a device.",
)
@click.option(
    "--scenario",
    metavar="FILE",
    callback=scenario_groups,
    help=f"YAML file with groups of devices and their faults, or one of {', '.join(sorted(bundled_scenarios()))}.",
)
@click.option(
    "--history",
    callback=duration,
    metavar="DURATION",
    default="0s",
    show_default=True,
    help="First send a reading for each minute of this long before the run, except what the gateway already shows.",
)
@click.option(
    "--duration", callback=duration, metavar="DURATION", help="Stop sampling after this time. [default: at Ctrl-C]"
)
@click.option(
    "--format",
    "written",
    type=click.Choice(list(FORMATS)),
    default="json",
    show_default=True,
    help="Format of the messages, for groups whose scenario names none.",
)
@click.option("--tokens", type=FILE, help="File with lines `device,token`. Its devices take part in the run.")
@click.option(
    "--certificates",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Directory of files ID.pem, each a certificate with its key, used instead of tokens. Its devices take part.",
)
@click.option(
    "--enrol",
    type=NEW_FILE,
    help="File for tokens. Devices without one ask the gateway for it; once an operator approves, it is saved here.",
)
@click.option("--prefix", default="sim-", show_default=True, help="Device ids are this prefix and a number.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same values.")
@click.option(
    "--connect-rate",
    type=click.FloatRange(min=0.1),
    default=500.0,
    show_default=True,
    help="Devices switched on per second.",
)
@connection_options
def run(  # noqa: PLR0913 - an option each
    *,
    devices: int | None,
    interval: float,
    scenario: tuple[Group, ...] | None,
    history: float,
    duration: float | None,
    written: str,
    tokens: Path | None,
    certificates: Path | None,
    enrol: Path | None,
    prefix: str,
    seed: int,
    connect_rate: float,
    url: str,
    ca: Path | None,
    ack: str,
    grace: float,
    report: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Simulate devices that measure, send, and keep each message until it is acknowledged or refused.

    The exit code is 1 if a reading is neither acknowledged nor refused. The first Ctrl-C ends the sampling, the second
    one the wait for the last acknowledgements.
    """
    if tokens and certificates:
        raise click.UsageError("--tokens and --certificates both say which devices there are: use one of them")
    if certificates and not url.startswith("wss:"):
        raise click.UsageError(f"--certificates needs TLS: --url is wss://.., not {url}")
    own = read_certificates(certificates, ca) if certificates else {}
    identities = _from_file(tokens, read_tokens(tokens), devices) if tokens else None
    if certificates:
        identities = _from_file(certificates, dict.fromkeys(own), devices)
    groups = _groups(scenario, len(identities) if identities else devices)
    if history and any((group.format or written) == "senml" for group in groups):
        raise click.UsageError("--history needs numbered messages, and SenML has none")
    if identities is None:
        identities = [(name, None) for name in names(groups, prefix)]
    fleet = Fleet(groups, identities, interval, seed, ack, report is not None, history, written)
    plan = Plan(url, duration, grace, tls_context(ca), connect_rate, _keyring(enrol), own)
    outcome = carry_out(plan, fleet.build, len(identities), quiet=quiet)
    conclude(outcome, {"command": "run", "url": url, "ack": ack, "seed": seed}, report, as_json=as_json)


def _keyring(path: Path | None) -> Keyring | None:
    try:
        return None if path is None else Keyring(path, _show_claim)
    except KeyringError as error:
        raise click.BadParameter(str(error), param_hint="--enrol") from error


def _show_claim(device: str, claim: str) -> None:
    click.echo(f"{device} waits for approval; its claim code is {claim}", err=True)


def _from_file(path: Path, tokens: Mapping[str, str | None], devices: int | None) -> Sequence[tuple[str, str | None]]:
    if devices is not None and devices > len(tokens):
        raise click.UsageError(f"{path} has {len(tokens)} devices, not {devices}")
    if not tokens:
        raise click.UsageError(f"{path} has no devices")
    return list(tokens.items())[:devices]


def _groups(scenario: tuple[Group, ...] | None, devices: int | None) -> tuple[Group, ...]:
    if scenario is None:
        return scaled(default_scenario(), devices or 20)
    return scenario if devices is None else scaled(scenario, devices)
