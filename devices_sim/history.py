"""The past of a device: readings from before the run, sent in batches before the device streams.

Rules that hold here:

* The past is a pure function of the device's seed and of time, with a tick a minute counted from 1970. So a second run
  sends the same points.
* Batches are ordinary numbered messages: they are acknowledged, resent, throttled and reported like all others.
* Readings that the gateway already shows are not sent again.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit, urlunsplit
from urllib.request import urlopen

import orjson

from devices_sim.protocol import Phase
from devices_sim.report import MessageLog
from devices_sim.sensors import noise

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from devices_sim.link import Link
    from devices_sim.network import Network
    from devices_sim.sensors import Sensor

MINUTE_MS = 60_000
PERIOD = 2 * 24 * 60
"""Minutes from the start of one outage to the next."""
FRESH_MS = 2 * MINUTE_MS
"""Newer readings go in a message of their own, because a message is as live as its newest reading ("Rates" in
docs/reference/protocol.md)."""
_BATCH = 250
_READING_BYTES = 200
"""More than a reading of any kind takes."""
_MAX_PENDING = 8
"""Batches that may be unacknowledged."""
MAX_AT_ONCE = 8
"""Devices that may send their past at the same time."""
_PAUSE = 0.005
_POINTS = 10_000
_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class History:
    """How many seconds the past of a fleet goes back; shared by all its devices, which take ``turns``."""

    seconds: float
    turns: asyncio.Semaphore


class Past:
    """One device's past; ``outage`` is how many seconds in a row are missing from every two days."""

    def __init__(self, history: History, sensor: Sensor, outage: float) -> None:
        self.sensor = replace(sensor, start_ms=0, interval_ms=MINUTE_MS, bad_share=0.0, samples=1, drift=0.0)
        self.log = MessageLog()
        self._history = history
        self._outage = round(outage * 1000) // MINUTE_MS

    async def send(self, link: Link, network: Network, skew: float) -> None:
        """Connect ``link`` and send the past over it; ``skew`` is how far the device's clock is ahead, in seconds.

        Ends early if the gateway stops the device.
        """
        async with self._history.turns:
            now_ms = round((time.time() + skew) * 1000)
            begin_ms = now_ms - round(self._history.seconds * 1000)
            known_ms = await asyncio.to_thread(self._known, network.url, network.tls, link.device.id, begin_ms, now_ms)
            link.connect()
            fresh_ms = max(known_ms, now_ms - FRESH_MS)
            for stretch in (*self.stretches(known_ms, fresh_ms), *self.stretches(fresh_ms, now_ms)):
                await self._send_stretch(link, network, stretch)

    def stretches(self, begin_ms: int, now_ms: int) -> Iterator[range]:
        """The ticks from ``begin_ms`` to ``now_ms`` without outages."""
        first, stop = -(-begin_ms // MINUTE_MS), -(-now_ms // MINUTE_MS)
        if not self._outage:
            yield range(first, stop)
            return
        phase = round((1 + noise(self.sensor.seed, 0, 98)) / 2 * PERIOD)
        gap = first - (first - phase) % PERIOD
        while first < stop:
            first = max(first, gap + self._outage)
            gap += PERIOD
            if stretch := range(first, min(gap, stop)):
                yield stretch
            first = gap

    async def _send_stretch(self, link: Link, network: Network, stretch: range) -> None:
        device = link.device
        while stretch:
            while device.phase is not Phase.READY or len(device.outbox.pending) >= _MAX_PENDING:
                if device.phase is Phase.STOPPED:
                    return
                await asyncio.sleep(_PAUSE)
            size = max(1, min(_BATCH, device.limits.max_message_bytes // _READING_BYTES))
            ticks, stretch = stretch[:size], stretch[size:]
            self.log.add(device.outbox.next_seq, ticks.start, len(ticks))
            network.tally.history += len(ticks)
            link.submit(self.sensor.batch(device.outbox.next_seq, ticks.start, len(ticks)), len(ticks))

    def _known(self, url: str, tls: ssl.SSLContext | None, device: str, begin_ms: int, now_ms: int) -> int:
        """The time up to which the gateway shows readings of ``device``; ``begin_ms`` if it shows none."""
        field = next(name for point in self.sensor.points(0, 1) if point is not None for name in point.fields)
        query = {"device": device, "field": field, "from": begin_ms, "to": now_ms, "points": _POINTS}
        parts = urlsplit(url)
        scheme = {"ws": "http", "wss": "https"}[parts.scheme]
        address = urlunsplit((scheme, parts.netloc, f"{parts.path}/v1/query", urlencode(query), ""))
        try:
            with urlopen(address, timeout=_TIMEOUT, context=tls) as answer:  # noqa: S310 - http(s) by construction
                found = orjson.loads(answer.read())
            return max((round(p["time"] + found["resolution_ms"]) for p in found["points"][-1:]), default=begin_ms)
        except HTTPError as refused:
            refused.close()  # it holds the connection
            return begin_ms
        except (OSError, ValueError, KeyError):
            return begin_ms
