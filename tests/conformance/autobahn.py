"""Run Autobahn's cases against an echo server: ``autobahn.py ADDRESS [CASE ...]``; verdicts as JSON on stdout.

All 517 cases take six minutes against ``echo.py``, nearly all of it in the compression cases 12 and 13. kosoku has no
TLS of its own: an address of ``wss:`` is reached through a tunnel in this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
import sys
from typing import TYPE_CHECKING

import kosoku

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PARALLEL = 8


@contextlib.asynccontextmanager
async def plain(address: str) -> AsyncIterator[str]:
    """A ``ws:`` address that leads to ``address``, whose certificate is not looked at."""
    scheme, _, place = address.partition("://")
    if scheme == "ws":
        yield address
        return
    host, _, port = place.partition(":")
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connections: set[asyncio.Task[None]] = set()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port), ssl=context)
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
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction of the tunnel."""
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


async def verdicts(address: str, cases: list[str]) -> dict[str, list[str]]:
    """Case to its verdict on the messages, on the close, and what was wrong."""
    async with plain(address) as reachable:
        try:
            results = await kosoku.run_fuzzingclient(reachable, cases or None, None, concurrency=PARALLEL)
        except kosoku.FailureError as failure:
            results = failure.results
    return {r.case_id: [r.behavior.value, r.behavior_close.value, r.result, r.result_close] for r in results}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(verdicts(sys.argv[1], sys.argv[2:]))), flush=True)
    os._exit(0)  # its threads sometimes abort the interpreter's orderly end
