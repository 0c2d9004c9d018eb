"""Devices that the gateway knows, made once for all runs."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from benchmarks.generator.devices import device_name
from gateway.state.registry import Registry

MEMORY = Path("/dev/shm")
"""Every device is a transaction with its fsync, which only costs time here."""


def make_registry(directory: Path, devices: int) -> tuple[Path, Path]:
    """A registry file, and a file with one ``device token`` a line."""
    path, tokens = directory / "registry.db", directory / "tokens"
    names = [device_name(number) for number in range(devices)]
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as quick:
        registry = Registry(Path(quick) / path.name)
        tokens.write_text("".join(f"{name} {registry.add(name)}\n" for name in names))
        registry.close()
        shutil.copy(Path(quick) / path.name, path)
    return path, tokens
