"""The servers of the comparison: how each is started, and what is expected of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness.ports import free_port, wait_listening
from benchmarks.harness.process import Child

if TYPE_CHECKING:
    from collections.abc import Callable

RIVALS = Path(__file__).parent.parent / "rivals"
START_SECONDS = 60.0
STREAM = "/v1/devices/{device}/stream"


class ServerError(Exception):
    """A server that cannot be had here, or did not start."""


@dataclass(frozen=True)
class Setting:
    """What a server is started with: a ``directory`` of its own, the database, TLS files or none, and the registry."""

    directory: Path
    port: int
    database_url: str
    certificate: tuple[Path, Path] | None
    registry: Path


@dataclass(frozen=True)
class Kind:
    """One of the compared. ``stores``: the readings go to the database. ``acks``: it speaks the device protocol."""

    name: str
    label: str
    command: Callable[[Setting], list[str]]
    path: str = STREAM
    stores: bool = False
    acks: bool = False
    npm: Path | None = None


def _gateway(setting: Setting) -> list[str]:
    directory = setting.directory
    state = directory / "state"
    state.mkdir()
    shutil.copy(setting.registry, state / "registry.db")
    config: dict[str, Any] = {
        "server": {"listen": f"127.0.0.1:{setting.port}"},
        "auth": {"mode": "token"},
        "spool": {"directory": str(directory / "spool"), "max_bytes": "8GiB"},
        "state": {"directory": str(state)},
        "sink": "influxdb",
        "influxdb": {"url": setting.database_url, "api": "v2", "token": "telemetry"},
    }
    if setting.certificate:
        certificate, key = setting.certificate
        config["server"]["tls"] = {"certificate": str(certificate), "key": str(key)}
    path = directory / "config.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    return [sys.executable, "-m", "gateway", "run", "--config", str(path)]


def _tornado(setting: Setting) -> list[str]:
    files = [str(path) for path in setting.certificate or ()]
    return [sys.executable, str(RIVALS / "tornado_counts.py"), str(setting.port), *files]


def _tutorial(setting: Setting) -> list[str]:
    return [sys.executable, str(RIVALS / "tutorial.py"), str(setting.port), setting.database_url]


def _picows(setting: Setting) -> list[str]:
    return [sys.executable, str(RIVALS / "picows_parses.py"), str(setting.port)]


def _picows_acks(setting: Setting) -> list[str]:
    files = [str(path) for path in setting.certificate or ()]
    return [sys.executable, str(RIVALS / "picows_acks.py"), str(setting.port), *files]


def _node(setting: Setting) -> list[str]:
    return ["node", str(RIVALS / "node_ws" / "server.js"), str(setting.port), setting.database_url]


def _node_red(setting: Setting) -> list[str]:
    home = RIVALS / "node_red"
    environ = [f"PORT={setting.port}", f"DATABASE_URL={setting.database_url}"]
    program = str(home / "node_modules" / "node-red" / "red.js")
    arguments = ["--settings", str(home / "settings.js"), "--userDir", str(setting.directory)]
    return ["env", *environ, "node", program, *arguments]


KINDS = {
    kind.name: kind
    for kind in (
        Kind("gateway", "this gateway", _gateway, stores=True, acks=True),
        Kind("picows", "picows", _picows),
        Kind("picows-acks", "picows with acks", _picows_acks, acks=True),
        Kind("tornado", "Tornado", _tornado),
        Kind("tutorial", "Tornado + influxdb-client", _tutorial, stores=True),
        Kind("node", "Node.js ws + client", _node, stores=True, npm=RIVALS / "node_ws"),
        Kind("node-red", "Node-RED", _node_red, path="/telemetry", stores=True, npm=RIVALS / "node_red"),
    )
}
"""By the name that the command line and the results use; README.md says what each one does."""


def install(kind: Kind) -> None:
    """Have npm fetch what a rival needs, once.

    Raises:
        ServerError: it cannot be had on this machine.
    """
    if kind.npm is None or (kind.npm / "node_modules").exists():
        return
    if shutil.which("npm") is None:
        raise ServerError(f"{kind.label} needs npm: apt-get install npm")
    command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(command, cwd=kind.npm, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise ServerError(f"npm could not install {kind.label}:\n{done.stderr[-1000:]}")


class Server(Child):
    """A server that accepts connections."""

    def __init__(self, kind: Kind, setting: Setting, core: int | None) -> None:
        self.kind = kind
        self.port = setting.port
        super().__init__(kind.command(setting), core=core, log=setting.directory / "server.log")
        if not wait_listening(self.port, lambda: self.alive, START_SECONDS):
            tail = self.tail()
            self.stop()
            raise ServerError(f"{kind.label} did not start (exit code {self.process.returncode}):\n{tail}")


def setting_for(directory: Path, database_url: str, certificate: tuple[Path, Path] | None, registry: Path) -> Setting:
    """A setting with a directory and a port of its own."""
    directory.mkdir()
    return Setting(directory, free_port(), database_url, certificate, registry)
