"""One run's processes: a database, a server and the devices, and waiting for the server to have done its work."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from benchmarks.generator.orders import Target
from benchmarks.harness.database import Database
from benchmarks.harness.driver import Driver
from benchmarks.harness.registry import make_registry
from benchmarks.harness.servers import Server, setting_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.cases.load import Load
    from benchmarks.harness.machine import Cores
    from benchmarks.harness.servers import Kind

POLL = 0.25
BUSY = 0.08
"""Share of a core below which a server has nothing left to do: timers alone stay under it."""
SATURATED = 0.8
"""Share of a core above which it still works off what it has not read yet."""
QUIET_POLLS = 6
"""Polls without work before a server counts as settled: longer than any of them waits to fill a batch."""
STALLED_SECONDS = 8.0
DRAIN_SECONDS = 180.0
SETTLE_SECONDS = 30.0
CONNECT_SECONDS = 180.0


@dataclass(frozen=True)
class Drained:
    """How a server finished, in monotonic seconds.

    ``taken``: it no longer had more to do than it could, so it had read what was sent. ``at``: the last work that was
    seen, by when the database had got ``rows`` values in all.
    """

    taken: float
    at: float
    rows: int


class Stage:
    """The processes of one run, all started and none busy."""

    def __init__(self, bench: Bench, server: Server, database: Database, directory: Path) -> None:
        self.bench = bench
        self.server = server
        self.database = database
        self._directory = directory
        self._drivers = count()

    def driver(self) -> Driver:
        """A new generator; use it in a ``with``."""
        return Driver(self.bench.cores.generator, self._directory / f"generator{next(self._drivers)}.log")

    def target(self, load: Load) -> Target:
        """The server, as the devices have to know it."""
        kind = self.server.kind
        tokens = str(self.bench.tokens) if kind.acks else ""
        return Target(self.server.port, kind.path, load.connections, load.form, load.tls, kind.acks, tokens)

    def connected(self, driver: Driver, load: Load) -> float:
        """Connect the devices and wait until the server is quiet; how many seconds the connecting took."""
        seconds = float(driver.connect(self.target(load), CONNECT_SECONDS)["seconds"])
        self.settle()
        return seconds

    def settle(self) -> None:
        """Wait until the server has had nothing to do for a while."""
        deadline, quiet = time.monotonic() + SETTLE_SECONDS, 0
        for share, grew in self._polls():
            quiet = 0 if share > BUSY or grew else quiet + 1
            if quiet >= QUIET_POLLS or time.monotonic() > deadline:
                return

    def drain(self, rows: int) -> Drained:
        """Wait until the database has got ``rows`` values in all and the server is quiet, or nothing moves any more."""
        start = taken = last = time.monotonic()
        stored, saturated = self.database.rows(), True
        for share, grew in self._polls():
            now = time.monotonic()
            saturated = saturated and share > SATURATED
            taken = now if saturated else taken
            if share > BUSY or grew:
                stored, last = self.database.rows(), now
            elif stored >= rows or now - last > STALLED_SECONDS:
                break
            if now - start > DRAIN_SECONDS:
                break
        return Drained(taken, last, stored)

    def _polls(self) -> Iterator[tuple[float, bool]]:
        """Every `POLL` seconds: the server's share of its core since the last time, and did the database get more."""
        cpu, rows, at = self.server.cpu(), self.database.rows(), time.monotonic()
        while True:
            time.sleep(POLL)
            cpu_now, rows_now, now = self.server.cpu(), self.database.rows(), time.monotonic()
            yield (cpu_now - cpu) / (now - at), rows_now > rows
            cpu, rows, at = cpu_now, rows_now, now


class Bench:
    """What all runs share: a directory on a disk, the cores, the devices' tokens and a certificate."""

    def __init__(self, directory: Path, cores: Cores, devices: int) -> None:
        self.directory = directory
        self.cores = cores
        self.registry, self.tokens = make_registry(directory, devices)
        self.certificate = _certificate(directory)
        self._runs = count()

    @contextlib.contextmanager
    def stage(self, kind: Kind, *, tls: bool = False, database: bool = True) -> Iterator[Stage]:
        """Start a database (unless it is to come later) and a server; both and their files are gone afterwards."""
        directory = self.directory / f"run{next(self._runs)}"
        directory.mkdir()
        with contextlib.ExitStack() as cleaning:
            cleaning.callback(shutil.rmtree, directory)
            store = cleaning.enter_context(Database(directory / "database", self.cores.database))
            if database and kind.stores:
                store.start()
            certificate = self.certificate if tls else None
            setting = setting_for(directory / "server", store.url, certificate, self.registry)
            server = cleaning.enter_context(Server(kind, setting, self.cores.server))
            yield Stage(self, server, store, directory)


def _certificate(directory: Path) -> tuple[Path, Path]:
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    subprocess.run([*command, "-out", certificate, "-keyout", key], check=True, capture_output=True)
    return certificate, key
