"""``gateway dead-letters``: points that the database refused."""

from __future__ import annotations

import contextlib
import functools
import sys
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.options import json_option, with_config
from gateway.cli.output import moment, print_json, print_table, printable
from gateway.delivery.dead_letters import DeadLetters
from gateway.delivery.replay import replay_dead_letters
from gateway.errors import GatewayError
from gateway.sinks import make_sink
from gateway.state.file_names import DEAD_LETTERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gateway.config import Config
    from gateway.delivery.dead_letters import DeadLetter
    from gateway.delivery.write_result import OperatorNeeded, RetryLater

_SHOWN = 100
_LINE = 80


@click.group(name="dead-letters")
def dead_letters() -> None:
    """List points that the database refused, write them again, or delete them. The gateway may run meanwhile.

    \b
    Example:  gateway dead-letters list --device kiln-7
    """


@contextlib.contextmanager
def _letters(config: Config) -> Iterator[DeadLetters | None]:
    """The store; None if no point was ever refused, so that a look creates no file."""
    path = config.state.directory / DEAD_LETTERS
    if not path.exists():
        yield None
        return
    letters = DeadLetters(path)
    try:
        yield letters
    finally:
        letters.close()


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    reason = click.option(
        "--reason", metavar="KIND", help="Only points refused for this kind of reason, as `list` shows it."
    )
    device = click.option("--device", metavar="ID", help="Only points of this device.")
    return reason(device(command))


@dead_letters.command(name="list")
@_filters
@click.option("--after", default=0, metavar="N", help="Only points with greater numbers.")
@click.option("--limit", type=click.IntRange(1), help=f"How many to show; by default {_SHOWN}, with --json all.")
@json_option
@with_config
def list_letters(
    config: Config, reason: str | None, device: str | None, after: int, limit: int | None, *, as_json: bool
) -> None:
    """List refused points, the oldest first.

    \b
    Example:  gateway dead-letters list --device kiln-7
    """
    most = limit or (-1 if as_json else _SHOWN)
    with _letters(config) as letters:
        found = letters.list(reason=reason, device=device, after=after, limit=most) if letters else ()
        total = letters.count() if letters else 0
        discarded = letters.discarded if letters else 0
    if as_json:
        print_json([_described(letter) for letter in found])
        return
    print_table(("n", "refused", "device", "kind", "reason", "point"), [_row(letter) for letter in found])
    gone = f", {discarded} older ones were discarded" if discarded else ""
    click.echo(f"{len(found)} of {total} shown{gone}", err=True)


@dead_letters.command()
@click.argument("n", type=click.IntRange(1))
@json_option
@with_config
def show(config: Config, n: int, *, as_json: bool) -> None:
    """Show one refused point in full.

    \b
    Example:  gateway dead-letters show 17
    """
    with _letters(config) as letters:
        letter = letters.get(n) if letters else None
    if letter is None:
        raise GatewayError(f"there is no dead letter {n}")
    if as_json:
        print_json(_described(letter))
    else:
        print_table(("what", "value"), _described(letter).items())


@dead_letters.command()
@_filters
@json_option
@functools.partial(with_config, writing=True)
@click.pass_context
def replay(ctx: click.Context, config: Config, reason: str | None, device: str | None, *, as_json: bool) -> None:
    """Write refused points to the database again, after the cause is fixed. Points that are stored now leave the list.

    Exits with 1 if some were not stored; they stay in the list.

    \b
    Example:  gateway dead-letters replay --reason type_conflict
    """
    stored, refused, left = 0, 0, 0
    stopped: RetryLater | OperatorNeeded | None = None
    with _letters(config) as letters:
        if letters is not None and letters.count():
            with contextlib.closing(make_sink(config)) as sink:
                result = replay_dead_letters(letters, sink.write, reason=reason, device=device)
            stored, refused, stopped = result.stored, result.refused, result.stopped
        left = letters.count() if letters else 0
    if as_json:
        answer = {"stored": stored, "refused": refused, "left": left, "stopped": stopped and stopped.reason}
        print_json(answer)
    else:
        click.echo(f"{stored} stored, {refused} refused again, {left} left")
    if stopped is not None:
        raise GatewayError(f"the database cannot take points now: {stopped.reason}")
    if refused:
        ctx.exit(1)


@dead_letters.command()
@_filters
@json_option
@with_config
def drop(config: Config, reason: str | None, device: str | None, *, as_json: bool) -> None:
    """Delete refused points for ever. On a terminal it asks first.

    \b
    Example:  gateway dead-letters drop --device kiln-7
    """
    with _letters(config) as letters:
        if letters is not None and sys.stdin.isatty():
            which = " and ".join(part for part in (reason and f"kind {reason}", device and f"device {device}") if part)
            click.confirm(f"Delete the refused points of {which or 'all devices'} for good?", abort=True, err=True)
        dropped = letters.delete(reason=reason, device=device) if letters else 0
    if as_json:
        print_json({"dropped": dropped})
    else:
        click.echo(f"{dropped} dropped")


def _described(letter: DeadLetter) -> dict[str, Any]:
    return {
        "n": letter.n,
        "device": letter.device,
        "measurement": letter.measurement,
        "refused": moment(letter.refused_ns),
        "committed": moment(letter.committed_ns),
        "record": letter.record_id,
        "line": letter.line,
        "kind": letter.kind,
        "reason": letter.reason,
        "point": _point(letter),
    }


def _row(letter: DeadLetter) -> tuple[object, ...]:
    point = printable(_point(letter))
    short = point if len(point) <= _LINE else f"{point[: _LINE - 1]}…"
    return letter.n, moment(letter.refused_ns), letter.device, letter.kind, letter.reason, short


def _point(letter: DeadLetter) -> str:
    return letter.data.decode(errors="replace").removesuffix("\n")
