from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from tornado.iostream import StreamClosedError

from gateway.websocket.transport_stream import TransportStream

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = 1000


class Transport:
    """A transport that takes ``room`` bytes and keeps the rest."""

    def __init__(self, room: int = 0) -> None:
        self.room = room
        self.buffered = 0
        self.calls: list[Any] = []
        self.limits: tuple[int, ...] = ()
        self.closing = False

    def set_write_buffer_limits(self, high: int) -> None:
        self.limits = (high,)

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        if data:
            self.calls.append(bytes(data))
            self.buffered = max(0, self.buffered + len(data) - self.room)

    def write_eof(self) -> None:
        self.calls.append("eof")

    def close(self) -> None:
        self.closing = True
        self.calls.append("close")

    def abort(self) -> None:
        self.closing = True
        self.calls.append("abort")


def with_stream(case: Callable[[TransportStream, Any, Mock], None]) -> None:
    """Run ``case`` with a stream, its `IOStream` and its overflow callback, inside a loop."""

    async def main() -> None:
        iostream, overflow = Mock(), Mock()
        stream = TransportStream(iostream, asyncio.get_running_loop(), LIMIT, overflow)
        overflow.side_effect = stream.abort
        case(stream, iostream, overflow)

    asyncio.run(main())


def attached(stream: TransportStream, transport: Transport) -> Transport:
    stream.attach(transport)  # type: ignore[arg-type]
    return transport


def test_what_is_written_before_there_is_a_transport_goes_first() -> None:
    def case(stream: TransportStream, _iostream: Mock, overflow: Mock) -> None:
        stream.send(b"one")
        assert stream.write(b"two").done()
        transport = attached(stream, Transport())
        stream.send(b"three")
        assert transport.calls == [b"onetwo", b"three"]
        overflow.assert_not_called()

    with_stream(case)


@pytest.mark.parametrize("limit", [LIMIT, 1 << 20])
def test_the_transport_tells_before_the_limit_is_passed(limit: int) -> None:
    async def main() -> None:
        stream = TransportStream(Mock(), asyncio.get_running_loop(), limit, Mock())
        assert attached(stream, Transport()).limits == (min(limit, 65536),)

    asyncio.run(main())


def test_the_limit_is_tested_before_a_frame_is_added() -> None:
    def case(stream: TransportStream, _iostream: Mock, overflow: Mock) -> None:
        transport = attached(stream, Transport())
        stream.send(bytes(5 * LIMIT))  # larger than the limit by itself, and allowed
        overflow.assert_not_called()
        stream.pause_writing()
        stream.send(b"x")
        overflow.assert_called_once()
        stream.send(b"y")
        assert transport.calls == [bytes(5 * LIMIT), "abort"]
        overflow.assert_called_once()

    with_stream(case)


def test_exactly_the_limit_is_allowed() -> None:
    def case(stream: TransportStream, _iostream: Mock, overflow: Mock) -> None:
        transport = attached(stream, Transport())
        stream.pause_writing()
        transport.buffered = LIMIT
        stream.send(b"x")
        overflow.assert_not_called()
        assert transport.buffered == LIMIT + 1
        stream.send(b"x")
        overflow.assert_called_once()

    with_stream(case)


def test_the_limit_holds_before_there_is_a_transport() -> None:
    def case(stream: TransportStream, iostream: Mock, overflow: Mock) -> None:
        stream.send(bytes(LIMIT + 1))
        stream.send(b"x")
        overflow.assert_called_once()
        iostream.close.assert_called_once()
        assert stream.closed()

    with_stream(case)


def test_a_write_waits_for_a_peer_that_is_behind() -> None:
    async def main() -> None:
        stream = TransportStream(Mock(), asyncio.get_running_loop(), LIMIT, Mock())
        attached(stream, Transport(room=1 << 20))
        assert stream.write(b"x").done()
        stream.pause_writing()
        first, cancelled, last = (stream.write(b"x") for _ in range(3))
        cancelled.cancel()
        assert not first.done()
        stream.resume_writing()
        await asyncio.wait_for(asyncio.gather(first, last), 1)
        assert stream.write(b"x").done()

    asyncio.run(main())


def test_waiting_writes_fail_when_the_connection_is_lost() -> None:
    def case(stream: TransportStream, _iostream: Mock, _overflow: Mock) -> None:
        attached(stream, Transport())
        stream.pause_writing()
        waiting, cancelled = stream.write(b"x"), stream.write(b"x")
        cancelled.cancel()
        stream.lost()
        assert isinstance(waiting.exception(), StreamClosedError)
        assert isinstance(stream.write(b"x").exception(), StreamClosedError)

    with_stream(case)


def test_nothing_is_written_to_a_transport_that_has_closed_by_itself() -> None:
    def case(stream: TransportStream, _iostream: Mock, _overflow: Mock) -> None:
        transport = attached(stream, Transport())
        transport.closing = True
        stream.send(b"x")
        stream.half_close()
        assert transport.calls == []
        assert stream.closed()

    with_stream(case)


def test_a_half_close_lets_nothing_more_out() -> None:
    def case(stream: TransportStream, _iostream: Mock, _overflow: Mock) -> None:
        transport = attached(stream, Transport())
        stream.half_close()
        stream.half_close()
        stream.send(b"x")
        stream.close()
        assert transport.calls == ["eof", "close"]

    with_stream(case)


def test_a_half_close_to_a_peer_that_is_gone() -> None:
    def case(stream: TransportStream, _iostream: Mock, _overflow: Mock) -> None:
        transport = attached(stream, Transport())
        transport.write_eof = Mock(side_effect=OSError)  # type: ignore[method-assign]
        stream.half_close()
        assert transport.calls == ["abort"]

    with_stream(case)


@pytest.mark.parametrize("how", [TransportStream.close, TransportStream.abort, TransportStream.half_close])
def test_closing_before_there_is_a_transport(how: Callable[[TransportStream], None]) -> None:
    def case(stream: TransportStream, iostream: Mock, _overflow: Mock) -> None:
        stream.send(b"x")
        how(stream)
        iostream.close.assert_called_once()
        assert stream.closed()
        assert attached(stream, Transport()).calls == ["abort"]

    with_stream(case)


def test_the_socket_is_taken_once_the_handshake_is_sent() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        flushed, reading = loop.create_future(), loop.create_future()
        iostream = Mock(
            **{"closed.return_value": False, "write.return_value": flushed, "read_bytes.return_value": reading}
        )
        sock = iostream.socket
        taking = asyncio.create_task(TransportStream(iostream, loop, LIMIT, Mock()).take_socket())
        await asyncio.sleep(0)
        iostream.read_bytes.assert_not_called()
        flushed.set_result(None)
        assert await asyncio.wait_for(taking, 1) == (sock, b"")
        iostream.io_loop.remove_handler.assert_called_once_with(sock)

    asyncio.run(main())


def test_a_closed_iostream_has_no_socket_to_take() -> None:
    async def main() -> None:
        iostream = Mock(**{"closed.return_value": True})
        stream = TransportStream(iostream, asyncio.get_running_loop(), LIMIT, Mock())
        with pytest.raises(StreamClosedError):
            await stream.take_socket()

    asyncio.run(main())
