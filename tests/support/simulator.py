"""The simulator: in a child process as its users run it, or in the process of the test."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devices_sim.run import Display, Outcome, Plan, Source, conduct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from devices_sim.network import Network
    from devices_sim.tally import Tally

PATIENCE = 60.0


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
    """Run ``devices-sim COMMAND ...`` with a report in ``directory``; it does not outlive the block.

    Its devices wait for their last verdicts longer than a user's do: a busy machine may need that.
    """
    report = directory / "report.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "devices_sim", command, "--grace", "60s", *arguments, "--report", str(report)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield Simulation(process, report)
    finally:
        process.kill()
        process.communicate()


class Silent:
    """No progress."""

    def progress(self, *_: object) -> None:
        pass


async def conducted(
    plan: Plan,
    build: Callable[[Network, str], Sequence[Source]],
    *,
    until: Callable[[Tally], Any] | None = None,
    display: Display | None = None,
) -> Outcome:
    """Conduct a run in this process.

    With ``until`` the readings end when it holds, as by Ctrl-C, and not after some time: a busy machine needs longer.
    """
    tallies: list[Tally] = []

    def watched(network: Network, boot: str) -> Sequence[Source]:
        tallies.append(network.tally)
        return build(network, boot)

    async def interrupt() -> None:
        while until is not None and not (tallies and until(tallies[0])):  # noqa: ASYNC110 - counts have no event
            await asyncio.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)

    async with asyncio.timeout(PATIENCE):
        ending = asyncio.ensure_future(interrupt()) if until is not None else None
        try:
            return await conduct(plan, watched, display or Silent())
        finally:
            if ending is not None:
                ending.cancel()


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
