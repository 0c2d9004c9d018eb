"""``gateway demo``: a gateway on SQLite with simulated devices, for a first look.

Rules that hold here:

* The simulator is another process, which knows only the gateway's address. It is in the demo's process group, so that
  it ends with the terminal. The demo stops it by its process id.
* A configuration in this directory and the environment are ignored: a demo must not write to a real database.
"""

from __future__ import annotations

import contextlib
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.app import Gateway
from gateway.cli.logs import configure_logging
from gateway.config.loader import read
from gateway.config.units import format_duration, parse_duration
from gateway.process.run import serve

if TYPE_CHECKING:
    from collections.abc import Iterator

VERDICT_SECONDS = 0.5
STOP_SECONDS = 10
LOG_NAME = "devices-sim.log"
MIN_DEVICES_FOR_FAULTS = 20
"""From so many devices on, the simulator's scenario ``demo`` has all of its faulty devices."""
UNITS = {
    "temp": "°C",
    "hum": "%",
    "speed": "km/h",
    "heading": "°",
    "battery": "%",
    "soil": "%",
    "volts": "V",
    "x": "g",
    "y": "g",
    "z": "g",
}
OWN_SETTINGS: dict[str, Any] = {
    "limits": {"readings_per_second": 100_000, "burst": 1_000_000},
    "profiles": {"default": {"fields": {name: {"unit": unit} for name, unit in UNITS.items()}}},
}
"""Settings that a file given by --config replaces: limits that let the history come in at once, and units."""


def duration(_context: click.Context, _parameter: click.Parameter, value: str) -> float:
    """Callback of an option that is a duration: seconds."""
    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


class _Devices:
    """The simulated devices, once they are started."""

    def __init__(self, count: int, history: float, log: Path) -> None:
        self._count = count
        self._history = history
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False
        """Whether `stop` was called: then it is no error when the process ends."""

    def start(self, url: str) -> None:
        """Start the devices, which connect to the gateway at ``url``."""
        command = [sys.executable, "-m", "devices_sim", "run", "--url", url.replace("http", "ws", 1)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own module, by the interpreter that runs us
                [*command, "--devices", str(self._count), "--scenario", "demo", "--history", f"{self._history}s"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        threading.Thread(target=self._watch, args=(self._process,), daemon=True).start()

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        code = process.wait()
        # Ctrl-C on a terminal reaches it too. It ends with 0 if all that it sent has a verdict by then.
        if not self._stopping and code not in {0, -signal.SIGINT, -signal.SIGTERM}:
            click.echo(f"The simulated devices ended with exit code {code}; {self._log} says why.", err=True)

    def stop(self) -> None:
        """End the process and wait for it."""
        self._stopping = True
        if self._process is None:
            return
        # After the first signal it waits for verdicts, which a stopped gateway does not send; the second one ends it.
        for patience in (VERDICT_SECONDS, STOP_SECONDS):
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
                return
        self._process.kill()
        self._process.wait()


@click.command()
@click.option("--devices", default=20, show_default=True, type=click.IntRange(1, 100_000), help="Simulated devices.")
@click.option(
    "--history",
    callback=duration,
    metavar="DURATION",
    default="3d",
    show_default=True,
    help="How much history devices send first, one reading a minute; 0s: none.",
)
@click.option("--listen", default="127.0.0.1:8080", show_default=True, metavar="HOST:PORT", help="Where to listen.")
@click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Keep all data in this directory."
)
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Read profiles, limits and other settings from this file; by default from none.",
)
@click.pass_context
def demo(ctx: click.Context, devices: int, history: float, listen: str, data: Path | None, path: Path | None) -> None:
    """Run a gateway with an embedded database and simulated devices, until Ctrl-C.

    Any device id may connect from this machine without a token. Nothing needs to be installed or configured.
    A few devices are faulty on purpose. If DIR was used before, devices send only the history that it lacks.

    \b
    Example:  gateway demo --devices 50 --data ./demo-data
    """
    admin_token = secrets.token_urlsafe(16)
    with _directory(data) as directory:
        overrides = _overrides(directory, listen, admin_token) | ({} if path else OWN_SETTINGS)
        config = read(path, {}, overrides, serving=True).config
        configure_logging(config)
        simulated = _Devices(devices, history, directory / LOG_NAME)

        def ready(url: str) -> None:
            simulated.start(url)
            click.echo(_where_to_look(url, devices, directory, admin_token, kept=data is not None))
            click.echo(_what_comes(devices, history))

        try:
            code = serve(Gateway(config), ready)
        finally:
            simulated.stop()
    ctx.exit(code)


@contextlib.contextmanager
def _directory(data: Path | None) -> Iterator[Path]:
    if data is not None:
        data.mkdir(parents=True, exist_ok=True)
        yield data.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="gateway-demo-") as directory:
        yield Path(directory)


def _overrides(directory: Path, listen: str, admin_token: str) -> dict[str, Any]:
    return {
        "server": {"listen": listen},
        "auth": {"mode": "open", "admin_token": admin_token, "viewer_token": None},
        "sink": "sqlite",
        "state": {"directory": str(directory)},
        "spool": {"directory": "spool"},
        "sqlite": {"path": "telemetry.db"},
        "logging": {"level": "warning", "format": "console"},
    }


def _where_to_look(url: str, devices: int, directory: Path, admin_token: str, *, kept: bool) -> str:
    query = "SELECT time, device, field, value FROM readings ORDER BY time_ns DESC LIMIT 10"
    kept_text = "kept" if kept else "gone when the demo ends; --data DIR keeps them"
    return f"""\
The gateway listens on {url} and {devices} simulated devices send to it.

  Page      {url}/
  Admin     log in there with {admin_token} to change things;
            curl -H 'Authorization: Bearer {admin_token}' ... does so too
  Devices   {url}/v1/devices
  Health    {url}/healthz
  Metrics   {url}/metrics
  Database  sqlite3 {directory / "telemetry.db"} "{query}"
  Files     {directory} ({kept_text}); the simulator writes to {LOG_NAME} there
"""


def _what_comes(devices: int, history: float) -> str:
    lines = []
    if history:
        lines.append(
            f"The devices first send what is missing of their last {format_duration(history)}; this takes some seconds."
        )
    if devices >= MIN_DEVICES_FOR_FAULTS:
        lines.append(
            "Faulty on purpose: a room that hangs, a truck on poor radio, a slow field, a press that sends wrong types."
        )
    return "\n".join([*lines, "Ctrl-C ends it."])
