"""Who watches: one viewer's stream, and all viewers that watch the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tornado.iostream import StreamClosedError

from gateway.live.changes import ALL

if TYPE_CHECKING:
    from tornado.iostream import IOStream

    from gateway.live.changes import Chosen, WholeFleet


class Viewer:
    """One open stream; ``seen`` is the number up to which it has everything."""

    __slots__ = ("beat", "behind", "feed", "seen", "stream")

    def __init__(self, stream: IOStream, feed: ViewerGroup, seen: int) -> None:
        self.stream = stream
        self.feed = feed
        self.seen = seen
        self.behind = seen == ALL
        self.beat = b""
        """The totals that it got last, to tell whether it has the newest."""

    @property
    def ready(self) -> bool:
        """Whether all that it was sent has gone out."""
        return not self.stream.closed() and not self.stream.writing()

    def write(self, data: bytes) -> None:
        """Send; what the peer does not take at once waits with the stream."""
        try:
            self.stream.write(data)
        except StreamClosedError:
            return  # the stream's close callback forgets the viewer


class ViewerGroup:
    """All viewers with one filter."""

    def __init__(self, source: WholeFleet | Chosen, *, readings: bool) -> None:
        self.source = source
        self.readings = readings
        self.viewers: set[Viewer] = set()
        self.sent = source.newest
        self.left_at = 0.0
        """When the last viewer left, in the loop's seconds."""
