"""Real databases for tests, on free loopback ports in temporary directories.

Rules that hold here:

* A server is ready when the test gets it. Only the process that was started here is ended.
* A missing binary fails the test if ``CI=true``. Otherwise the test is skipped, and the message says what to install.
* `Server.stop` and `Server.start` keep port and directory, so a test can take the database away and bring it back.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
import uuid
from typing import TYPE_CHECKING, Any, NoReturn, Self
from urllib.parse import urlencode

import orjson
import pytest
import urllib3

if TYPE_CHECKING:
    from pathlib import Path

START_TIMEOUT = 30.0
STOP_TIMEOUT = 15.0

INFLUXD_CONFIG = """
reporting-enabled = false
bind-address = "127.0.0.1:0"
[meta]
  dir = "{directory}/meta"
  logging-enabled = false
[data]
  dir = "{directory}/data"
  wal-dir = "{directory}/wal"
  query-log-enabled = false
[monitor]
  store-enabled = false
[subscriber]
  enabled = false
[http]
  bind-address = "127.0.0.1:{port}"
  auth-enabled = {auth}
  log-enabled = false
"""


def binary(name: str, package: str) -> str:
    """The path of an installed program. If it is missing, the calling test fails in CI and is skipped elsewhere."""
    found = shutil.which(name)
    if found is None:
        unable(f"{name} is not installed: apt-get install {package}")
    return found


def unable(message: str) -> NoReturn:
    """Fail the calling test in CI and skip it elsewhere, because something that it needs is missing."""
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def free_port() -> int:
    """A free loopback port, outside of those that the system gives to connections.

    Linux and macOS give connections ports from 32768 or 49152 on.
    """
    while True:
        port = random.randrange(20_000, 32_768)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Server:
    """One server process: a context manager. The server is ready inside the ``with``."""

    program = ""
    package = ""
    ready_path = "/"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = directory / "server.log"
        self.http = urllib3.PoolManager(retries=False, timeout=30.0)
        self._process: subprocess.Popen[bytes] | None = None

    def arguments(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        """Start the process and wait until it answers."""
        command = [binary(self.program, self.package), *self.arguments()]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                pytest.fail(f"{self.program} did not start:\n{self.log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End the process cleanly and wait until it is gone. A second call does nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)  # a suspended process would not see the next signal
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_TIMEOUT)

    def suspend(self) -> None:
        """Freeze the process: connections are accepted by the kernel and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `suspend`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        try:
            return self.http.request("GET", self.url + self.ready_path, timeout=2.0).status < 300
        except urllib3.exceptions.HTTPError:
            return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.http.clear()


class Influxd(Server):
    """InfluxDB 1.6.7 as Debian ships it. With ``auth`` it has an administrator, with the name and password below."""

    program = "influxd"
    package = "influxdb"
    ready_path = "/ping"
    admin = "admin"
    password = "correct horse: battery"

    def __init__(self, directory: Path, *, auth: bool = False) -> None:
        super().__init__(directory)
        self.auth = auth

    def arguments(self) -> list[str]:
        config = self.directory / "influxdb.conf"
        settings = {"directory": self.directory, "port": self.port, "auth": str(self.auth).lower()}
        config.write_text(INFLUXD_CONFIG.format(**settings))
        return ["-config", str(config)]

    def start(self) -> None:
        super().start()
        if self.auth:
            self.query(f"CREATE USER {self.admin} WITH PASSWORD '{self.password}' WITH ALL PRIVILEGES")

    def create_database(self, name: str | None = None) -> str:
        """Make a database, with a new name if none is given; its name."""
        name = name or f"test_{uuid.uuid4().hex}"
        self.query(f'CREATE DATABASE "{name}"')
        return name

    def write(self, database: str, lines: bytes) -> None:
        """Write line protocol (nanoseconds) directly, without the code under test."""
        target = f"{self.url}/write?{urlencode({'db': database, 'precision': 'ns'})}"
        response = self.http.request("POST", target, body=lines, headers=self._headers())
        assert response.status == 204, response.data

    def query(self, statement: str, database: str = "") -> list[dict[str, Any]]:
        """The series of an InfluxQL statement, times in ns: ``{"name", "tags", "columns", "values"}`` each."""
        fields = {"q": statement, "db": database, "epoch": "ns"}
        response = self.http.request_encode_body(
            "POST", f"{self.url}/query", fields=fields, encode_multipart=False, headers=self._headers()
        )
        result = orjson.loads(response.data)["results"][0]
        assert "error" not in result, result["error"]
        series: list[dict[str, Any]] = result.get("series", [])
        return series

    def points(self, database: str, measurement: str) -> list[dict[str, Any]]:
        """Every point of a measurement, tags and fields by name, in order of time (``time`` in ns)."""
        quoted = measurement.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return [
            dict(zip(series["columns"], row, strict=True))
            for series in self.query(f'SELECT * FROM "{quoted}"', database)
            for row in series["values"]
        ]

    def _headers(self) -> dict[str, str]:
        return urllib3.make_headers(basic_auth=f"{self.admin}:{self.password}") if self.auth else {}


class VictoriaMetrics(Server):
    """VictoriaMetrics: takes ``/api/v2/write`` and ``/write``; a series' name is ``measurement_field``."""

    program = "victoria-metrics"
    package = "victoria-metrics"
    ready_path = "/health"

    def arguments(self) -> list[str]:
        return [
            f"-httpListenAddr=127.0.0.1:{self.port}",
            f"-storageDataPath={self.directory}/storage",
            "-retentionPeriod=100y",  # by default, points older than a month are dropped silently
            "-loggerLevel=WARN",
        ]

    def points(self, match: str) -> list[dict[str, Any]]:
        """Every series of a selector such as ``{device="d1"}``: ``{"metric", "values", "timestamps" (ms)}`` each."""
        self.http.request("GET", f"{self.url}/internal/force_flush")  # makes written points searchable
        response = self.http.request("GET", f"{self.url}/api/v1/export", fields={"match[]": match})
        assert response.status == 200, response.data
        return [orjson.loads(line) for line in response.data.splitlines()]
