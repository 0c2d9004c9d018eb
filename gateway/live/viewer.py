"""One viewer's stream, and the group of all viewers that chose the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tornado.iostream import StreamClosedError

from gateway.live.changes import ALL

if TYPE_CHECKING:
    from tornado.iostream import IOStream

    from gateway.live.changes import ChangeSource


class Viewer:
    """One open stream of events."""

    __slots__ = ("behind", "group", "seen", "stream", "totals")

    def __init__(self, stream: IOStream, group: ViewerGroup, seen: int) -> None:
        self.stream = stream
        self.group = group
        self.seen = seen
        """The number of the last change that it was sent."""
        self.behind = seen == ALL
        """Whether it has missed changes: the next events are marked ``conflated``."""
        self.totals = b""
        """The totals that it was sent last."""

    @property
    def ready(self) -> bool:
        """Whether everything that it was sent has left the stream's buffer."""
        return not self.stream.closed() and not self.stream.writing()

    def write(self, data: bytes) -> None:
        """Send ``data``; what the client does not take at once waits in the stream's buffer."""
        try:
            self.stream.write(data)
        except StreamClosedError:
            return  # the stream's close callback forgets the viewer


class ViewerGroup:
    """All viewers with one filter."""

    def __init__(self, source: ChangeSource, *, readings: bool) -> None:
        self.source = source
        self.readings = readings
        """Whether they get data as well as states."""
        self.viewers: set[Viewer] = set()
        self.sent = source.newest
        """The number of the last change that was sent to the viewers that are not behind."""
        self.left_at = 0.0
        """When the last viewer left, in the event loop's seconds."""
