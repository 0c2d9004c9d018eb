"""The tables of docs/reference that are made from the code: ``python -m tests.codebase.reference`` writes them anew.

The tables of a page stand between two comments, `BEGIN` and `END`. The text around them is written by hand.
"""

from __future__ import annotations

import inspect
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from annotated_types import Ge, Gt, Le
from prometheus_client.metrics import MetricWrapperBase
from pydantic import AfterValidator, BaseModel

from devices_sim.__main__ import main as simulator
from gateway.cli import cli
from gateway.config import sections, units
from gateway.config.model import Config
from gateway.config.reload_plan import settings
from gateway.config.sections import Applies
from gateway.metrics import ConnectionsCollector, Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

REFERENCE = Path(__file__).parents[2] / "docs/reference"
BEGIN = "<!-- begin: written by python -m tests.codebase.reference -->"
END = "<!-- end -->"

APPLIES = dict(settings())
EVERYWHERE = {"--config", "--json", "--help"}
"""Options whose meaning the page of the commands says once."""


def pages() -> dict[str, str]:
    """The tables of each page, by the name of its file."""
    return {
        "configuration.md": "\n".join(_configuration()),
        "commands.md": "\n".join(_commands(cli, "gateway")) + "\n" + "\n".join(_commands(simulator, "devices-sim")),
        "metrics.md": "\n".join(_metrics()),
    }


def with_tables(page: str, tables: str) -> str:
    """The text of a page with its tables replaced."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{tables.strip()}\n\n{END}{rest.partition(END)[2]}"


def _row(*cells: str) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def _configuration() -> Iterator[str]:
    yield from _section(Config, "")


def _section(model: type[BaseModel], above: str, *, live: bool | None = None) -> Iterator[str]:
    """The settings of a section, then the sections in it. ``live`` counts where `APPLIES` has no entry."""
    inner = []
    rows = []
    written = model().model_dump(mode="json")
    for name, field in model.model_fields.items():
        path = f"{above}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            inner.append((field.annotation, path, live))
        elif path == "profiles":
            inner.append((sections.ProfileSection, "profiles.NAME", APPLIES.get(path) is Applies.LIVE))
        else:
            now = live if live is not None else APPLIES.get(path) is Applies.LIVE
            rows.append(
                _row(
                    f"`{path}`",
                    _kind(field.annotation, field.metadata),
                    _default(written[name]),
                    "live" if now else "at start",
                    field.description or "",
                )
            )
            if path == "profiles.NAME.fields":
                inner.append((sections.FieldSection, f"{path}.FIELD", live))
    if rows:
        yield f"## {above.rstrip('.') or 'Top level'}\n\n{inspect.getdoc(model) if above else ''}\n".replace(
            "\n\n\n", "\n"
        )
        yield "| setting | type | default | in force | meaning |\n|---|---|---|---|---|"
        yield "\n".join(rows) + "\n"
    for kind, path, inner_live in inner:
        yield from _section(kind, f"{path}.", live=inner_live)


def _default(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"`{value}`".replace("'", "")


def _kind(annotation: Any, metadata: list[Any]) -> str:
    """What may be written for a setting, with its bounds."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{word}`" for word in arguments)
    if origin is typing.Annotated:
        return _kind(arguments[0], [*arguments[1:], *metadata])
    if origin in {typing.Union, types.UnionType}:
        if any(argument is bool for argument in arguments):
            return "true, false or auto"
        if set(arguments) == {int, float}:
            return "number" + _bounds(metadata)
        return " or ".join("null" if argument is type(None) else _kind(argument, metadata) for argument in arguments)
    if origin is tuple:
        return f"list of {_kind(arguments[0], [])}s".replace("textss", "texts")
    if origin is dict:
        return "section" if inspect.isclass(arguments[1]) and issubclass(arguments[1], BaseModel) else "names and texts"
    names = {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "file"}
    names[units.ListenAddress] = "host:port"
    parsers = {units.parse_duration: "duration", units.parse_size: "size"}
    for entry in metadata:
        if (found := parsers.get(getattr(entry, "func", None))) is not None:
            return found + _bounds(metadata)
    return names.get(annotation, "secret" if "Secret" in str(annotation) else str(annotation)) + _bounds(metadata)


def _bounds(metadata: list[Any]) -> str:
    low = high = ""
    for entry in metadata:
        if isinstance(entry, AfterValidator) and "low" in (bound := inspect.getclosurevars(entry.func).nonlocals):
            low, high = bound["low"], bound["high"]
        low = f"{entry.ge:,}" if isinstance(entry, Ge) else f"above {entry.gt}" if isinstance(entry, Gt) else low
        high = f"{entry.le:,}" if isinstance(entry, Le) else high
    return f", {low} to {high}" if high else ""


def _commands(command: click.Command, path: str) -> Iterator[str]:
    """A command, then those below it."""
    context = click.Context(command, info_name=path)
    if isinstance(command, click.Group):
        if " " not in path:
            yield f"## {path}\n"
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _commands(found, f"{path} {name}")
        return
    described, examples = _described(command)
    yield f"### {path}\n\n    {path} {' '.join(command.collect_usage_pieces(context))}\n"
    yield f"{described}\n"
    rows = list(_options(command, context))
    if rows:
        yield "| option | meaning |\n|---|---|"
        yield "\n".join(rows) + "\n"
    if examples:
        yield "\n".join(f"    {line}" for line in examples) + "\n"


def _described(command: click.Command) -> tuple[str, list[str]]:
    """What a command does, and its examples."""
    text, examples = [], []
    for line in f"{inspect.cleandoc(command.help or '')}\n\n{command.epilog or ''}".replace("\b", "").splitlines():
        if line.lstrip().startswith(("Example:", "gateway ", "devices-sim ", "#")):
            examples.append(line.removeprefix("Example:").strip())
        elif line.strip() != "Examples:":
            text.append(line.strip())
    return "\n".join(text).strip().replace("\n\n\n", "\n\n"), examples


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for option in command.get_params(context):
        if isinstance(option, click.Option) and not EVERYWHERE & set(option.opts):
            record = option.get_help_record(context)
            assert record is not None
            yield _row(f"`{record[0]}`", record[1])


def _metrics() -> Iterator[str]:
    yield "| metric | type | labels | meaning |\n|---|---|---|---|"
    for metric in vars(Metrics()).values():
        if isinstance(metric, ConnectionsCollector):
            family = next(iter(metric.collect()))
            yield _row(f"`{family.name}`", family.type, "", family.documentation)
        elif isinstance(metric, MetricWrapperBase) and not metric._labelvalues:
            family = next(iter(metric.collect()))
            name = family.name + ("_total" if family.type == "counter" else "")
            buckets = family.type == "histogram"
            values = {value for sample in family.samples for value in sample.labels.values()}
            known = f": {', '.join(f'`{value}`' for value in sorted(values))}" if values and not buckets else ""
            labels = ", ".join(f"`{label}`" for label in metric._labelnames)
            yield _row(f"`{name}`", family.type, f"{labels}{known}", family.documentation)


if __name__ == "__main__":
    for page, tables in pages().items():
        path = REFERENCE / page
        path.write_text(with_tables(path.read_text(), tables))
