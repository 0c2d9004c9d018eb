"""Disk faults for real processes: a small file system, and system calls that fail or are slow.

Both need root: without it the calling test is skipped, and fails where ``CI=true``.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.servers import binary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ATTACH_SECONDS = 20


def need_root(what: str) -> None:
    if os.geteuid() != 0:
        message = f"{what} needs root"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)


@contextlib.contextmanager
def small_disk(directory: Path, size: str) -> Iterator[Path]:
    """A file system of ``size`` (as in ``4m``) in memory, mounted at ``directory``."""
    need_root("mounting a file system")
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", directory], check=True)


def remount(directory: Path, how: str) -> None:
    """Mount it again, ``ro`` or ``rw``."""
    subprocess.run(["mount", "-o", f"remount,{how}", directory], check=True)


@contextlib.contextmanager
def failing_calls(pid: int, calls: str, error: str, scratch: Path, when: str = "1+") -> Iterator[None]:
    """Inside the block system ``calls`` of a process fail with ``error``; ``when`` says which ones of each thread."""
    with _injected(pid, calls, f"error={error}:when={when}", scratch):
        yield


@contextlib.contextmanager
def slow_calls(pid: int, calls: str, seconds: float, scratch: Path) -> Iterator[None]:
    """Inside the block the system ``calls`` of a process take ``seconds`` longer."""
    with _injected(pid, calls, f"delay_enter={seconds * 1e6:.0f}", scratch):
        yield


@contextlib.contextmanager
def _injected(pid: int, calls: str, fault: str, scratch: Path) -> Iterator[None]:
    need_root("injecting faults into system calls")
    log = scratch / f"strace-{time.monotonic_ns()}"
    command = [binary("strace", "strace"), "-f", "-p", str(pid), "-o", os.devnull]
    with log.open("wb") as errors:
        tracer = subprocess.Popen([*command, "-e", f"trace={calls}", "-e", f"inject={calls}:{fault}"], stderr=errors)
    try:
        deadline = time.monotonic() + ATTACH_SECONDS
        while b"attached" not in log.read_bytes():
            assert tracer.poll() is None, log.read_text()
            assert time.monotonic() < deadline, "strace did not attach"
            time.sleep(0.01)
        yield
    finally:
        tracer.terminate()  # detaches; the traced process goes on
        tracer.wait(ATTACH_SECONDS)
