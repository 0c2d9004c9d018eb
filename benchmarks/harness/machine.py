"""What machine a run was on, and which core does what."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import statistics
import subprocess
import time
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("tornado", "uvloop", "picows", "orjson", "influxdb-client", "telemetry-gateway")
FSYNC_SAMPLES = 200
OPEN_FILES = 20000


@dataclass(frozen=True)
class Cores:
    """The core of each part; None: not pinned, which a machine with one core leaves no choice about."""

    server: int | None
    generator: int | None
    database: int | None

    @classmethod
    def of_this_machine(cls) -> Cores:
        """The server has one to itself; generator and database share where there are only two."""
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            return cls(None, None, None)
        return cls(cores[0], cores[1], cores[min(2, len(cores) - 1)])

    def keep_to_the_side(self) -> None:
        """Move this process off the server's core: it must not disturb what it measures."""
        if self.generator is not None:
            os.sched_setaffinity(0, {self.generator})


def allow_many_sockets() -> int:
    """Raise the number of open files for this process and its children; how many are allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft


def describe(directory: Path, cores: Cores) -> dict[str, Any]:
    """Hardware, kernel and versions; ``directory`` is where the runs keep their files."""
    return {
        "processor": _field("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "pinned": asdict(cores),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "virtual": "hypervisor" in _field("/proc/cpuinfo", "flags"),
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
        "load_before": round(os.getloadavg()[0], 2),
        "fdatasync_ms": _fdatasync_ms(directory),
        "python": platform.python_version(),
        "versions": _versions(),
    }


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    found["node"] = _said("node", "--version")
    found["victoria-metrics"] = _said("dpkg-query", "-W", "-f", "${Version}", "victoria-metrics")
    return found


def _said(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout.strip()


def _fdatasync_ms(directory: Path) -> float:
    """Median time of appending 4 KiB with a sync: no group commit can be faster."""
    path, taken = directory / "fdatasync", []
    with path.open("wb", buffering=0) as file:
        for _ in range(FSYNC_SAMPLES):
            start = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - start)
    path.unlink()
    return round(statistics.median(taken) * 1000, 3)
