"""The simulator as its users run it: a child process, its summary read back."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class Simulation:
    """A ``devices-sim`` command under way; `finish` waits for its end."""

    process: subprocess.Popen[str]
    report: Path

    def end_readings(self) -> None:
        """Let the devices measure no more; they go on until the last verdict."""
        self.process.send_signal(signal.SIGINT)

    def finish(self, seconds: float) -> dict[str, Any]:
        """The report of a run that ended well."""
        output, _ = self.process.communicate(timeout=seconds)
        assert self.process.returncode == 0, output[-4000:]
        return dict(json.loads(self.report.read_text()))


@contextlib.contextmanager
def simulate(directory: Path, command: str, *arguments: str) -> Iterator[Simulation]:
    """Run ``devices-sim COMMAND ...`` with a report in ``directory``; it does not outlive the block."""
    report = directory / "report.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "devices_sim", command, *arguments, "--report", str(report)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield Simulation(process, report)
    finally:
        process.kill()
        process.communicate()


def verify(report: Path, database: str, *arguments: str) -> dict[str, Any]:
    """Assert that every acknowledged reading of a run is in the database, once; the counts that say so."""
    command = ["verify", "--report", str(report), "--database", database, "--json", *arguments]
    done = subprocess.run(
        [sys.executable, "-m", "devices_sim", *command],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout))
