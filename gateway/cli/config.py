"""``gateway check-config`` and ``gateway config-schema``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.options import config_path_option, configuration, json_option
from gateway.cli.output import print_json, print_table
from gateway.config.schema import json_schema
from gateway.config.sources import leaves

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@config_path_option
@json_option
def check_config(path: Path | None, *, as_json: bool) -> None:
    """Show the settings that count and where each was set, secrets masked.

    Exits with 2 and every problem when the gateway could not run with them.

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
@click.option("--config", metavar="FILE", expose_value=False, help="Accepted as everywhere; every file has one schema.")
@click.option("--json", is_flag=True, expose_value=False, help="Accepted as everywhere; a schema is JSON.")
def config_schema() -> None:
    """Print the JSON Schema of config.yaml.

    \b
    Example:  gateway config-schema > config.schema.json
    Editors that speak YAML then read, as the first line of config.yaml:
              # yaml-language-server: $schema=config.schema.json
    """
    print_json(json_schema())
