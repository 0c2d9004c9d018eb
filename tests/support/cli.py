"""The ``gateway`` command, run inside the test's process, on a configuration of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml
from click.testing import CliRunner

from gateway.cli import cli

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from click.testing import Result


NO_OVERRIDE = "-dac_override,-dac_read_search"
_AS_OTHERS = ["setpriv", "--bounding-set", NO_OVERRIDE, "--inh-caps", NO_OVERRIDE] if os.geteuid() == 0 else []


def in_a_process(*arguments: str, as_others: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a command as an operator would, for what must not happen in the test's own process.

    ``as_others``: files that others may not open, root may not open either.
    """
    command = [*(_AS_OTHERS if as_others else ()), sys.executable, "-m", "gateway", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@dataclass(frozen=True)
class Command:
    """Runs commands with ``--config`` of a file in ``directory``, where all state is, too."""

    directory: Path

    @property
    def config(self) -> Path:
        """The configuration's file."""
        return self.directory / "config.yaml"

    def configure(self, values: Mapping[str, Any]) -> None:
        """Write the configuration."""
        self.config.write_text(yaml.safe_dump({"state": {"directory": str(self.directory)}, **values}))

    def __call__(self, *arguments: str, environ: Mapping[str, str] | None = None) -> Result:
        """Run a command; an exception that is not an exit is the test's failure."""
        if not self.config.exists():
            self.configure({})
        result = CliRunner().invoke(cli, [*arguments, "--config", str(self.config)], env=dict(environ or {}))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def json(self, *arguments: str) -> Any:
        """What a command that succeeds prints with ``--json``."""
        result = self(*arguments, "--json")
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)
