"""The network shell against a small scripted peer on another implementation of WebSockets."""

from __future__ import annotations

import asyncio
import contextlib
import http
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from devices_sim import backoff
from devices_sim.link import Link
from devices_sim.network import Network
from devices_sim.protocol import Device, Phase
from devices_sim.scheduler import clock
from devices_sim.tally import Tally
from tests.support.peer import Conversation, Peer, eventually, obliging

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

FAST = {"ping_interval_ms": 300, "timeout_ms": 600}


@pytest.fixture(autouse=True)
def _quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "MIN_BOUND", 0.02)
    monkeypatch.setattr(backoff, "MIN_BUSY_BOUND", 0.05)
    monkeypatch.setattr(backoff, "MIN_REPLACED", 0.05)


@contextlib.asynccontextmanager
async def linked(url: str, *, token: str | None = None, ack: str = "durable") -> AsyncIterator[Link]:
    network = Network(url, Tally())
    link = Link(Device("d-1", "b1", network.tally, Random(1), ack=ack), network, token)
    link.connect()
    try:
        yield link
        if network.failed.done():
            network.failed.result()
    finally:
        await network.close()


def run(peer: Peer, scenario: Callable[[Link], Awaitable[None]], **options: Any) -> Link:
    """Let a device and a peer talk for as long as ``scenario`` takes."""

    async def main() -> Link:
        async with asyncio.timeout(20), peer.serving(), linked(peer.url, **options) as link:
            await scenario(link)
            return link

    return asyncio.run(main())


def send(link: Link, count: int = 1) -> None:
    for _ in range(count):
        seq = link.device.outbox.next_seq
        link.submit(b'{"seq":%d,"ts":1700000000000,"n":%d}' % (seq, seq), 1)


async def acked(link: Link, seq: int) -> None:
    await eventually(lambda: link.device.outbox.acked_to >= seq, f"an ack for {seq}")


def tally(link: Link) -> Tally:
    return link.device._tally


def test_it_connects_with_subprotocol_and_token_and_closes_with_1000() -> None:
    seen: list[Request] = []

    def admit(_connection: ServerConnection, request: Request) -> None:
        seen.append(request)

    async def scenario(link: Link) -> None:
        send(link, 3)
        await acked(link, 2)

    peer = Peer(admit=admit)
    link = run(peer, scenario, token="secret")
    assert seen[0].path == "/v1/devices/d-1/stream"
    assert seen[0].headers["Authorization"] == "Bearer secret"
    assert seen[0].headers["Sec-WebSocket-Protocol"] == "telemetry.v1.json"
    assert [message["seq"] for _, message in peer.stored] == [0, 1, 2]
    assert (tally(link).acked, tally(link).connects, tally(link).reconnects, tally(link).violations) == (3, 1, 0, 0)
    assert peer.closes == [1000]


def test_unacknowledged_messages_are_resent_on_the_next_connection() -> None:
    async def behave(talk: Conversation, message: dict[str, Any]) -> None:
        if talk.number == 0 and "seq" in message:
            await talk.take(message, ack=False)
            if message["seq"] == 1:
                talk.peer.taken["d-1", "b1"] = 0  # the second never reached the disk
                talk.peer.stored.pop()
                talk.vanish()
        else:
            await obliging(talk, message)

    async def scenario(link: Link) -> None:
        send(link, 2)
        await acked(link, 1)

    peer = Peer(behave)
    link = run(peer, scenario)
    assert [message["seq"] for _, message in peer.stored] == [0, 1]
    assert peer.duplicates == 0
    assert (tally(link).acked, tally(link).resent, tally(link).reconnects) == (2, 1, 1)
    assert tally(link).closes["no close frame"] == 1


@pytest.mark.parametrize("code", [1001, 1011, 1012, 1013, 4408, 4409, 4429])
def test_it_comes_back_after_a_close(code: int) -> None:
    async def behave(talk: Conversation, message: dict[str, Any]) -> None:
        if talk.number == 0 and "seq" in message:
            await talk.socket.close(code, "why")
        else:
            await obliging(talk, message)

    async def scenario(link: Link) -> None:
        send(link)
        await acked(link, 0)

    peer = Peer(behave)
    link = run(peer, scenario)
    assert tally(link).closes[str(code)] == 1
    assert peer.closes[0] == code, "the close was answered"


def test_4401_stops_it_with_the_reason() -> None:
    async def behave(talk: Conversation, message: dict[str, Any]) -> None:
        await talk.socket.close(4401, "unknown device or wrong token")

    async def scenario(link: Link) -> None:
        await eventually(lambda: link.stopped_because, "the end")
        await asyncio.sleep(0.1)

    peer = Peer(behave)
    link = run(peer, scenario)
    assert "4401 unknown device or wrong token" in link.stopped_because
    assert len(peer.connections) == 1
    assert tally(link).stopped == 1


def test_http_401_stops_it_with_the_answer() -> None:
    def admit(connection: ServerConnection, _request: Request) -> Response:
        return connection.respond(http.HTTPStatus.UNAUTHORIZED, '{"error":{"code":"unauthorized"}}')

    async def scenario(link: Link) -> None:
        await eventually(lambda: link.stopped_because, "the end")

    link = run(Peer(admit=admit), scenario)
    assert "HTTP 401" in link.stopped_because
    assert "unauthorized" in link.stopped_because


def test_a_busy_gateway_is_asked_again() -> None:
    answers = [http.HTTPStatus.SERVICE_UNAVAILABLE, http.HTTPStatus.TOO_MANY_REQUESTS]

    def admit(connection: ServerConnection, _request: Request) -> Response | None:
        return connection.respond(answers.pop(), "later") if answers else None

    async def scenario(link: Link) -> None:
        send(link)
        await acked(link, 0)

    link = run(Peer(admit=admit), scenario)
    assert tally(link).connect_failures == 2


def test_without_a_listener_a_device_tries_again_and_says_so() -> None:
    async def main() -> None:
        async with linked("ws://127.0.0.1:9") as link:
            await eventually(lambda: tally(link).connect_failures > 2, "some attempts")
            assert "127.0.0.1" in link._network.last_failure
            assert link.stopped_because == ""

    asyncio.run(main())


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 101 Swi"])
def test_a_gateway_that_dies_in_the_handshake_is_tried_again(said: bytes) -> None:
    async def die(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(die, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(20), server, linked(f"ws://127.0.0.1:{port}") as link:
            await eventually(lambda: tally(link).connect_failures >= 3, "another attempt")
            assert not link.connected

    asyncio.run(main())


def test_a_drain_is_waited_out() -> None:
    told_at = back_at = 0.0

    async def behave(talk: Conversation, message: dict[str, Any]) -> None:
        nonlocal told_at, back_at
        if talk.number == 1 and not back_at:
            back_at = clock()
        if talk.number == 0 and "seq" in message:
            told_at = clock()
            await talk.say(type="drain", reconnect_after_ms=300)
            await talk.socket.close(1012, "restart")
        else:
            await obliging(talk, message)

    async def scenario(link: Link) -> None:
        send(link)
        await acked(link, 0)

    run(Peer(behave), scenario)
    assert back_at - told_at >= 0.3


def test_a_throttle_is_waited_out() -> None:
    arrived: list[tuple[float, int]] = []

    async def behave(talk: Conversation, message: dict[str, Any]) -> None:
        if "seq" in message:
            arrived.append((asyncio.get_running_loop().time(), message["seq"]))
            if len(arrived) == 2:
                await talk.say(type="throttle", limit="spool_bytes", retry_after_ms=250, from_seq=1)
            if len(arrived) in (2, 3):
                return
        await obliging(talk, message)

    async def scenario(link: Link) -> None:
        send(link, 3)
        await acked(link, 2)

    peer = Peer(behave)
    link = run(peer, scenario)
    assert [seq for _, seq in arrived] == [0, 1, 2, 1, 2]
    assert arrived[3][0] - arrived[1][0] > 0.2
    assert [message["seq"] for _, message in peer.stored] == [0, 1, 2]
    assert tally(link).throttled == {"spool_bytes": 1}


def test_pings_are_answered_with_their_payload() -> None:
    async def scenario(link: Link) -> None:
        await eventually(lambda: link.device.phase is Phase.READY, "the welcome")
        pong = await peer.connections[0].socket.ping(b"are you there")
        await asyncio.wait_for(pong, 5)

    peer = Peer()
    run(peer, scenario)


def test_fragmented_messages_are_put_together() -> None:
    async def behave(talk: Conversation, message: dict[str, Any]) -> None:
        if "seq" in message:
            await talk.socket.send(iter(['{"type":', '"ack","', 'seq":0}']))
        else:
            await obliging(talk, message)

    async def scenario(link: Link) -> None:
        send(link)
        await acked(link, 0)

    run(Peer(behave), scenario)


def test_a_gateway_that_stopped_answering_is_left() -> None:
    """Its sockets are open and nothing comes: neither acks nor pongs."""

    async def behave(talk: Conversation, message: dict[str, Any]) -> None:
        if talk.number == 0 and "seq" in message:
            talk.socket.transport.pause_reading()
        else:
            await obliging(talk, message)

    async def scenario(link: Link) -> None:
        send(link)
        await acked(link, 0)

    link = run(Peer(behave, keepalive=FAST), scenario)
    assert tally(link).closes["gateway silent"] >= 1
    assert tally(link).reconnects >= 1


def test_a_quiet_gateway_that_answers_pings_is_kept() -> None:
    async def scenario(link: Link) -> None:
        await eventually(lambda: link.device.phase is Phase.READY, "the welcome")
        for n in range(2):
            heard_at = link.device._heard_at
            await eventually(lambda heard_at=heard_at: link.device._heard_at > heard_at, f"pong {n}")  # type: ignore[misc]

    link = run(Peer(keepalive={"ping_interval_ms": 300, "timeout_ms": 60_000}), scenario)
    assert tally(link).connects == 1


def test_a_hanging_device_reads_nothing_and_recovers() -> None:
    async def scenario(link: Link) -> None:
        await eventually(lambda: link.device.phase is Phase.READY, "the welcome")
        link.hang()
        pong = await peer.connections[0].socket.ping()
        done, _ = await asyncio.wait([asyncio.ensure_future(pong)], timeout=0.3)
        assert not done
        link.unhang()
        await asyncio.wait_for(pong, 5)
        send(link)
        await acked(link, 0)

    peer = Peer()
    run(peer, scenario)


def test_a_device_that_hangs_while_it_reconnects_goes_on_hanging() -> None:
    async def scenario(link: Link) -> None:
        link.hang()
        await eventually(lambda: peer.connections and link._connection, "the connection, at both ends")
        pong = await peer.connections[0].socket.ping()
        done, _ = await asyncio.wait([asyncio.ensure_future(pong)], timeout=0.3)
        assert not done
        link.unhang()
        await asyncio.wait_for(pong, 5)

    peer = Peer()
    run(peer, scenario)


def test_a_vanished_connection_is_made_again() -> None:
    async def scenario(link: Link) -> None:
        send(link)
        await acked(link, 0)
        link.vanish()
        send(link)
        await acked(link, 1)

    peer = Peer()
    run(peer, scenario)
    assert peer.closes[0] == 1006


def test_a_repeated_message_is_a_duplicate_to_the_peer() -> None:
    async def scenario(link: Link) -> None:
        send(link)
        link.repeat(0, b'{"seq":0}')  # not yet sent: of no effect
        await acked(link, 0)
        link.repeat(0, b'{"seq":0}')
        await eventually(lambda: peer.duplicates, "the duplicate")

    peer = Peer()
    link = run(peer, scenario)
    assert (peer.duplicates, tally(link).duplicates) == (1, 1)


def test_a_gateway_without_the_subprotocol_is_a_violation() -> None:
    async def scenario(link: Link) -> None:
        await eventually(lambda: link.device.phase is Phase.READY, "the welcome")

    peer = Peer()
    peer.subprotocols = ["telemetry.v2.json"]
    link = run(peer, scenario)
    assert "chose the subprotocol None" in tally(link).violation_texts[0]


def test_an_error_in_a_callback_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Device, text: bytes, now: float) -> Any:
        raise RuntimeError("a bug in the simulator")

    async def scenario(link: Link) -> None:
        await asyncio.wait([link._network.failed])

    monkeypatch.setattr(Device, "received", broken)
    with pytest.raises(RuntimeError, match="a bug in the simulator"):
        run(Peer(), scenario)
