"""A child process on a core of its own, and its figures in /proc.

Rules that hold here:

* Only a process started here is ever signalled, by its own id.
* CPU time is that of the process, all its threads, and its children dead or alive: work that a server gives
  to a helper counts for the server.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TICKS = os.sysconf("SC_CLK_TCK")
STOP_SECONDS = 15.0
LOG_TAIL = 2000
# Of /proc/PID/stat after the name in brackets (proc(5) counts from 1, and two fields come before these).
UTIME, CHILDREN_STIME = 11, 14


@contextlib.contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Processes started inside run on that core; None: wherever the kernel likes."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Child:
    """A started process: a context manager that ends it. Its output is in ``log`` unless its pipes are asked for."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        core: int | None,
        log: Path,
        environ: Mapping[str, str] | None = None,
        pipes: bool = False,
    ) -> None:
        self.log = log
        pipe = subprocess.PIPE if pipes else None
        with log.open("ab") as errors, on_core(core):
            self.process = subprocess.Popen(
                command,
                stdin=pipe or subprocess.DEVNULL,
                stdout=pipe or errors,
                stderr=errors,
                env={**os.environ, **(environ or {})},
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def stop(self) -> None:
        """Ask it to end; kill it if it does not."""
        if self.alive:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def tail(self) -> str:
        """The end of its output."""
        return self.log.read_text(errors="replace")[-LOG_TAIL:]

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        return sum(_cpu(pid) for pid in _family(self.process.pid))

    def rss(self) -> int:
        """Bytes of memory resident now."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in _family(self.process.pid))
        return pages * os.sysconf("SC_PAGE_SIZE")


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[UTIME : CHILDREN_STIME + 1]) / TICKS


def _family(pid: int) -> list[int]:
    family = [pid]
    for parent in family:
        for task in Path(f"/proc/{parent}/task").iterdir():
            with contextlib.suppress(FileNotFoundError):  # a thread that has just ended has no children left
                family += map(int, (task / "children").read_text().split())
    return family


def core_busy(core: int | None) -> float:
    """Seconds that a core (None: all) has not been idle since boot."""
    name = "cpu" if core is None else f"cpu{core}"
    for line in Path("/proc/stat").read_text().splitlines():
        fields = line.split()
        if fields[0] == name:
            user, nice, system, _idle, _iowait, irq, softirq = (int(ticks) for ticks in fields[1:8])
            return (user + nice + system + irq + softirq) / TICKS
    raise LookupError(f"no {name} in /proc/stat")
