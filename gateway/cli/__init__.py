"""The ``gateway`` command: what operators type.

Rules that hold here:

* Exit codes: 0 for success, 1 for a failure, 2 for wrong usage or a wrong configuration. A failure is one clear line on
  standard error, never a traceback.
* The result of a command goes to standard output, everything else to standard error.
* A command's module is imported when the command is used, so that ``gateway devices add`` does not wait for the
  database clients and the server.
"""

from __future__ import annotations

import errno
import importlib
import sqlite3
from typing import Any

import click

import gateway
from gateway.errors import ConfigError, GatewayError, in_words

_COMMANDS = {
    "run": "gateway.cli.serve:run",
    "demo": "gateway.cli.demo:demo",
    "check-config": "gateway.cli.config:check_config",
    "config-schema": "gateway.cli.config:config_schema",
    "devices": "gateway.cli.devices:devices",
    "dead-letters": "gateway.cli.dead_letters:dead_letters",
    "spool": "gateway.cli.spool:spool",
    "backup": "gateway.cli.backup:backup",
    "restore": "gateway.cli.backup:restore",
    "types": "gateway.cli.types:types",
    "why": "gateway.cli.why:why",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            for problem in error.problems:
                click.echo(problem, err=True)
            ctx.exit(2)
        except (GatewayError, OSError, sqlite3.Error) as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # the reader of the output has closed the pipe; click ends quietly
            denied = "; try it as the user of the gateway, or as root" if isinstance(error, PermissionError) else ""
            click.echo(f"gateway: {in_words(error)}{denied}", err=True)
            ctx.exit(1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(gateway.__version__, prog_name="gateway")
def cli() -> None:
    """Telemetry gateway: JSON readings over WebSocket in, InfluxDB or SQLite out.

    \b
    Try it:   gateway demo
    Run it:   gateway check-config && gateway run
    """
