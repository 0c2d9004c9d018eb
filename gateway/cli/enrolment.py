"""``gateway devices list --pending``, ``approve`` and ``refuse``: devices that wait for approval.

The running gateway carries out a decision within a second.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.options import json_option, with_config
from gateway.cli.output import moment, print_json, print_table
from gateway.cli.registry import open_registry, parse_tags, registry_path
from gateway.errors import UnknownEnrolment
from gateway.state.enrolments import EnrolmentDecision, EnrolmentRequest, Enrolments, EnrolmentState
from gateway.state.file_names import ENROLMENTS
from gateway.state.registered_device import check_device, check_profile
from gateway.time_units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.config import Config


@contextlib.contextmanager
def _store(config: Config) -> Iterator[Enrolments | None]:
    """The store; None if no gateway has made one, so that a look creates no file."""
    path = config.state.directory / ENROLMENTS
    if not path.exists():
        yield None
        return
    with contextlib.closing(Enrolments(path)) as store:
        yield store


def print_pending(config: Config, *, as_json: bool) -> None:
    """Print the requests that wait for a decision."""
    with _store(config) as store:
        waiting = store.waiting(time.time_ns()) if store else []
    found = [request for request in waiting if request.decision is None]
    if as_json:
        print_json([request.shown() for request in found])
    else:
        print_table(("id", "claim", "address", "since", "until", "tells"), [_row(request) for request in found])


def _row(request: EnrolmentRequest) -> tuple[object, ...]:
    told = " ".join(f"{name}={value}" for name, value in request.info.items())
    claim = f"{request.claim} (twice!)" if request.contested else request.claim
    since, until = moment(request.since_ns), moment(request.expires_ns)
    return request.id, claim, request.address, since, until, told or None


@click.command()
@click.argument("device", metavar="ID")
@click.option("--claim", metavar="CODE", help="The code that the device shows. Without it, a terminal asks you.")
@click.option("--profile", help="A profile of the configuration.  [default: default]")
@click.option(
    "--tag", "tags", multiple=True, metavar="NAME=VALUE", callback=parse_tags, help="Written on every reading."
)
@click.option(
    "--replace", is_flag=True, help="If the device is registered already, give it a new token and end the old one."
)
@json_option
@with_config
def approve(
    config: Config,
    device: str,
    claim: str | None,
    profile: str | None,
    tags: dict[str, str],
    *,
    replace: bool,
    as_json: bool,
) -> None:
    """Approve a device that waits; it gets its token over its own connection. Compare its claim code first.

    \b
    Example:  gateway devices approve kiln-7 --claim K7QD-93XA --tag site=north
    """
    if profile is not None:
        check_profile(profile, config.profiles)
    check_device(device, tags)
    decided = {"profile": profile, "tags": tags or None, "replaces": replace}
    if claim is None and sys.stdin.isatty():
        claim = _compared(config, device)
    _decide(config, device, claim, EnrolmentState.APPROVED, as_json=as_json, **decided)


@click.command()
@click.argument("device", metavar="ID")
@click.option(
    "--claim", metavar="CODE", help="The code that the device shows; needed if several devices ask for this id."
)
@json_option
@with_config
def refuse(config: Config, device: str, claim: str | None, *, as_json: bool) -> None:
    """Refuse a device that waits for approval.

    \b
    Example:  gateway devices refuse kiln-7
    """
    _decide(config, device, claim, EnrolmentState.REFUSED, as_json=as_json)


def _compared(config: Config, device: str) -> str | None:
    """The claim of the only request, after the operator has confirmed it; None if there is not exactly one."""
    with _store(config) as store:
        waiting = store.waiting(time.time_ns()) if store else []
    found = [request for request in waiting if request.id == device and request.decision is None]
    if len(found) != 1:
        return None  # `_decide` reports this
    claim = found[0].claim
    asked = f"{device} asks with the claim {claim}, from {found[0].address}. Is that what the device shows?"
    click.confirm(asked, abort=True, err=True)
    return claim


def _accept(config: Config, device: str, decision: EnrolmentDecision) -> None:
    if decision.state is EnrolmentState.APPROVED and not decision.replaces and registry_path(config).exists():
        with open_registry(config) as registry:
            registry.check_new(device)


def _decide(
    config: Config, device: str, claim: str | None, state: EnrolmentState, *, as_json: bool, **decided: Any
) -> None:
    now = time.time_ns()
    by = f"the command line (uid {os.geteuid()})"
    decision = EnrolmentDecision(state, by, now + round(config.auth.enrol_expiry * NS_PER_S), **decided)
    with _store(config) as store:
        if store is None:
            raise UnknownEnrolment(f"no device waits for approval: there is no {config.state.directory / ENROLMENTS}")
        request = store.decide(device, claim, decision, now, partial(_accept, config, device, decision))
    if as_json:
        print_json({"id": device, "claim": request.claim, "state": str(state)})
    else:
        click.echo(f"{device} with the claim {request.claim} is {state}", err=True)
