"""What a handler of device sockets can rely on; on both loops, plain and over TLS."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import struct
import time
import weakref
import zlib
from typing import TYPE_CHECKING

import pytest

from gateway.websocket import stream_protocol
from gateway.websocket.handler import RequestSummary, StreamHandler
from gateway.websocket.stream_protocol import MAX_CONTROLS
from tests.support.streams import (
    BINARY,
    CLOSE,
    PATIENCE,
    PING,
    PONG,
    TEXT,
    Peer,
    Recorder,
    StreamServer,
    client_frame,
    close_frame,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.websocket.conftest import Serve

CONTINUATION = 0x80


def texts(*payloads: bytes) -> bytes:
    return b"".join(client_frame(TEXT, payload) for payload in payloads)


def test_every_kind_of_message(serve: Serve) -> None:
    with serve() as server, server.connect() as peer:
        peer.send(client_frame(TEXT, b'{"t":1}') + client_frame(BINARY, b"\xff") + client_frame(PING, b"p"))
        assert [server.event() for _ in range(3)] == [("text", b'{"t":1}'), ("binary", b"\xff"), ("ping", b"p")]
        assert peer.frame() == (PONG, b"p")
        handler = server.handler()
        server.call(handler.send_ping)
        assert peer.frame() == (PING, b"")
        peer.send(client_frame(PONG))
        assert server.event() == ("pong", b"")
        server.call(lambda: [handler.write_text(b"%d" % i) for i in range(3)])
        assert [peer.frame() for _ in range(3)] == [(TEXT, b"0"), (TEXT, b"1"), (TEXT, b"2")]


def test_text_is_not_checked_for_a_handler_that_does_it_itself(serve: Serve) -> None:
    with serve() as server, server.connect() as peer:
        peer.send(client_frame(TEXT, b"\xff"))
        assert server.event() == ("text", b"\xff")


class Checked(Recorder):
    """Tornado's own contract: ``on_message``, with checked text."""

    on_text = StreamHandler.on_text
    on_binary = StreamHandler.on_binary

    def on_message(self, message: str | bytes) -> None:
        self.server.events.put(("message", message))


def test_on_message_gets_checked_text_and_bytes(serve: Serve) -> None:
    with serve(Checked) as server, server.connect() as peer:
        peer.send(client_frame(TEXT, "grün".encode()) + client_frame(BINARY, b"\xff") + client_frame(TEXT, b"\xff"))
        assert [server.event(), server.event()] == [("message", "grün"), ("message", b"\xff")]
        assert peer.closed_with() == (1007, "text is not UTF-8")
        peer.send(close_frame(1007))
        assert server.event() == ("close", "server", 1007, "text is not UTF-8")


def test_bytes_that_come_with_the_handshake(serve: Serve) -> None:
    stream = texts(b"first", b"second") + client_frame(TEXT, b"third")[:4]
    with serve() as server, server.connect(behind=stream) as peer:
        assert [server.event(), server.event()] == [("text", b"first"), ("text", b"second")]
        peer.send(client_frame(TEXT, b"third")[4:])
        assert server.event() == ("text", b"third")


def test_a_close_frame_that_comes_with_the_handshake(serve: Serve) -> None:
    with serve() as server, server.connect(behind=texts(b"x") + close_frame(1000)) as peer:
        assert peer.closed_with() == (1000, "")
        assert peer.at_end()
        assert [server.event(), server.event()] == [("text", b"x"), ("close", "peer", 1000, None)]


class OpensLate(Recorder):
    async def open(self) -> None:
        super().open()
        self.write_text(b"hello")
        await asyncio.sleep(0.05)
        self.server.events.put(("opened",))


def test_no_message_comes_before_open_has_returned(serve: Serve) -> None:
    with serve(OpensLate) as server, server.connect(behind=texts(b"x")) as peer:
        peer.send(texts(b"y"))
        assert [server.event() for _ in range(3)] == [("opened",), ("text", b"x"), ("text", b"y")]
        assert peer.frame() == (TEXT, b"hello")


def test_a_frame_cut_at_every_byte(serve: Serve) -> None:
    frame = client_frame(TEXT, b"x" * 130)
    with serve() as server, server.connect() as peer:
        for cut in range(1, len(frame)):
            peer.send(frame[:cut])
            server.call(lambda: None)  # a round of the loop: it reads the first part alone, nearly always
            peer.send(frame[cut:])
            assert server.event() == ("text", b"x" * 130)


def test_any_byte_is_a_sign_of_life(serve: Serve) -> None:
    with serve() as server, server.connect() as peer:
        handler = server.handler()
        peer.send(texts(b"x"))
        server.event()
        before = server.call(lambda: handler.last_byte_at)
        time.sleep(0.002)  # uvloop's clock counts milliseconds
        peer.send(client_frame(TEXT, b"y")[:1])
        deadline = time.monotonic() + PATIENCE
        while server.call(lambda: handler.last_byte_at) == before:
            assert time.monotonic() < deadline


# How a connection ends: on_close once, with the cause and the first Close frame of either side.


def test_the_peer_closes(serve: Serve) -> None:
    with serve() as server, server.connect() as peer:
        peer.send(close_frame(3001, b"done") + texts(b"after"))
        assert peer.closed_with() == (3001, "")
        assert peer.at_end()
        assert server.event() == ("close", "peer", 3001, "done")
    assert server.events.empty()


def test_the_peer_closes_without_a_code(serve: Serve) -> None:
    with serve() as server, server.connect() as peer:
        peer.send(client_frame(CLOSE))
        assert peer.closed_with() == (None, "")
        assert server.event() == ("close", "peer", None, None)


def test_the_server_closes_and_the_peer_answers(serve: Serve) -> None:
    with serve() as server, server.connect() as peer:
        handler = server.handler()
        server.call(lambda: handler.close(4409, "replaced"))
        assert peer.closed_with() == (4409, "replaced")
        peer.send(texts(b"too late") + close_frame(4409))
        assert peer.at_end()
        assert server.event() == ("close", "server", 4409, "replaced")


def test_a_peer_that_does_not_answer_a_close_is_aborted(serve: Serve) -> None:
    with serve() as server, server.connect() as peer:
        handler = server.handler()
        start = time.monotonic()
        server.call(lambda: handler.close(4408, "silent", timeout=0.1))
        assert server.event() == ("close", "server", 4408, "silent")
        assert 0.05 < time.monotonic() - start < 5
        assert peer.closed_with() == (4408, "silent")


def test_the_peer_vanishes(serve: Serve) -> None:
    with serve() as server:
        with server.connect() as peer:
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert server.event() == ("close", "lost", None, None)


def test_the_handler_aborts(serve: Serve) -> None:
    with serve() as server, server.connect() as peer:
        handler = server.handler()
        server.call(handler.abort)
        assert peer.at_end()
        assert server.event() == ("close", "aborted", None, None)
        server.call(lambda: (handler.write_text(b"x"), handler.send_ping(), handler.close(1000), handler.abort()))
    assert server.events.empty()


def test_abort_after_close(serve: Serve) -> None:
    with serve() as server, server.connect():
        handler = server.handler()
        server.call(lambda: (handler.close(4408, "silent"), handler.abort()))
        assert server.event() == ("close", "server", 4408, "silent")


class ClosesInOpen(Recorder):
    def open(self) -> None:
        super().open()
        self.close(1013, "full")
        self.close(1000, "not this one")
        self.write_text(b"nor this")


def test_close_in_open(serve: Serve) -> None:
    with serve(ClosesInOpen) as server, server.connect(behind=texts(b"x")) as peer:
        assert peer.frame() == (CLOSE, b"\x03\xf5full")
        peer.send(close_frame(1013))
        assert peer.at_end()
        assert server.event() == ("close", "server", 1013, "full")


class AbortsInOpen(Recorder):
    def open(self) -> None:
        super().open()
        self.abort()


def test_abort_in_open(serve: Serve) -> None:
    with serve(AbortsInOpen) as server, server.connect() as peer:
        assert peer.at_end()
        assert server.event() == ("close", "aborted", None, None)


class RaisesInOpen(Recorder):
    def open(self) -> None:
        super().open()
        raise ValueError("no")


def test_an_open_that_raises(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    with serve(RaisesInOpen) as server, server.connect() as peer:
        assert peer.at_end()
        assert server.event() == ("close", "error", None, None)
    assert "ValueError: no" in caplog.text


class ClosesAtFirst(Recorder):
    def on_text(self, data: bytes) -> None:
        super().on_text(data)
        self.close(4000, "enough")


def test_no_message_comes_after_the_handler_has_closed(serve: Serve) -> None:
    with serve(ClosesAtFirst) as server, server.connect() as peer:
        peer.send(texts(b"1", b"2") + client_frame(BINARY, b"3") + client_frame(PING, b"4") + close_frame(4000))
        assert peer.closed_with() == (4000, "enough")
        assert peer.at_end()
        assert [server.event() for _ in range(3)] == [
            ("text", b"1"),
            ("ping", b"4"),
            ("close", "server", 4000, "enough"),
        ]


class Raises(Recorder):
    def on_text(self, data: bytes) -> None:
        raise ValueError(data)

    async def on_binary(self, data: bytes) -> None:
        await asyncio.sleep(0)
        raise ValueError(data)

    def on_close(self) -> None:
        super().on_close()
        raise ValueError("in on_close")


@pytest.mark.parametrize("first", [TEXT, BINARY])
def test_a_handler_that_raises_ends_its_own_connection(
    serve: Serve, first: int, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(Raises) as server, server.connect() as other, server.connect() as peer:
        peer.send(client_frame(first, b"oops"))
        assert peer.closed_with() == (1011, "internal error")
        peer.send(close_frame(1011))
        assert peer.at_end()
        assert server.event() == ("close", "error", 1011, "internal error")
        other.send(client_frame(PING, b"alive"))
        assert other.frame() == (PONG, b"alive")
    assert "Uncaught exception GET /devices/d1/stream (127.0.0.1)" in caplog.text
    assert "ValueError: b'oops'" in caplog.text
    assert "ValueError: in on_close" in caplog.text


# Violations: the peer is told why, even when more of its bytes are on the way.


@pytest.mark.parametrize(
    ("stream", "code", "reason"),
    [
        (client_frame(TEXT, b"x", mask=None), 1002, "frame is not masked"),
        (b"\x88\x00", 1002, "frame is not masked"),
        (client_frame(PING, b"x" * 126), 1002, "control frame is too long"),
        (client_frame(0xC1, b"x"), 1002, "reserved bit is set"),
        (client_frame(0x83, b"x"), 1002, "opcode 3 is not known"),
        (close_frame(1005), 1002, "close code 1005 is not valid"),
        (close_frame(999), 1002, "close code 999 is not valid"),
        (client_frame(CLOSE, b"\x03"), 1002, "close frame of one byte"),
        (close_frame(1000, b"\xff"), 1007, "close reason is not UTF-8"),
        (client_frame(TEXT, bytes(65537)), 1009, "message is larger than 65536 bytes"),
    ],
    ids=lambda value: value.hex()[:8] if isinstance(value, bytes) else str(value)[:12],
)
def test_a_violation_is_answered(serve: Serve, stream: bytes, code: int, reason: str) -> None:
    with serve(websocket_max_message_size=65536) as server, server.connect() as peer:
        peer.send(texts(b"before") + stream + texts(b"after") + bytes(200_000))
        assert peer.closed_with() == (code, reason)
        assert peer.at_end()
        peer.sock.close()
        assert [server.event(), server.event()] == [("text", b"before"), ("close", "violation", code, reason)]
    assert server.events.empty()


def test_a_violator_that_stays_is_aborted(serve: Serve) -> None:
    with serve() as server, server.connect() as peer:
        peer.send(b"\x81\x00")
        assert server.event() == ("close", "violation", 1002, "frame is not masked")
        assert peer.closed_with() == (1002, "frame is not masked")


def test_a_violator_can_finish_its_sentence(serve: Serve) -> None:
    with serve(websocket_max_message_size=65536) as server, server.connect() as peer:
        peer.send(client_frame(TEXT, bytes(10_000_000)))  # fails when the server's socket resets
        assert peer.closed_with() == (1009, "message is larger than 65536 bytes")


def test_a_message_of_the_limit_passes(serve: Serve) -> None:
    with serve(websocket_max_message_size=65536) as server, server.connect() as peer:
        peer.send(client_frame(TEXT, b"x" * 65536))
        assert server.event() == ("text", b"x" * 65536)


# Pausing


class Pauses(Recorder):
    def on_text(self, data: bytes) -> None:
        super().on_text(data)
        if data.startswith(b"pause"):
            self.pause_reading()
        if data == b"pause and go on":
            self.resume_reading()


def test_a_pause_holds_the_rest_of_the_chunk_and_keeps_the_order(serve: Serve) -> None:
    numbers = [b"%d" % i for i in range(2000)]
    with serve(Pauses) as server, server.connect() as peer:
        handler = server.handler()
        peer.send(texts(b"pause", *numbers))
        assert server.event() == ("text", b"pause")
        peer.send(texts(b"last"))
        server.call(lambda: None)
        assert server.events.empty()
        server.call(lambda: (handler.resume_reading(), handler.pause_reading()))
        server.call(lambda: None)
        assert server.events.empty()
        server.call(handler.resume_reading)
        assert [server.event()[1] for _ in range(2001)] == [*numbers, b"last"]


def test_a_pause_that_is_taken_back_at_once(serve: Serve) -> None:
    numbers = [b"%d" % i for i in range(2000)]
    numbers[700] = b"pause and go on"
    with serve(Pauses) as server, server.connect() as peer:
        peer.send(texts(*numbers))
        assert [server.event()[1] for _ in range(2000)] == numbers


class PausesInOpen(Recorder):
    def open(self) -> None:
        super().open()
        self.pause_reading()


def test_a_pause_in_open(serve: Serve) -> None:
    with serve(PausesInOpen) as server, server.connect(behind=texts(b"1")) as peer:
        handler = server.handler()
        peer.send(texts(b"2"))
        time.sleep(0.05)  # long enough for a loop that reads on to show it
        assert server.events.empty()
        server.call(handler.resume_reading)
        assert [server.event()[1], server.event()[1]] == [b"1", b"2"]


def test_a_paused_connection_can_be_closed(serve: Serve) -> None:
    with serve(Pauses) as server, server.connect() as peer:
        handler = server.handler()
        peer.send(texts(b"pause", b"held") + close_frame(4409))
        assert server.event() == ("text", b"pause")
        server.call(lambda: handler.close(4409, "replaced", timeout=PATIENCE))
        assert peer.closed_with() == (4409, "replaced")
        assert peer.at_end()
        assert server.event() == ("close", "server", 4409, "replaced")


MUCH = 32 * 1024**2
LITTLE = 512 * 1024


class StopsReading(Recorder):
    taken = 0

    def on_text(self, data: bytes) -> None:
        self.taken += len(data)
        if self.taken == MUCH:
            self.pause_reading()
            self.server.events.put(("taken", self.taken))


def test_little_of_a_peer_that_has_sent_much_is_held_once_it_is_not_read(serve: Serve) -> None:
    frame = client_frame(TEXT, bytes(MUCH // 1024))
    with serve(StopsReading, websocket_max_message_size=len(frame)) as server, server.connect() as peer:
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        for _ in range(1024):
            peer.send(frame)
        assert server.event() == ("taken", MUCH)
        held = 0
        peer.sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            while True:
                held += peer.sock.send(frame)
        assert held < LITTLE


class Awaits(Recorder):
    async def on_text(self, data: bytes) -> None:
        await asyncio.sleep(0.001)
        self.server.events.put(("text", data))


def test_an_awaitable_holds_the_next_message_back(serve: Serve) -> None:
    numbers = [b"%d" % i for i in range(30)]
    with serve(Awaits) as server, server.connect() as peer:
        peer.send(texts(*numbers) + close_frame(1000))
        assert [server.event()[1] for _ in range(30)] == numbers
        assert server.event() == ("close", "peer", 1000, None)


# Writing


class SmallLimit(Recorder):
    write_limit = 100_000


def test_a_slow_reader_is_cut(serve: Serve) -> None:
    with serve(SmallLimit) as server, server.connect(receive_buffer=4096):
        handler = server.handler()
        for _ in range(10_000):
            server.call(lambda: [handler.write_text(bytes(1000)) for _ in range(10)])
            if not server.events.empty():
                break
        assert server.event() == ("close", "write_limit", None, None)


def test_a_reader_that_keeps_up_is_not_cut(serve: Serve) -> None:
    with serve(SmallLimit) as server, server.connect() as peer:
        handler = server.handler()
        for _ in range(40):
            server.call(lambda: [handler.write_text(bytes(5000)) for _ in range(10)])
            assert [peer.frame() for _ in range(10)] == [(TEXT, bytes(5000))] * 10
        assert server.events.empty()


def test_a_frame_larger_than_the_limit_reaches_a_reader(serve: Serve) -> None:
    with serve(SmallLimit) as server, server.connect(receive_buffer=4096) as peer:
        handler = server.handler()
        server.call(lambda: handler.write_text(bytes(8_000_000)))
        assert peer.frame() == (TEXT, bytes(8_000_000))
        server.call(lambda: handler.write_text(b"and on"))
        assert peer.frame() == (TEXT, b"and on")


def test_what_was_written_before_a_close_arrives(serve: Serve) -> None:
    with serve() as server, server.connect(receive_buffer=4096) as peer:
        handler = server.handler()
        server.call(lambda: (handler.write_text(bytes(900_000)), handler.close(1001, "bye", timeout=PATIENCE)))
        peer.send(close_frame(1001))
        assert peer.frame() == (TEXT, bytes(900_000))
        assert peer.closed_with() == (1001, "bye")
        assert peer.at_end()


def test_a_peer_that_closes_and_does_not_read_is_aborted(serve: Serve) -> None:
    with serve() as server, server.connect(receive_buffer=4096) as peer:
        handler = server.handler()
        server.call(lambda: handler.write_text(bytes(20_000_000)))
        peer.send(close_frame(1000))
        assert server.event() == ("close", "peer", 1000, None)


def test_a_half_open_peer_that_does_not_read_is_aborted(serve: Serve) -> None:
    with serve() as server, server.connect(receive_buffer=4096) as peer:
        handler = server.handler()
        server.call(lambda: handler.write_text(bytes(20_000_000)))
        peer.sock.shutdown(socket.SHUT_WR)
        assert server.event() == ("close", "lost", None, None)


class EchoesSlowly(Checked):
    async def on_message(self, message: str | bytes) -> None:
        await self.write_message(message, binary=True)


def test_write_message_waits_for_a_slow_reader(serve: Serve) -> None:
    payload = bytes(4_000_000)
    with serve(EchoesSlowly) as server, server.connect(receive_buffer=4096) as peer:
        peer.send(client_frame(BINARY, payload) + client_frame(BINARY, b"next"))
        assert peer.frame() == (BINARY, payload)
        assert peer.frame() == (BINARY, b"next")
        peer.send(close_frame(1000))
        assert peer.closed_with() == (1000, "")


def test_a_writer_that_waits_for_a_peer_that_leaves(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    with serve(EchoesSlowly) as server:
        with server.connect(receive_buffer=4096) as peer:
            peer.send(client_frame(BINARY, bytes(9_000_000)))
            peer.sock.recv(1)
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert server.event() == ("close", "lost", None, None)
    assert "Uncaught exception" not in caplog.text


# What is left of a connection while it idles


def test_no_task_is_left_for_a_connection_and_none_is_made_for_a_message(serve: Serve) -> None:
    with serve() as server, server.connect() as peer, server.connect():
        handler = server.handler()
        made = []

        def count(loop: asyncio.AbstractEventLoop, coroutine: object, **options: object) -> asyncio.Task[object]:
            made.append(coroutine)
            return asyncio.Task(coroutine, loop=loop, **options)  # type: ignore[arg-type]

        loop = server.call(asyncio.get_running_loop)
        assert server.call(lambda: len(asyncio.all_tasks())) == 2  # the server's and this call's
        loop.set_task_factory(count)
        peer.send(texts(*[b"x"] * 100))
        assert [server.event() for _ in range(100)] == [("text", b"x")] * 100
        loop.call_soon_threadsafe(handler.write_text, b"y")
        assert peer.frame() == (TEXT, b"y")
        loop.set_task_factory(None)
        assert made == []


def test_request_and_response_are_let_go(serve: Serve) -> None:
    with serve() as server, server.connect() as peer:
        peer.send(texts(b"x"))
        server.event()
        handler = server.handler()
        assert isinstance(handler.request, RequestSummary)
        assert repr(handler.request) == "GET /devices/d1/stream from 127.0.0.1"
        assert (handler._headers, handler.ui) == (None, None)


class Patient(Recorder):
    close_timeout = 60.0


@pytest.fixture
def without_collector() -> Iterator[None]:
    """Only what nothing refers to goes."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_collector")
def test_nothing_is_left_of_a_connection_that_has_ended(serve: Serve) -> None:
    """Not even until the next full collection, which is rare while serving."""
    with serve(Patient) as server, server.connect() as peer:
        handler = weakref.ref(server.handler())
        peer.send(texts(b"x") + close_frame(1000))
        assert peer.at_end() is False
        assert [server.event()[0], server.event()[0]] == ["text", "close"]
        for _ in range(10):  # turns of the loop, for what still wants to be called
            server.call(lambda: None)
        assert handler() is None


# permessage-deflate

DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"


class Deflates(Recorder):
    def get_compression_options(self) -> dict[str, object]:
        return {}


def deflate(payload: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=-15)
    return (squeeze.compress(payload) + squeeze.flush(zlib.Z_SYNC_FLUSH))[:-4]


def test_compression_is_off_unless_asked_for(serve: Serve) -> None:
    with serve() as server, server.connect(DEFLATE) as peer:
        assert "permessage-deflate" not in peer.response


def test_compressed_messages_both_ways(serve: Serve) -> None:
    with serve(Deflates) as server, server.connect(DEFLATE) as peer:
        assert "permessage-deflate" in peer.response
        peer.send(client_frame(0xC1, deflate(b"squeezed")) + client_frame(TEXT, b"plain"))
        peer.send(client_frame(0xC2, deflate(b"\xff")))
        assert [server.event() for _ in range(3)] == [("text", b"squeezed"), ("text", b"plain"), ("binary", b"\xff")]
        handler = server.handler()
        server.call(lambda: handler.write_text(b"back"))
        first, payload = peer.frame()
        assert first == 0xC1
        assert zlib.decompressobj(-15).decompress(payload + b"\0\0\xff\xff") == b"back"


def test_a_ping_inside_a_fragmented_compressed_message(serve: Serve) -> None:
    payload = deflate(b"one message in three parts")
    with serve(Deflates) as server, server.connect(DEFLATE) as peer:
        peer.send(client_frame(0x41, payload[:5]) + client_frame(PING, b"p") + client_frame(0, payload[5:9]))
        peer.send(client_frame(PONG, b"q") + client_frame(CONTINUATION, payload[9:]))
        assert [server.event() for _ in range(3)] == [
            ("ping", b"p"),
            ("pong", b"q"),
            ("text", b"one message in three parts"),
        ]


@pytest.mark.parametrize(
    ("payload", "code", "reason"),
    [
        (deflate(bytes(10_000_000)), 1009, "message is larger than 65536 bytes"),
        (b"\x00" * 20, 1002, "message cannot be decompressed"),
    ],
    ids=["bomb", "garbage"],
)
def test_a_message_that_does_not_decompress(serve: Serve, payload: bytes, code: int, reason: str) -> None:
    with serve(Deflates, websocket_max_message_size=65536) as server, server.connect(DEFLATE) as peer:
        peer.send(client_frame(0xC1, payload) + client_frame(PING, b"after"))
        assert peer.closed_with() == (code, reason)
        peer.sock.close()
        assert server.event() == ("close", "violation", code, reason)


def test_an_unknown_parameter_of_compression_is_refused(serve: Serve) -> None:
    with serve(Deflates) as server, server.connect(f"{DEFLATE}; nonsense=1") as peer:
        assert peer.response.startswith("HTTP/1.1 400 ")
    assert server.events.empty()


# Handshakes that do not become connections


def test_another_version_is_refused(serve: Serve) -> None:
    class Old(Recorder):
        def prepare(self) -> None:
            self.request.headers["Sec-WebSocket-Version"] = "8"

    with serve(Old) as server, server.connect() as peer:
        assert peer.response.startswith("HTTP/1.1 426 ")
        assert "Sec-Websocket-Version: 13" in peer.response
    assert server.events.empty()


def test_a_client_that_leaves_before_its_upgrade_was_never_open(serve: Serve) -> None:
    class Slow(Recorder):
        async def prepare(self) -> None:
            self.server.opened.put(self)
            await asyncio.sleep(0.2)
            self.server.events.put(("prepared",))

        def open(self) -> None:
            self.server.events.put(("open",))

        def on_close(self) -> None:
            self.server.events.put(("close",))

    with serve(Slow) as server:
        sock = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        if server.client_context is not None:
            sock = server.client_context.wrap_socket(sock, server_hostname="127.0.0.1")
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        server.handler()
        sock.close()
        assert server.event() == ("prepared",)
    assert server.events.empty()


class FailsToMove(Recorder):
    def open(self) -> None:
        super().open()
        loop = asyncio.get_running_loop()
        loop.connect_accepted_socket = self.fail  # type: ignore[method-assign,assignment]

    async def fail(self, *_: object) -> None:
        del asyncio.get_running_loop().connect_accepted_socket  # type: ignore[method-assign]
        raise OSError("no transport")


def test_a_socket_that_no_transport_takes_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    with StreamServer(FailsToMove, loop="asyncio", certificate=None) as server:
        with server.connect() as peer:
            assert peer.at_end()
            assert server.event() == ("close", "lost", None, None)
        with server.connect() as peer:
            assert peer.at_end()
    assert "no transport" in caplog.text


# Many at once


class Floods(Recorder):
    """Counts the messages between two rounds of the loop."""

    longest = 0
    current = 0

    def open(self) -> None:
        super().open()
        self._tick()

    def _tick(self) -> None:
        Floods.current = 0
        if self.close_cause is None:
            asyncio.get_running_loop().call_soon(self._tick)

    def on_text(self, data: bytes) -> None:
        Floods.current += 1
        Floods.longest = max(Floods.longest, Floods.current)
        if data == b"end":
            self.server.events.put(("text", data))


@pytest.mark.parametrize(("size", "count", "bound"), [(0, 200_000, 512), (4000, 10_000, 140)])
def test_a_flood_leaves_the_loop_to_others(serve: Serve, size: int, count: int, bound: int) -> None:
    Floods.longest = 0
    with serve(Floods) as server, server.connect() as peer:
        peer.send(client_frame(TEXT, bytes(size)) * count + texts(b"end"))
        assert server.event() == ("text", b"end")
    assert 0 < Floods.longest <= bound


class Floodable(Recorder):
    def on_text(self, data: bytes) -> None:
        if self.ws_connection is not None:
            self.write_text(bytes(20_000))
            self.pause_reading()
            self.resume_reading()
            self.write_text(data)


def test_peers_that_reset_while_they_are_written_to(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    with serve(Floodable) as server:
        for _ in range(60):
            with server.connect() as peer:
                peer.send(client_frame(TEXT, bytes(50)) * 50)
                peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert [server.event()[0] for _ in range(60)] == ["close"] * 60
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_second_connection_ends_the_first_in_its_open(serve: Serve) -> None:
    class Newest(Recorder):
        previous: list[Newest] = []  # noqa: RUF012 - shared on purpose

        def open(self) -> None:
            super().open()
            if self.previous:
                self.previous.pop().close(4409, "replaced")
            self.previous.append(self)

    with serve(Newest) as server:
        peers: list[Peer] = [server.connect() for _ in range(20)]
        for peer in peers[:-1]:
            assert peer.closed_with() == (4409, "replaced")
        for peer in peers:
            peer.sock.close()


def test_pings_and_pongs_are_rationed(serve: Serve) -> None:
    with serve() as server, server.connect() as peer:
        peer.send(client_frame(PING) * MAX_CONTROLS)
        assert [peer.frame() for _ in range(MAX_CONTROLS)] == [(PONG, b"")] * MAX_CONTROLS
        peer.send(client_frame(PONG) + client_frame(PING) * 1000)
        code, reason = peer.closed_with()
        assert (code, "pings" in reason) == (1008, True)
        parser = server.handler().ws_connection._parser
        assert not server.call(lambda: parser.has_more), "nobody wants the rest"


def test_a_ration_of_pings_is_for_a_while_not_for_ever(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_protocol, "CONTROL_SECONDS", 0.0)
    with serve() as server, server.connect() as peer:
        for _ in range(3):
            peer.send(client_frame(PING) * MAX_CONTROLS)
            assert [peer.frame() for _ in range(MAX_CONTROLS)] == [(PONG, b"")] * MAX_CONTROLS
        assert not server.handler().unfinished


def test_who_is_inside_a_message_says_so_and_may_take_longer_ones_later(serve: Serve) -> None:
    with serve(websocket_max_message_size=100) as server, server.connect() as peer:
        handler = server.handler()
        peer.send(client_frame(TEXT, b"a") + client_frame(TEXT, b"b" * 99)[:-1])
        assert server.event() == ("text", b"a")
        peer.send(client_frame(TEXT, b"b" * 99)[-1:] + client_frame(TEXT, b"c" * 50)[:20])
        assert server.event() == ("text", b"b" * 99)
        assert server.call(lambda: handler.unfinished)
        server.call(lambda: handler.set_max_message_size(200))
        peer.send(client_frame(TEXT, b"c" * 50)[20:] + client_frame(TEXT, b"d" * 200))
        assert server.event() == ("text", b"c" * 50)
        assert server.event() == ("text", b"d" * 200)
        assert not server.call(lambda: handler.unfinished)
        peer.send(client_frame(TEXT, b"e" * 201))
        assert peer.closed_with()[0] == 1009
