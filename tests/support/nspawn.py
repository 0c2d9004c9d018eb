"""A machine with a real systemd: the root file system in systemd-nspawn, below an overlay that is thrown away.

It has no network but its own loopback. All mounts are in a mount namespace of their own, so that nothing is left of
them when the machine has ended, however it ended.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.servers import binary

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BOOT_SECONDS = 90
_BOOT = """
set -eu
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn
mount -t tmpfs -o mode=755 tmpfs "$1"
mkdir "$1/changes" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/changes,workdir=$1/work" "$1/root"
rm -rf "$1"/root/etc/systemd/system/*.wants
tr -d - </proc/sys/kernel/random/uuid >"$1/root/etc/machine-id"
root=$1; shift
exec systemd-nspawn --quiet --directory="$root/root" --register=no --keep-unit --private-network --link-journal=no \
    --console=pipe "$@" --boot
"""


class Machine:
    """A booted machine; `run` is a shell on it."""

    def __init__(self, leader: int) -> None:
        self._enter = ["nsenter", "--target", str(leader), "--mount", "--uts", "--ipc", "--net", "--pid"]

    def popen(self, script: str, environ: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a shell script there, in root's bare environment."""
        clean = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C"}
        return subprocess.Popen(
            [*self._enter, "bash", "-euo", "pipefail", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**clean, **(environ or {})},
        )

    def run(self, script: str, environ: Mapping[str, str] | None = None, *, seconds: float = 60) -> str:
        """What a script that succeeds prints."""
        with self.popen(script, environ) as process:
            try:
                output, _ = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert process.returncode == 0, f"{script}\n{output}\n{self._last_words()}"
        return output.strip()

    def _last_words(self) -> str:
        with self.popen("journalctl --no-pager --output=cat --lines=40") as journal:
            return journal.communicate(timeout=60)[0]


def need_nspawn() -> None:
    """Skip, in words, where `booted` cannot be tried."""
    if os.geteuid() != 0:
        pytest.skip("no real systemd was tried: systemd-nspawn needs root")
    binary("systemd-nspawn", "systemd-container")


@contextlib.contextmanager
def booted(scratch: Path, *options: str) -> Iterator[Machine]:
    """A machine that has started up; skipped, in words, where it does not."""
    scratch.mkdir()
    log = scratch.with_suffix(".log")
    with log.open("wb") as console:
        process = subprocess.Popen(
            ["unshare", "--mount", "bash", "-c", _BOOT, "boot", str(scratch), *options],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
        )
    try:
        yield _started(process, log)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()
        shutil.rmtree(scratch, ignore_errors=True)


def _started(process: subprocess.Popen[bytes], log: Path) -> Machine:
    deadline = time.monotonic() + BOOT_SECONDS
    said = ""
    while time.monotonic() < deadline and process.poll() is None:
        leader = _leader(process.pid)
        if leader is not None:
            machine = Machine(leader)
            with machine.popen("systemctl is-system-running") as asked:
                said = asked.communicate()[0].strip()
            if said in {"running", "degraded"}:
                return machine
        time.sleep(0.1)
    pytest.skip(
        f"no real systemd was tried: it does not boot in systemd-nspawn here ({said}): {log.read_text()[-500:]}"
    )


def _leader(pid: int) -> int | None:
    """The first process of the machine, once it is systemd: before that its files may still be this machine's own."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{child}/status").read_text()
            numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()
            if len(numbers) > 2 and numbers[-1] == "1" and Path(f"/proc/{child}/exe").readlink().name == "systemd":
                return int(child)
    return None
