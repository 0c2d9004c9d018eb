"""An echo server on `StreamHandler`, for conformance suites: ``echo.py PORT [--loop asyncio|uvloop] [--tls]``.

PORT 0 picks a free one; the address is printed once it listens.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import sys
import tempfile
from functools import partial
from pathlib import Path

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

sys.path.insert(0, str(Path(__file__).parents[2]))

from gateway.websocket.handler import StreamHandler
from tests.support.certificate import make_certificate
from tests.support.modes import FASTEST, LOOPS, new_event_loop

LARGEST_MESSAGE = 64 * 1024 * 1024


class Echo(StreamHandler):
    """Sends every message back, waiting for a peer that is slow to take it."""

    def get_compression_options(self) -> dict[str, object]:
        return {}

    async def on_message(self, message: str | bytes) -> None:
        await self.write_message(message, binary=isinstance(message, bytes))


def server_context() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.TemporaryDirectory() as directory:
        context.load_cert_chain(*make_certificate(Path(directory)))
    return context


async def serve(port: int, *, tls: bool) -> None:
    application = Application([("/.*", Echo)], websocket_max_message_size=LARGEST_MESSAGE)
    server = HTTPServer(application, ssl_options=server_context() if tls else None)
    sockets = bind_sockets(port, "127.0.0.1")
    server.add_sockets(sockets)
    print(f"{'wss' if tls else 'ws'}://127.0.0.1:{sockets[0].getsockname()[1]}", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--loop", choices=LOOPS, default=FASTEST)
    parser.add_argument("--tls", action="store_true")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=partial(new_event_loop, arguments.loop)) as runner:
        runner.run(serve(arguments.port, tls=arguments.tls))


if __name__ == "__main__":
    main()
