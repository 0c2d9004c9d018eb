"""The database that every server writes to.

VictoriaMetrics, because it is the one in Debian that takes ``/api/v2/write``, which is what the InfluxDB clients of all
rivals speak; InfluxDB 1.6.7 answers it with 404. A new one for every run, so that no run pays for another's data.
"""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from benchmarks.harness.ports import free_port
from benchmarks.harness.process import Child

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

START_SECONDS = 30.0
ROWS = 'vm_rows_inserted_total{type="influx"} '


class DatabaseError(Exception):
    """The database did not start."""


class Database:
    """One server; its port is known before it starts, so that it can be missing for a while."""

    def __init__(self, directory: Path, core: int | None) -> None:
        directory.mkdir()
        self._directory = directory
        self._core = core
        self._child: Child | None = None
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start and wait until it answers."""
        command = ["victoria-metrics", f"-httpListenAddr=127.0.0.1:{self.port}", "-loggerLevel=WARN"]
        self._child = Child(
            [*command, f"-storageDataPath={self._directory}/storage"],
            core=self._core,
            log=self._directory / "database.log",
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._get("/health"):
            if not self._child.alive or time.monotonic() > deadline:
                raise DatabaseError(f"the database did not start:\n{self._child.tail()}")
            time.sleep(0.02)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            self._child.stop()

    def rows(self) -> int:
        """Values written so far, whether or not they overwrote another."""
        _, found, rest = self._get("/metrics").partition(ROWS)
        return int(float(rest.split("\n", 1)[0])) if found else 0

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        return self._child.cpu() if self._child is not None else 0.0

    def _get(self, path: str) -> str:
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                return str(answer.read(), "utf-8")
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            return ""
