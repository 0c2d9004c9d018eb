"""Pings silent devices and closes stale connections, with one timer that scans all sockets.

Rules that hold here:

* Any byte from a device counts as life, not only a pong: a device in the middle of a slow upload is alive. The sockets
  note when bytes came; this scan is the one place that compares. Nothing is created per device or per message. A scan
  of 20,000 sockets takes a few milliseconds.
* A device that the gateway does not read now cannot be heard, so it is not judged (`gateway.devices.backpressure`).
* A message that is begun and never ends would count as life for ever, so it has a deadline of its own. Connections in
  the middle of a message are looked at less often: a connection names its message by a number, and this is the one
  place that keeps the times.
* A scan that runs late says nothing about the devices: their bytes may wait while the process was stopped or busy. Such
  a scan is skipped, so that the loop reads the sockets first; but never two in a row.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.process.loop_lag import LoopLag

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.devices.device_connection import DeviceConnection

MAX_SCAN_INTERVAL = 0.5
"""Seconds between two scans, at most."""
MAX_LOOK_INTERVAL = 5.0
"""Seconds between two looks at unfinished messages, at most."""


class Keepalive:
    """Scans ``sockets`` at least every half second, so that a stale one is closed within ``timeout`` plus that.

    All times are in seconds.
    """

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
        """The message that each connection was in at the last look, by its number, and since when."""
        self._looked_at = 0.0
        """When unfinished messages were looked at last."""
        self._interval = min(MAX_SCAN_INTERVAL, ping_interval / 4, credentials_timeout / 4)
        self._timer: asyncio.TimerHandle | None = None
        """Runs the next scan."""
        self._skipped = False
        """Whether the last scan was skipped."""
        self.lag = 0.0
        """Seconds by which the last scan ran late: the event loop's lag."""
        self.lags = LoopLag()
        """The longest of these delays lately."""

    def start(self) -> None:
        """Begin scanning on the running loop."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._interval
        self._timer = loop.call_at(due, self._run, loop, due)

    def stop(self) -> None:
        """Scan no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _run(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        now = loop.time()
        self.lag = max(0.0, now - due)
        self.lags.note(self.lag, now)
        self._skipped = self.lag > self._interval and not self._skipped
        due = now + self._interval
        self._timer = loop.call_at(due, self._run, loop, due)  # first: an error below must not end the scans
        if not self._skipped:
            self.scan(now)
            if now - self._looked_at >= min(MAX_LOOK_INTERVAL, self._message_timeout / 4):
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
        """Close the connections that have been inside the same message for `message_timeout` at ``now``."""
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
