from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest

from gateway.websocket.tls_transport import TLSProtocol, TLSTransport
from tests.support.modes import LOOPS, new_event_loop
from tests.support.streams import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    Run = Callable[[Awaitable[None]], None]


class Protocol(TLSProtocol):
    """Keeps what it gets, in a buffer of ``size`` bytes; ``calls`` says in which order things came."""

    def __init__(self, size: int = 1 << 16) -> None:
        self.buffer = memoryview(bytearray(size))
        self.received = bytearray()
        self.calls: list[str] = []
        self.heard_of = 0
        self.lost = asyncio.get_running_loop().create_future()
        self.changed = asyncio.Event()
        self.on_bytes: Callable[[], None] = lambda: None

    def note(self, call: str) -> None:
        self.calls.append(call)
        self.changed.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.note("made")

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.received += self.buffer[:nbytes]
        self.changed.set()
        self.on_bytes()

    def partial_record_received(self) -> None:
        self.heard_of += 1
        self.changed.set()

    def eof_received(self) -> None:
        self.note("eof")

    def pause_writing(self) -> None:
        self.note("pause")

    def resume_writing(self) -> None:
        self.note("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.note("lost")
        self.lost.set_result(exc)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that comes with a call or with bytes."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


class Pair:
    """Both ends of a TLS connection after its handshake: the server's not blocking, the client's blocking."""

    def __init__(self, certificate: tuple[Path, Path]) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        raw = socket.create_connection(listener.getsockname(), PATIENCE)
        accepted, _ = listener.accept()
        listener.close()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server_context.load_cert_chain(*certificate)
        self.server: ssl.SSLSocket
        thread = threading.Thread(target=self._accept, args=(server_context, accepted))
        thread.start()
        context = ssl.create_default_context(cafile=certificate[0])
        self.client = context.wrap_socket(raw, server_hostname="127.0.0.1")
        thread.join(PATIENCE)
        self.server.setblocking(False)

    def _accept(self, context: ssl.SSLContext, sock: socket.socket) -> None:
        self.server = context.wrap_socket(sock, server_side=True)

    def sealed(self, data: bytes) -> bytes:
        """The record that the client would have sent for ``data``."""
        near, far = socket.socketpair()
        with near, far:
            real = os.dup(self.client.fileno())
            os.dup2(near.fileno(), self.client.fileno())
            self.client.sendall(data)
            os.dup2(real, self.client.fileno())
            os.close(real)
            return far.recv(1 << 16)

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are, and not encrypted."""
        assert os.write(self.client.fileno(), data) == len(data)

    def read_all(self) -> bytes:
        """Everything until the end; OSError if it comes without a goodbye."""
        self.client.suppress_ragged_eofs = False
        found = b""
        while data := self.client.recv(1 << 16):
            found += data
        return found


@pytest.fixture
def pair(certificate: tuple[Path, Path]) -> Iterator[Pair]:
    made = Pair(certificate)
    yield made
    made.client.close()
    made.server.close()


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    def runs(main: Awaitable[None]) -> None:
        with asyncio.Runner(loop_factory=partial(new_event_loop, request.param)) as runner:
            runner.run(main)  # type: ignore[arg-type]

    return runs


def start(pair: Pair, protocol: Protocol) -> TLSTransport:
    transport = TLSTransport(asyncio.get_running_loop(), pair.server, protocol)
    transport.start()
    return transport


def test_bytes_both_ways_and_a_goodbye(run: Run, pair: Pair) -> None:
    async def main() -> None:
        protocol = Protocol()
        transport = start(pair, protocol)
        assert transport.get_extra_info("socket") is pair.server
        pair.client.sendall(b"hello")
        await protocol.until(lambda: protocol.received == b"hello")
        transport.write(b"wel")
        transport.write(b"come")
        transport.close()
        transport.write(b"too late")
        assert await asyncio.to_thread(pair.read_all) == b"welcome"
        assert await asyncio.wait_for(protocol.lost, PATIENCE) is None
        assert protocol.calls == ["made", "lost"]

    run(main())


def test_a_record_larger_than_the_buffer_is_read_to_its_end(run: Run, pair: Pair) -> None:
    async def main() -> None:
        protocol = Protocol(size=100)
        transport = start(pair, protocol)
        pair.client.sendall(bytes(range(250)) * 40)
        await protocol.until(lambda: protocol.received == bytes(range(250)) * 40)
        transport.abort()
        await protocol.lost

    run(main())


def test_bytes_decrypted_before_the_start_are_delivered(run: Run, pair: Pair) -> None:
    async def main() -> None:
        pair.client.sendall(b"decrypted already")
        while pair.server.pending() == 0:
            with contextlib.suppress(ssl.SSLWantReadError):
                assert pair.server.recv(1) == b"d"
        protocol = Protocol()
        transport = start(pair, protocol)
        await protocol.until(lambda: protocol.received == b"ecrypted already")
        transport.abort()
        await protocol.lost

    run(main())


def test_a_pause_in_the_middle_of_a_record(run: Run, pair: Pair) -> None:
    async def main() -> None:
        protocol = Protocol(size=100)
        transport = start(pair, protocol)
        protocol.on_bytes = transport.pause_reading
        pair.client.sendall(bytes(500))
        for count in (100, 200, 300, 400, 500):
            await protocol.until(lambda count=count: len(protocol.received) == count)
            for _ in range(3):
                await asyncio.sleep(0)
            assert len(protocol.received) == count
            assert not transport.is_reading()
            transport.resume_reading()
            transport.resume_reading()
        transport.pause_reading()
        transport.abort()
        transport.resume_reading()
        assert not asyncio.get_running_loop().remove_reader(pair.server)
        await protocol.lost

    run(main())


def test_bytes_of_a_record_that_is_not_whole_are_heard_of(run: Run, pair: Pair) -> None:
    async def main() -> None:
        protocol = Protocol()
        transport = start(pair, protocol)
        for _ in range(3):
            await asyncio.sleep(0)
        assert protocol.heard_of == 0, "nothing has come"
        record = pair.sealed(b"slowly")
        for count in (1, 2):
            pair.send_raw(record[count - 1 : count])
            await protocol.until(lambda count=count: protocol.heard_of == count)
        assert not protocol.received
        pair.send_raw(record[2:])
        await protocol.until(lambda: bytes(protocol.received) == b"slowly")
        transport.abort()
        await protocol.lost

    run(main())


def test_the_peers_goodbye(run: Run, pair: Pair) -> None:
    async def main() -> None:
        protocol = Protocol()
        start(pair, protocol)
        with contextlib.suppress(ssl.SSLError):  # the other side closes without waiting for ours to read
            await asyncio.to_thread(pair.client.unwrap)
        assert await asyncio.wait_for(protocol.lost, PATIENCE) is None
        assert protocol.calls == ["made", "eof", "lost"]

    run(main())


def test_a_peer_that_ends_without_a_goodbye(run: Run, pair: Pair) -> None:
    async def main() -> None:
        protocol = Protocol()
        start(pair, protocol)
        socket.socket.shutdown(pair.client, socket.SHUT_WR)
        assert await asyncio.wait_for(protocol.lost, PATIENCE) is None
        assert protocol.calls == ["made", "eof", "lost"]

    run(main())


def test_a_reset(run: Run, pair: Pair) -> None:
    async def main() -> None:
        protocol = Protocol()
        transport = start(pair, protocol)
        pair.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        pair.client.close()
        await asyncio.wait_for(protocol.lost, PATIENCE)
        assert (protocol.calls[0], protocol.calls[-1]) == ("made", "lost")
        assert transport.is_closing()

    run(main())


def test_bytes_that_are_not_tls(run: Run, pair: Pair) -> None:
    async def main() -> None:
        protocol = Protocol()
        start(pair, protocol)
        socket.socket.sendall(pair.client, b"GET / HTTP/1.1\r\n")
        assert isinstance(await asyncio.wait_for(protocol.lost, PATIENCE), ssl.SSLError)

    run(main())


def test_a_write_to_a_peer_that_is_gone(run: Run, pair: Pair) -> None:
    async def main() -> None:
        protocol = Protocol()
        transport = start(pair, protocol)
        transport.pause_reading()
        pair.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        pair.client.close()
        while not protocol.lost.done():
            transport.write(bytes(1000))
            assert "lost" not in protocol.calls  # never from inside a call
            await asyncio.sleep(0)
        assert isinstance(protocol.lost.result(), OSError)

    run(main())


def test_a_slow_reader_pauses_and_resumes_writing(run: Run, pair: Pair) -> None:
    async def main() -> None:
        protocol = Protocol()
        transport = start(pair, protocol)
        transport.set_write_buffer_limits(high=100_000)
        expected = b""
        while "pause" not in protocol.calls:
            assert transport.get_write_buffer_size() <= 100_000
            chunk = len(expected).to_bytes(8) * 1000
            transport.write(chunk)
            expected += chunk
        transport.write(b"more")
        assert transport.get_write_buffer_size() > 100_000
        reading = asyncio.create_task(asyncio.to_thread(pair.read_all))
        await protocol.until(lambda: "resume" in protocol.calls)
        assert transport.get_write_buffer_size() <= 25_000
        transport.close()
        assert await asyncio.wait_for(reading, PATIENCE) == expected + b"more"
        await asyncio.wait_for(protocol.lost, PATIENCE)
        assert protocol.calls == ["made", "pause", "resume", "lost"]

    run(main())


def test_what_has_gone_out_no_longer_counts(run: Run, pair: Pair) -> None:
    async def main() -> None:
        protocol = Protocol()
        transport = start(pair, protocol)
        transport.write(bytes(20_000_000))
        waiting, taken = transport.get_write_buffer_size(), 0
        while transport.get_write_buffer_size() > waiting - 1_000_000:
            taken += len(await asyncio.to_thread(pair.client.recv, 1 << 16))
            assert taken < 19_000_000
        transport.abort()
        await protocol.lost

    run(main())


def test_an_abort_drops_what_is_not_sent(run: Run, pair: Pair) -> None:
    async def main() -> None:
        protocol = Protocol()
        transport = start(pair, protocol)
        transport.write(bytes(5_000_000))
        transport.close()
        assert protocol.calls == ["made", "pause"]
        transport.abort()
        transport.abort()
        assert "lost" not in protocol.calls
        assert transport.get_write_buffer_size() == 0
        assert await asyncio.wait_for(protocol.lost, PATIENCE) is None
        assert protocol.calls == ["made", "pause", "lost"]
        assert pair.server.fileno() == -1

    run(main())


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_an_end_of_writing_still_takes_the_peers_bytes(run: Run, pair: Pair, size: int) -> None:
    async def main() -> None:
        protocol = Protocol()
        transport = start(pair, protocol)
        assert transport.can_write_eof()
        transport.write(bytes(size))
        transport.write_eof()
        transport.write(b"dropped")
        assert await asyncio.to_thread(pair.read_all) == bytes(size)
        pair.client.sendall(bytes(300_000))  # fails if the server's socket is closed and resets
        assert not protocol.lost.done()
        pair.client.close()
        await asyncio.wait_for(protocol.lost, PATIENCE)

    run(main())


def test_a_protocol_that_raises_ends_the_connection(run: Run, pair: Pair) -> None:
    async def main() -> None:
        reported = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
        protocol = Protocol()
        start(pair, protocol)
        protocol.on_bytes = lambda: 1 // 0  # type: ignore[assignment,return-value]
        pair.client.sendall(b"x")
        assert isinstance(await asyncio.wait_for(protocol.lost, PATIENCE), ZeroDivisionError)
        assert [type(error) for error in reported] == [ZeroDivisionError]

    run(main())
