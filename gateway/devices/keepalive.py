"""Pings for silent devices and an end for stale ones: one timer that looks at every socket.

Any byte from a device is life, not only a pong: a device in the middle of a slow upload is alive. So the sockets only
note when bytes came, and this scan is the one place that compares. Nothing is created per device or per message; a
scan of 20,000 sockets takes a few milliseconds.

A device that the gateway does not read for now cannot be heard, so it is left alone (`gateway.devices.backpressure`).

A message that was begun and does not end would be life for ever, so it has a deadline of its own. Who is inside one is
looked at less often: a connection says which message it is in by a number, and this is the one place that keeps times.

A scan that runs late says nothing about the devices: their bytes may be waiting while the process was stopped or busy.
So it passes, and the loop reads the sockets before the next one; but never two scans in a row.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.process.loop_lag import LoopLag

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.devices.device_connection import DeviceConnection

LONGEST_TICK = 0.5
LONGEST_LOOK = 5.0
"""Seconds between two looks at unfinished messages."""


class Keepalive:
    """Scans ``sockets`` at most every half second, so that a stale one goes within ``timeout`` plus that."""

    def __init__(
        self,
        sockets: Iterable[DeviceConnection],
        *,
        ping_interval: float,
        timeout: float,
        credentials_timeout: float,
        message_timeout: float,
    ) -> None:
        self._sockets = sockets
        self._ping_interval = ping_interval
        self._timeout = timeout
        self._credentials_timeout = credentials_timeout
        self._message_timeout = message_timeout
        self._unfinished: dict[DeviceConnection, tuple[int, float]] = {}
        self._looked_at = 0.0
        self._tick = min(LONGEST_TICK, ping_interval / 4, credentials_timeout / 4)
        self._timer: asyncio.TimerHandle | None = None
        self._passed = False
        self.lag = 0.0
        """Seconds by which the last scan ran late: the event loop's lag."""
        self.lags = LoopLag()

    def start(self) -> None:
        """Begin scanning on the running loop."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._tick
        self._timer = loop.call_at(due, self._run, loop, due)

    def stop(self) -> None:
        """Scan no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _run(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        now = loop.time()
        self.lag = max(0.0, now - due)
        self.lags.note(self.lag, now)
        self._passed = self.lag > self._tick and not self._passed
        due = now + self._tick
        self._timer = loop.call_at(due, self._run, loop, due)  # first: no error below may end the scans
        if not self._passed:
            self.scan(now)
            if now - self._looked_at >= min(LONGEST_LOOK, self._message_timeout / 4):
                self.look_for_unfinished(now)

    def scan(self, now: float) -> None:
        """Ping, drop or leave each socket, by how long it has been silent at ``now``."""
        ping_before = now - self._ping_interval
        for socket in [s for s in self._sockets if s.last_byte_at <= ping_before or not s.authenticated]:
            if socket.paused:
                continue
            if not socket.authenticated and not socket.awaits_approval:
                if now - socket.opened_at >= self._credentials_timeout:
                    socket.credentials_late()
            elif now - socket.last_byte_at >= self._timeout:
                socket.expire()
            elif socket.pinged_at <= socket.last_byte_at <= ping_before:  # uvloop counts in ms, a pong may take less
                socket.pinged_at = now
                socket.send_ping()

    def look_for_unfinished(self, now: float) -> None:
        """Drop who has been inside the same message since `message_timeout` before ``now``."""
        self._looked_at = now
        before, self._unfinished = self._unfinished, {}
        for socket in [s for s in self._sockets if s.unfinished and not s.paused]:
            number, since = before.get(socket, (0, now))
            if number != socket.unfinished:
                since = now
            if now - since >= self._message_timeout:
                socket.message_late()
            else:
                self._unfinished[socket] = socket.unfinished, since
