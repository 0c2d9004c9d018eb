"""Tornado's own WebSocketHandler, doing nothing but count: ``tornado_counts.py PORT [CERTIFICATE KEY]``."""

from __future__ import annotations

import asyncio
import ssl
import sys

from tornado.httpserver import HTTPServer
from tornado.web import Application
from tornado.websocket import WebSocketHandler


class Stream(WebSocketHandler):
    count = 0

    def on_message(self, message: str | bytes) -> None:
        Stream.count += 1


async def main(port: int, *tls: str) -> None:
    context = None
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*tls)
    application = Application(
        [(r"/v1/devices/([^/]+)/stream", Stream)],
        websocket_ping_interval=20,
        websocket_ping_timeout=10,
    )
    HTTPServer(application, ssl_options=context).listen(port, "127.0.0.1", backlog=4096)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), *sys.argv[2:]))
