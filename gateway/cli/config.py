"""``gateway check-config`` and ``gateway config-schema``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.options import config_path_option, configuration, json_option
from gateway.cli.output import print_json, print_table
from gateway.config.json_schema import json_schema
from gateway.config.sources import leaves

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@config_path_option
@json_option
def check_config(path: Path | None, *, as_json: bool) -> None:
    """Show the settings in force and where each was set, with secrets masked.

    Exits with 2 and lists every problem if the gateway could not run with them.

    \b
    Example:  gateway check-config --config /etc/telemetry-gateway/config.yaml
    """
    path, loaded = configuration(path, serving=True)
    values = loaded.config.model_dump(mode="json")
    if as_json:
        print_json(values)
        return
    rows = [
        (".".join(location), _shown(values, location), loaded.origins.get(location, "default"))
        for location in leaves(values)
    ]
    print_table(("setting", "value", "from"), rows)
    click.echo(f"{path or 'The configuration'} is good.", err=True)


def _shown(values: Any, location: tuple[str, ...]) -> str | None:
    for key in location:
        values = values[key]
    return values if values is None or isinstance(values, str) else json.dumps(values, ensure_ascii=False)


@click.command()
@click.option(
    "--config",
    metavar="FILE",
    expose_value=False,
    help="Accepted as in every command; the schema is the same for every file.",
)
@click.option(
    "--json", is_flag=True, expose_value=False, help="Accepted as in every command; the schema is JSON anyway."
)
def config_schema() -> None:
    """Print the JSON Schema of config.yaml.

    \b
    Example:  gateway config-schema > config.schema.json
    Editors use it with this first line in config.yaml:
              # yaml-language-server: $schema=config.schema.json
    """
    print_json(json_schema())
