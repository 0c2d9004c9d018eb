"""Autobahn's test suite for WebSocket servers, by PyPI's kosoku, against the echo server beside this file.

All 301 cases on framing, UTF-8, closing and large messages, and a fair share of those on compression, on the
fastest loop; the 247 quick ones on plain asyncio and over TLS. ``autobahn.py`` runs whatever else one wants to see.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.modes import FASTEST, LOOPS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HERE = Path(__file__).parent
PATIENCE = 120.0
QUICK = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"]
LARGE = ["9.*"]
COMPRESSION = [
    f"{group}.{part}.{case}"
    for group, parts in ((12, 5), (13, 7))
    for part in range(1, parts + 1)
    for case in (1, 3, 6)
]
PASSED = {"OK", "NON-STRICT", "INFORMATIONAL"}
LATE = {"6.4.1", "6.4.2", "6.4.3", "6.4.4"}
"""Text is checked when it is whole, so invalid UTF-8 is not refused in the middle of a message: allowed, not strict."""


@contextlib.asynccontextmanager
async def echo_server(*options: str) -> AsyncIterator[str]:
    """The address of an echo server with these options."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, HERE / "echo.py", "0", *options, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), PATIENCE)
        yield line.decode().strip()
    finally:
        process.kill()
        await process.wait()


async def run_cases(address: str, cases: list[str]) -> dict[str, Any]:
    """The verdict on each case."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, HERE / "autobahn.py", address, *cases, stdout=subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    found: dict[str, Any] = json.loads(output)
    return found


def judge(verdicts: dict[str, Any]) -> None:
    failed = {case: verdict for case, verdict in verdicts.items() if not PASSED.issuperset(verdict[:2])}
    assert failed == {}
    assert {case for case, verdict in verdicts.items() if "NON-STRICT" in verdict[:2]} <= LATE


@pytest.mark.slow
def test_all_but_the_longest_cases_on_the_fastest_loop() -> None:
    async def run() -> dict[str, Any]:
        async with echo_server("--loop", FASTEST) as address:
            return await run_cases(address, QUICK + LARGE + COMPRESSION)

    verdicts = asyncio.run(run())
    assert len(verdicts) == 337
    judge(verdicts)


def test_the_quick_cases_on_asyncio() -> None:
    async def run() -> dict[str, Any]:
        async with echo_server("--loop", "asyncio") as address:
            return await run_cases(address, QUICK)

    verdicts = asyncio.run(run())
    assert len(verdicts) == 247
    judge(verdicts)


@pytest.mark.parametrize("loop", LOOPS)
def test_the_quick_cases_over_tls(loop: str) -> None:
    async def run() -> dict[str, Any]:
        async with echo_server("--loop", loop, "--tls") as address:
            return await run_cases(address, QUICK)

    verdicts = asyncio.run(run())
    assert len(verdicts) == 247
    judge(verdicts)
