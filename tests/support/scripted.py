"""An HTTP server that answers as a test tells it to, for what no real database can be brought to say on demand.

With an ``upstream`` it can also stand before a real database, and let that one answer.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections import deque
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

import urllib3

if TYPE_CHECKING:
    from collections.abc import Mapping
    from email.message import Message

HANG_LIMIT = 30.0


@dataclass(frozen=True)
class Reply:
    """One answer. ``hang``: none until the server is closed; ``cut``: the connection ends without one.

    ``forward``: the upstream gets the request, and the answer is its own. ``torn``: the connection ends after so
    many bytes of the answer. ``drip``: seconds between its bytes.
    """

    status: int = 204
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    hang: bool = False
    cut: bool = False
    forward: bool = False
    torn: int | None = None
    drip: float = 0.0

    def encoded(self) -> bytes:
        """The bytes of the answer."""
        length = {} if self.status == 204 else {"Content-Length": str(len(self.body))}
        head = [f"HTTP/1.1 {self.status} {http.client.responses.get(self.status, '')}"]
        head += [f"{name}: {value}" for name, value in {**self.headers, **length}.items()]
        return "\r\n".join([*head, "", ""]).encode() + self.body


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    method: str
    path: str
    headers: Message
    body: bytes


class ScriptedServer:
    """Gives its replies in order, the last one for ever; ``requests`` is what it was sent.

    ``taken`` are those that were answered with a 204, whole or not.
    """

    def __init__(self, *replies: Reply, upstream: str = "") -> None:
        self.replies = deque(replies)
        self.upstream = urllib3.PoolManager(retries=False, timeout=30.0)
        self.upstream_url = upstream
        self.requests: list[Request] = []
        self.taken: list[Request] = []
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self.upstream.clear()

    def says(self, *replies: Reply) -> None:
        """Give these replies from now on."""
        self.replies = deque(replies)

    def _next(self) -> Reply:
        return self.replies.popleft() if len(self.replies) > 1 else self.replies[0]

    def _forwarded(self, request: Request, reply: Reply) -> Reply:
        headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
        target = self.upstream_url + request.path
        answer = self.upstream.request(request.method, target, body=request.body, headers=headers, decode_content=False)
        kept = {
            name: value
            for name, value in answer.headers.items()
            if name.lower() not in {"content-length", "transfer-encoding", "connection"}
        }
        return replace(reply, status=answer.status, headers=kept, body=answer.data)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 5  # lets the server close although a client keeps its connection

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                request = Request(self.command, self.path, self.headers, body)
                scripted.requests.append(request)
                reply = scripted._next()
                if reply.hang:
                    scripted._closing.wait(HANG_LIMIT)
                if reply.forward:
                    reply = scripted._forwarded(request, reply)
                if reply.hang or reply.cut:
                    self.close_connection = True
                    return
                if reply.status == 204:
                    scripted.taken.append(request)
                data = reply.encoded()
                if reply.torn is not None:
                    self.close_connection = True
                    data = data[: reply.torn]
                with contextlib.suppress(ConnectionError):  # a client that did not wait for it
                    for piece in [data[n : n + 1] for n in range(len(data))] if reply.drip else [data]:
                        self.wfile.write(piece)
                        scripted._closing.wait(reply.drip)

            do_GET = do_POST = answer  # noqa: N815 - names of http.server

            def log_message(self, *_: object) -> None:
                pass

        return Handler
