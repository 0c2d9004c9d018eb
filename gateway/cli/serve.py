"""``gateway run``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gateway.app import Gateway
from gateway.cli.logs import configure_logging
from gateway.cli.options import config_path_option, configuration
from gateway.process.run import serve

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.cli.logs import Logs
    from gateway.config import Config


class _ReloadSource:
    """Reads the configuration again for a reload, and applies the new one to the log."""

    def __init__(self, path: Path | None, logs: Logs) -> None:
        self._path = path
        self._logs = logs

    def read(self) -> Config:
        return configuration(self._path, serving=True)[1].config

    def changed(self, config: Config) -> None:
        self._logs.change(config)


@click.command()
@config_path_option
@click.pass_context
def run(ctx: click.Context, path: Path | None) -> None:
    """Run the gateway until SIGTERM or Ctrl-C, then drain and exit with 0. SIGHUP reloads the configuration.

    \b
    Example:  gateway run --config /etc/telemetry-gateway/config.yaml
    """
    path, loaded = configuration(path, serving=True)
    logs = configure_logging(loaded.config)
    ctx.exit(serve(Gateway(loaded.config), source=_ReloadSource(path, logs)))
