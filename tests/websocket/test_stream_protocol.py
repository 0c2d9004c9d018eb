"""The protocol beside stock Tornado's, and the private names it needs of Tornado."""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
import tornado.util
import tornado.websocket
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from tornado.iostream import StreamClosedError
from tornado.web import Application
from tornado.websocket import WebSocketHandler, WebSocketProtocol13, _WebSocketParams

from gateway.websocket import handler as websocket
from gateway.websocket import stream_protocol, transport_stream
from tests.support.legal_streams import BINARY, PING, PONG, TEXT, chunked, legal_streams
from tests.support.streams import Recorder, close_frame

if TYPE_CHECKING:
    from tests.support.legal_streams import Said
    from tests.websocket.conftest import Serve

LIMIT = 1 << 20

PRIVATE = {
    "WebSocketProtocol13": {
        "_abort",
        "_compressor",
        "_decompressor",
        "_receive_frame_loop",
        "_send_pong",
        "_write_frame",
    },
    "WebSocketHandler": {"_detach_stream", "_headers"},
    "tornado.websocket": {"_DecompressTooLargeError", "_WebSocketParams"},
    "tornado.util": {"_websocket_mask"},
}
"""Every private name of Tornado that the server uses: look at each of them before allowing a new version."""


def names_of_tornado() -> dict[str, set[str]]:
    """The private names that Tornado has in each of those places."""
    line = RequestStartLine("GET", "/", "HTTP/1.1")
    request = HTTPServerRequest(start_line=line, headers=HTTPHeaders({"Host": "x"}), connection=Mock())
    places = {
        "WebSocketProtocol13": WebSocketProtocol13(Mock(), False, _WebSocketParams()),
        "WebSocketHandler": WebSocketHandler(Application(), request),
        "tornado.websocket": tornado.websocket,
        "tornado.util": tornado.util,
    }
    return {
        place: {name for name in dir(thing) if name.startswith("_") and not name.startswith("__")}
        for place, thing in places.items()
    }


def names_in(path: Path) -> set[str]:
    """Every name that a module defines, imports or looks up."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.alias):
            found.add(node.name)
    return found


def test_tornado_has_every_private_name_that_is_used() -> None:
    has = names_of_tornado()
    assert [name for place, names in PRIVATE.items() for name in names - has[place]] == []


def test_no_other_private_name_of_tornado_is_used_or_redefined() -> None:
    modules = (stream_protocol, transport_stream, websocket)
    used = set().union(*(names_in(Path(str(module.__file__))) for module in modules))
    tornados = set().union(*names_of_tornado().values())
    assert used & tornados == set().union(*PRIVATE.values())


class InMemory:
    """The part of an `IOStream` that stock Tornado's protocol uses, over bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._closed = False
        self.io_loop = Mock()

    async def read_bytes(self, count: int) -> bytes:
        if self._closed or len(self._data) < count:
            self._closed = True
            raise StreamClosedError
        taken, self._data = self._data[:count], self._data[count:]
        return taken

    def write(self, _frame: bytes) -> Mock:
        return Mock()

    def close(self) -> None:
        self._closed = True

    def closed(self) -> bool:
        return self._closed


class Listener:
    """A handler for stock Tornado's protocol."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def on_message(self, message: str | bytes) -> None:
        self.heard.append((TEXT, message.encode()) if isinstance(message, str) else (BINARY, message))

    def on_ping(self, data: bytes) -> None:
        self.heard.append((PING, data))

    def on_pong(self, data: bytes) -> None:
        self.heard.append((PONG, data))

    def on_ws_connection_close(self, code: int | None, reason: str | None) -> None:
        self.heard.append(("close", code, reason))


def heard_by_stock_tornado(stream: bytes, *, compression: bool) -> list[tuple[Any, ...]]:
    """What a handler of stock Tornado is told of ``stream``."""
    listener = Listener()
    options = {} if compression else None
    protocol = WebSocketProtocol13(
        listener,  # type: ignore[arg-type]
        False,
        _WebSocketParams(max_message_size=LIMIT, compression_options=options),
    )
    if compression:
        protocol._create_compressors("server", {}, {})
    protocol.stream = InMemory(stream)  # type: ignore[assignment]
    loop = protocol._receive_frame_loop()
    with pytest.raises(StopIteration):
        while True:
            loop.send(None)
    return listener.heard


class Deflates(Recorder):
    def get_compression_options(self) -> dict[str, object]:
        return {}


KINDS = {"text": TEXT, "binary": BINARY, "ping": PING, "pong": PONG}


@pytest.mark.parametrize("compression", [False, True], ids=["plain", "deflate"])
def test_any_legal_stream_says_what_it_says_to_stock_tornado(serve: Serve, compression: bool) -> None:
    header = ["Sec-WebSocket-Extensions: permessage-deflate"] if compression else []
    with serve(Deflates, websocket_max_message_size=LIMIT) as server:

        @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
        @given(legal_streams(compression=compression), st.sampled_from((1000, 3000, 4999)), st.data())
        def same(case: tuple[bytes, Said], code: int, data: st.DataObject) -> None:
            stream, said = case
            stream += close_frame(code, "end ü".encode())
            stock = heard_by_stock_tornado(stream, compression=compression)
            chunks = data.draw(chunked(stream))
            with server.connect(*header, behind=chunks[0]) as peer:
                for chunk in chunks[1:]:
                    peer.send(chunk)
                heard = []
                while (event := server.event())[0] != "close":
                    heard.append((KINDS[event[0]], event[1]))
                assert peer.closed_with() == (code, "")
            assert [*heard, ("close", *event[2:])] == stock == [*said, ("close", code, "end ü")]

        same()


def test_each_record_that_is_not_whole_has_a_time_of_its_own() -> None:
    """The first second of the loop's clock is that of the opening."""

    async def opened(handler: Any) -> stream_protocol.StreamProtocol:
        return stream_protocol.StreamProtocol(handler, _WebSocketParams())

    handler = Mock(record_timeout=120.0)
    protocol = asyncio.run(opened(handler))
    protocol._loop = loop = Mock()
    handler.last_byte_at = 1.0

    def last_byte_at(now: float) -> float:
        loop.time.return_value = now
        protocol.partial_record_received()
        return handler.last_byte_at

    assert [last_byte_at(now) for now in (100.0, 219.0, 221.0, 500.0)] == [100.0, 219.0, 219.0, 219.0]
    handler.last_byte_at = 501.0
    assert [last_byte_at(now) for now in (600.0, 719.0, 721.0)] == [600.0, 719.0, 719.0]


def test_stock_tornado_still_needs_replacing() -> None:
    """What the receiver was written for; when one of these fails, look whether Tornado has learnt it."""
    unmasked = b"\x81\x01x"
    assert heard_by_stock_tornado(unmasked, compression=False) == [(TEXT, b"x"), ("close", None, None)]
    reserved_code = close_frame(1005)
    assert heard_by_stock_tornado(reserved_code, compression=False) == [("close", 1005, None)]
