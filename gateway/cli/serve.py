"""``gateway run``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from gateway.app import serve
from gateway.cli.logs import configure_logging
from gateway.cli.options import with_config

if TYPE_CHECKING:
    from gateway.config import Config


@click.command()
@partial(with_config, serving=True)
@click.pass_context
def run(ctx: click.Context, config: Config) -> None:
    """Serve until SIGTERM or Ctrl-C, then drain and exit with 0.

    \b
    Example:  gateway run --config /etc/telemetry-gateway/config.yaml
    """
    configure_logging(config)
    ctx.exit(serve(config))
