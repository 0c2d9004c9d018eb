"""A real gateway for tests: a child process on a free port, stopped by its id."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from tests.support import modes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

START_SECONDS = 30
STOP_SECONDS = 20


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 20) -> Any:
    """Ask until ``condition`` answers with something true, which is returned."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)
    return found


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``over``, section by section."""
    result = dict(base)
    for key, value in over.items():
        section = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if section else value
    return result


def config_for(directory: Path, over: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration that keeps everything below ``directory``: SQLite, open to any device id on loopback."""
    base = {
        "server": {"listen": "127.0.0.1:0"},
        "auth": {"mode": "open", "admin_token": "admin-token-for-tests-0123456789"},
        "spool": {"directory": str(directory / "spool")},
        "state": {"directory": str(directory / "state")},
        "sink": "sqlite",
        "sqlite": {"path": str(directory / "data.db")},
        "batch": {"max_age": "100ms"},
    }
    if modes.TLS:
        certificate, key = modes.certificate()
        base = merged(base, {"server": {"tls": {"certificate": str(certificate), "key": str(key)}}})
    return merged(base, over)


@dataclass
class RunningGateway:
    """A gateway that answers at ``url``; ``log`` is what it wrote so far."""

    process: subprocess.Popen[bytes]
    url: str
    directory: Path
    config: Path
    log_path: Path

    @property
    def ws(self) -> str:
        """The base of device URLs."""
        return self.url.replace("http", "ws", 1)

    @property
    def log(self) -> str:
        """What the gateway has logged so far."""
        return self.log_path.read_text()

    def request(self, path: str, *, body: bytes | None = None, token: str | None = None) -> tuple[int, Any]:
        """Status and JSON body (text where it is not JSON) of one request."""
        request = urllib.request.Request(self.url + path, data=body)
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                status, text = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                status, text = error.code, error.read().decode()
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text

    def dial(self) -> socket.socket:
        """A client's socket to it, TLS where it speaks TLS."""
        address = urllib.parse.urlsplit(self.url)
        plain = socket.create_connection((address.hostname, address.port), timeout=20)
        if not modes.TLS:
            return plain
        return ssl.create_default_context().wrap_socket(plain, server_hostname=address.hostname)

    def keep_alive(self) -> http.client.HTTPConnection:
        """A connection for several requests."""
        address = urllib.parse.urlsplit(self.url)
        kind = http.client.HTTPSConnection if modes.TLS else http.client.HTTPConnection
        return kind(str(address.hostname), address.port, timeout=20)

    def device(self, device: str) -> dict[str, Any]:
        """The device as the API shows it."""
        status, body = self.request(f"/v1/devices/{device}")
        assert status == 200, body
        return dict(body)

    def ledger(self, device: str) -> dict[str, int]:
        """The device's account."""
        return _plausible(self.device(device)["ledger"])

    def settled(self, device: str, seconds: float = 20) -> dict[str, int]:
        """The device's account once nothing of it is pending and all accounts agree with the spool."""
        wait_for(lambda: self.ledger(device)["pending"] == 0, f"{device} to be delivered", seconds)
        self.accounts()
        return self.ledger(device)

    def pending(self) -> int:
        """The readings that wait in the spool, as the spool counts them."""
        return int(self.request("/readyz")[1]["spool"]["pending_readings"])

    def accounts(self) -> dict[str, dict[str, int]]:
        """All accounts, by device, once what pends in them is what waits in the spool.

        A column that is too large or too small would make the difference: ``pending`` is what the others leave over.
        """
        return dict(wait_for(self._accounts_like_the_spool, "what pends by the ledger to be what waits in the spool"))

    def _accounts_like_the_spool(self) -> dict[str, dict[str, int]] | None:
        before, devices, total = self.pending(), [], 1
        while len(devices) < total:
            _, page = self.request(f"/v1/devices?limit=1000&offset={len(devices)}")
            devices, total = devices + page["devices"], page["total"]
        accounts = {device["id"]: _plausible(device["ledger"]) for device in devices}
        pending = sum(sums["pending"] for sums in accounts.values())
        return accounts if before == pending == self.pending() else None

    def metric(self, sample: str) -> float:
        """The value of a line of /metrics, as ``name`` or ``name{label="value"}``; 0 where there is none yet."""
        status, text = self.request("/metrics")
        assert status == 200, text
        found = [line.rpartition(" ")[2] for line in text.splitlines() if line.rpartition(" ")[0] == sample]
        return float(found[0]) if found else 0.0

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a ``gateway`` command with this gateway's configuration."""
        return subprocess.run(
            [sys.executable, "-m", "gateway", *arguments, "--config", str(self.config)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the exit code."""
        self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS)


def _plausible(sums: Mapping[str, int]) -> dict[str, int]:
    assert min(sums.values()) >= 0, sums
    return dict(sums)


@contextlib.contextmanager
def launched_gateway(
    directory: Path, over: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """The process alone, which may not listen yet, or never will; its log is ``gateway.log`` in ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    config = directory / "config.yaml"
    config.write_text(yaml.safe_dump(config_for(directory, over or {})))
    with (directory / "gateway.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "run", "--config", str(config)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environ or {})},
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@contextlib.contextmanager
def running_gateway(
    directory: Path, over: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> Iterator[RunningGateway]:
    """A gateway with its data in ``directory``; started again in the same directory it finds them again."""
    log_path = directory / "gateway.log"
    start = log_path.stat().st_size if log_path.exists() else 0
    with launched_gateway(directory, over, environ) as process:
        url = wait_for(lambda: _listening(process, log_path, start), "the gateway to listen", START_SECONDS)
        yield RunningGateway(process, url, directory, directory / "config.yaml", log_path)


def _listening(process: subprocess.Popen[bytes], log_path: Path, start: int) -> str | None:
    text = log_path.read_bytes()[start:].decode()
    assert process.poll() is None, f"the gateway ended:\n{text}"
    _, found, rest = text.partition("listening on ")
    return rest.split(",")[0] if found and "," in rest else None
