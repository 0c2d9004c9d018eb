from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from gateway.devices.keepalive import MAX_SCAN_INTERVAL, Keepalive


@dataclass(eq=False)
class Socket:
    opened_at: float = 0.0
    last_byte_at: float = 0.0
    pinged_at: float = -1.0
    authenticated: bool = True
    awaits_approval: bool = False
    paused: bool = False
    unfinished: int = 0
    did: list[str] = field(default_factory=list)

    def send_ping(self) -> None:
        self.did.append("ping")

    def expire(self) -> None:
        self.did.append("expire")

    def credentials_late(self) -> None:
        self.did.append("late")

    def message_late(self) -> None:
        self.did.append("message late")


def keepalive(*sockets: Socket) -> Keepalive:
    return Keepalive(list(sockets), ping_interval=20, timeout=30, credentials_timeout=10, message_timeout=120)


def test_silence_is_answered_by_one_ping_and_then_by_the_end() -> None:
    socket = Socket()
    watch = keepalive(socket)
    for now in (5.0, 19.9):
        watch.scan(now)
    assert socket.did == []
    for now in (20.0, 20.5, 25.0, 29.9):
        watch.scan(now)
    assert socket.did == ["ping"]
    watch.scan(30.0)
    assert socket.did == ["ping", "expire"]


def test_a_pong_within_the_clocks_own_tick_is_heard() -> None:
    """A loop's clock may count in milliseconds; a device on the same machine answers sooner."""
    socket = Socket()
    k = keepalive(socket)
    for now in (20.0, 40.0, 60.0):
        k.scan(now)
        socket.last_byte_at = now
    assert socket.did == ["ping"] * 3


def test_any_byte_starts_the_silence_anew() -> None:
    socket = Socket()
    watch = keepalive(socket)
    watch.scan(20.0)
    socket.last_byte_at = 29.0
    watch.scan(30.0)
    watch.scan(48.9)
    assert socket.did == ["ping"]
    watch.scan(49.0)
    assert socket.did == ["ping", "ping"]


def test_a_socket_without_credentials_gets_no_pings_and_less_time() -> None:
    socket = Socket(authenticated=False, last_byte_at=9.0)
    watch = keepalive(socket)
    watch.scan(9.9)
    assert socket.did == []
    watch.scan(10.0)
    assert socket.did == ["late"]


def test_a_device_that_is_not_read_is_left_alone() -> None:
    socket = Socket(paused=True)
    watch = keepalive(socket)
    watch.scan(60.0)
    assert socket.did == []
    socket.paused, socket.last_byte_at = False, 60.0
    watch.scan(80.0)
    assert socket.did == ["ping"]


def test_only_the_silent_are_touched() -> None:
    sockets = [Socket(last_byte_at=at) for at in (0.0, 10.0, 25.0)]
    keepalive(*sockets).scan(30.0)
    assert [socket.did for socket in sockets] == [["expire"], ["ping"], []]


def test_one_timer_scans_again_and_again_and_tells_the_lag() -> None:
    class Counting(Keepalive):
        scans = 0

        def scan(self, now: float) -> None:
            super().scan(now)
            self.scans += 1
            if self.scans == 3:
                done.set()

    async def main() -> Counting:
        watch = Counting([], ping_interval=0.04, timeout=1, credentials_timeout=10, message_timeout=120)
        watch.start()
        await asyncio.wait_for(done.wait(), 10)
        watch.stop()
        return watch

    done = asyncio.Event()
    assert asyncio.run(main()).scans == 3


def test_a_scan_that_runs_late_passes_once_because_bytes_may_be_waiting() -> None:
    """A gateway that was stopped for a while must not drop everybody when it goes on."""
    socket = Socket(last_byte_at=0.0)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        socket.last_byte_at = loop.time()
        watch = Keepalive([socket], ping_interval=0.4, timeout=0.5, credentials_timeout=10, message_timeout=120)
        watch.start()
        time.sleep(0.8)  # noqa: ASYNC251 - the event loop stands still, which is the point
        arrived = loop.create_future()
        loop.call_soon(lambda: setattr(socket, "last_byte_at", loop.time()))
        loop.call_later(0.15, arrived.set_result, None)
        await arrived
        watch.stop()

    asyncio.run(main())
    assert "expire" not in socket.did


def test_a_stale_device_goes_within_a_second_of_the_time_out() -> None:
    assert MAX_SCAN_INTERVAL <= 1.0


def test_a_message_that_does_not_end_has_a_deadline_of_its_own() -> None:
    trickling, streaming, paused = Socket(unfinished=7), Socket(unfinished=1), Socket(unfinished=3, paused=True)
    watch = keepalive(trickling, streaming, paused)
    for now in range(0, 120, 5):
        streaming.unfinished += 1
        watch.look_for_unfinished(float(now))
    assert trickling.did == []
    watch.look_for_unfinished(120.0)
    assert trickling.did == ["message late"]
    assert streaming.did == paused.did == []


def test_a_message_that_ended_leaves_no_time_to_the_next_one() -> None:
    socket = Socket(unfinished=7)
    watch = keepalive(socket)
    watch.look_for_unfinished(0.0)
    socket.unfinished = 0
    watch.look_for_unfinished(115.0)
    socket.unfinished = 8
    for now in (119.0, 200.0, 238.0):
        watch.look_for_unfinished(now)
    assert socket.did == []
    watch.look_for_unfinished(239.0)
    assert socket.did == ["message late"]


def test_a_device_that_is_held_is_pinged_and_dropped_like_others_but_is_not_late() -> None:
    socket = Socket(authenticated=False, awaits_approval=True)
    watch = keepalive(socket)
    watch.scan(19.0)
    assert socket.did == []
    for now in (20.0, 21.0):
        watch.scan(now)
    assert socket.did == ["ping"]
    watch.scan(30.0)
    assert socket.did == ["ping", "expire"]
