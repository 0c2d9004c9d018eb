"""Autobahn's test suite for WebSocket servers, by PyPI's kosoku, against the echo server beside this file.

All 301 cases on framing, UTF-8, closing and large messages, and a fair share of those on compression, on uvloop; the
247 quick ones on asyncio and, through a tunnel, over TLS. ``autobahn.py`` runs whatever else one wants to see.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

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
async def echo_server(*options: str) -> AsyncIterator[int]:
    """The port of an echo server with these options."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, HERE / "echo.py", "0", *options, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), PATIENCE)
        yield int(line.decode().rpartition(":")[2])
    finally:
        process.kill()
        await process.wait()


async def run_cases(port: int, cases: list[str]) -> dict[str, Any]:
    """The verdict on each case."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, HERE / "autobahn.py", f"ws://127.0.0.1:{port}", *cases, stdout=subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    found: dict[str, Any] = json.loads(output)
    return found


@contextlib.asynccontextmanager
async def tunnel(port: int) -> AsyncIterator[int]:
    """A plain port that leads to the TLS port ``port``: kosoku has no TLS of its own."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    connections: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        try:
            await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))
        finally:
            writer.transport.abort()
            inner_writer.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(connect(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


def judge(verdicts: dict[str, Any]) -> None:
    failed = {case: verdict for case, verdict in verdicts.items() if not PASSED.issuperset(verdict[:2])}
    assert failed == {}
    assert {case for case, verdict in verdicts.items() if "NON-STRICT" in verdict[:2]} <= LATE


@pytest.mark.slow
def test_all_but_the_longest_cases_on_uvloop() -> None:
    async def run() -> dict[str, Any]:
        async with echo_server("--loop", "uvloop") as port:
            return await run_cases(port, QUICK + LARGE + COMPRESSION)

    verdicts = asyncio.run(run())
    assert len(verdicts) == 337
    judge(verdicts)


def test_the_quick_cases_on_asyncio() -> None:
    async def run() -> dict[str, Any]:
        async with echo_server("--loop", "asyncio") as port:
            return await run_cases(port, QUICK)

    verdicts = asyncio.run(run())
    assert len(verdicts) == 247
    judge(verdicts)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_quick_cases_over_tls(loop: str) -> None:
    async def run() -> dict[str, Any]:
        async with echo_server("--loop", loop, "--tls") as tls_port, tunnel(tls_port) as port:
            return await run_cases(port, QUICK)

    verdicts = asyncio.run(run())
    assert len(verdicts) == 247
    judge(verdicts)
