"""A loop that was blocked shows, also to who asks a quarter of a minute later."""

from __future__ import annotations

import asyncio
import time

from gateway.devices.keepalive import Keepalive
from gateway.process.loop_lag import SPAN, LoopLag


def test_the_worst_is_seen_for_a_while_and_then_forgotten() -> None:
    lag = LoopLag()
    for now in range(100, 110):
        lag.note(0.01, now)
    lag.note(2.5, 110)
    lag.note(0.01, 110.5)
    assert lag.worst(111) == 2.5
    for now in range(111, 111 + int(SPAN)):
        lag.note(0.01, now)
    assert lag.worst(110 + SPAN) == 2.5
    for now in range(111 + int(SPAN), 111 + 3 * int(SPAN)):
        lag.note(0.01, now)
    assert lag.worst(111 + 3 * SPAN) == 0.01


def test_nothing_old_is_told_after_a_silence() -> None:
    lag = LoopLag()
    lag.note(2.5, 100)
    assert lag.worst(100 + 10 * SPAN) == 0.0


def test_a_blocked_loop_shows_after_it_goes_again() -> None:
    async def main() -> None:
        keepalive = Keepalive([], ping_interval=20, timeout=30, credentials_timeout=10, message_timeout=120)
        keepalive.start()
        time.sleep(1.1)  # noqa: ASYNC251 - this is the blocked loop
        await asyncio.sleep(0.6)
        assert keepalive.lag < 0.6
        assert keepalive.lags.worst(asyncio.get_running_loop().time()) > 0.5
        keepalive.stop()

    asyncio.run(main())
