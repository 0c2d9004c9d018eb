"""``gateway why``: where a reading is. It only reads; the gateway may run meanwhile."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.options import json_option, with_config
from gateway.cli.output import print_json, print_table, printable
from gateway.cli.registry import registry_path
from gateway.delivery.dead_letters import DeadLetters
from gateway.delivery.message_trace import TraceFiles, by_number, by_time
from gateway.errors import ReadingError
from gateway.protocol.messages import MAX_SEQ
from gateway.protocol.timestamps import asked_moment
from gateway.state import checkpoint, file_names
from gateway.state.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.config import Config


_IN_FULL = 3
"""Messages shown one by one; more are a table."""


@click.command()
@click.argument("device", metavar="DEVICE")
@click.option("--seq", type=click.IntRange(0, MAX_SEQ), metavar="N", help="The number of the message.")
@click.option("--boot", metavar="B", help="The boot of the number; by default the newest boot that has this number.")
@click.option(
    "--time", metavar="T", help="The time of a reading, or about when it arrived; written as `ts` is, or as RFC 3339."
)
@json_option
@with_config
@click.pass_context
def why(
    ctx: click.Context,
    config: Config,
    device: str,
    seq: int | None,
    boot: str | None,
    time: str | None,
    *,
    as_json: bool,
) -> None:
    """Show when a reading arrived, in which commit, and where it is now. Exits with 1 if it is not found.

    \b
    Example:  gateway why kiln-7 --seq 118
    Example:  gateway why kiln-7 --time 2026-03-01T12:00:00Z
    """
    if (seq is None) == (time is None):
        raise click.UsageError("give either --seq or --time")
    with _records(config, device) as records:
        if seq is not None:
            answer = by_number(records, device, seq, boot)
        else:
            answer = by_time(records, device, _moment(str(time)))
    if as_json:
        print_json(answer)
    else:
        _show(answer)
    ctx.exit(0 if answer["found"] else 1)


def _moment(text: str) -> int:
    try:
        return asked_moment(text)
    except ReadingError as error:
        raise click.BadParameter(error.message, param_hint="--time") from None


@contextlib.contextmanager
def _records(config: Config, device: str) -> Iterator[TraceFiles]:
    state = config.state.directory
    path = state / file_names.DEAD_LETTERS
    with contextlib.ExitStack() as stack:
        letters = stack.enter_context(contextlib.closing(DeadLetters(path))) if path.exists() else None
        known = _registered(config, device) or device in checkpoint.load(state / file_names.LEDGER).accounts
        yield TraceFiles(config.spool.directory, state / file_names.WRITE_LOG, letters, known)


def _registered(config: Config, device: str) -> bool:
    path = registry_path(config)
    if not path.exists():
        return False
    with contextlib.closing(Registry(path)) as registry:
        return registry.devices.lookup(device) is not None


def _show(answer: dict[str, Any]) -> None:
    click.echo(printable(answer["answer"]))
    messages = answer["messages"]
    if len(messages) > _IN_FULL:
        click.echo()
        print_table(("arrived", "boot", "seq", "record", "state"), [_short(message) for message in messages])
        return
    for message in messages:
        click.echo()
        print_table(("what", "value"), _rows(message))


def _short(message: dict[str, Any]) -> tuple[object, ...]:
    return message["arrived"], message["boot"], message["seq"], message["record"], message["what"]


def _rows(message: dict[str, Any]) -> Iterator[tuple[str, object]]:
    yield "state", message["what"]
    yield "message", f"seq {message['seq']} of boot {message['boot']}" if message["seq"] is not None else None
    yield "arrived", message["arrived"]
    yield "committed", f"{message['committed']} in record {message['record']}"
    yield "readings", ", ".join(f"{count} {name}" for name, count in message["readings"].items())
    if message["left_out_before"]:
        yield "left out before it", message["left_out_before"]
    for verdict in message["verdicts"]:
        where = " ".join(str(verdict[key]) for key in ("index", "field") if key in verdict)
        yield f"refused {where}".rstrip(), f"{verdict['code']}: {verdict['message']}"
    for write in message["writes"]:
        yield f"write {write['n']}", f"{write['ended']}, {write['points']} points in {write['seconds']:.3f} s"
    for letter in message["dead_letters"]:
        yield f"dead letter {letter['n']}", f"{letter['refused']} {letter['kind']}: {letter['reason']}"
    for former in message["former_dead_letters"]:
        yield f"was a dead letter, {former['ended']}", f"{former['at']} {former['kind']}: {former['reason']}"
    for point in message["points"]:
        yield "point", point
