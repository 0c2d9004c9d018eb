"""``GET /v1/live``: the request that becomes a viewer's stream of events.

The answer has no length and ends with the connection. So it consists of the events and nothing between them, and the
same bytes can be sent to every viewer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tornado.web import HTTPError

from gateway.api.handler import MALFORMED, ViewerHandler
from gateway.config.names import DEVICE_ID
from gateway.live.changes import ALL

if TYPE_CHECKING:
    from tornado.httputil import HTTPHeaders

    from gateway.devices.connections import Connections
    from gateway.live.feed import LiveFeed
    from gateway.metrics import Metrics

MAX_DEVICES = 100
"""Devices that one viewer may choose; to see more it takes all."""
MAX_DIGITS = 18
RETRY_AFTER = 5


class LiveHandler(ViewerHandler):
    """``GET /v1/live?device=A&device=B&readings=0``, with ``Last-Event-ID`` where the viewer was here before."""

    connections: Connections
    feed: LiveFeed
    metrics: Metrics

    def get(self) -> None:
        """Give the connection to the live feed."""
        devices = self.get_query_arguments("device")
        if len(devices) > MAX_DEVICES or not all(DEVICE_ID.fullmatch(device) for device in devices):
            raise HTTPError(MALFORMED, f"device must be a device id, at most {MAX_DEVICES} times")
        readings = self.get_query_argument("readings", "1") != "0"
        if self.connections.draining or self.feed.full:
            self.metrics.viewers_refused.inc()
            self.set_header("Retry-After", str(RETRY_AFTER))
            return self.refuse(503, "too_many_viewers", "no more viewers can be served now; try again later")
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Connection", "close")
        self.set_header("X-Accel-Buffering", "no")  # nginx passes events on as they come
        grant, after = self.grant(), self._after()
        stream = self.detach()
        self.feed.open(stream, _head(self._headers), devices, after, readings=readings)
        self.access.bind(stream, grant)
        return None

    def _after(self) -> int | None:
        """The number of the last event that this viewer got; `ALL` for a number that no gateway gave."""
        text = self.request.headers.get("Last-Event-ID", "").strip()
        if not text:
            return None
        return int(text) if text.isdecimal() and text.isascii() and len(text) <= MAX_DIGITS else ALL


def _head(headers: HTTPHeaders) -> bytes:
    lines = (f"{name}: {value}\r\n" for name, value in headers.get_all())
    return f"HTTP/1.1 200 OK\r\n{''.join(lines)}\r\n".encode("latin1")
