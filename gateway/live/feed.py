"""The live feed: what changes, as Server-Sent Events (WHATWG HTML, section 9.2), to everybody who watches.

Rules that hold here:

* Only what is durable gets here (`Fleet.show`), and nothing is kept or done while nobody watches.
* One timer serves all viewers. Viewers with the same filter are one `ViewerGroup`: an event is encoded once for it.
* Nothing waits for a viewer but what its stream has not sent: one piece and the totals. Meanwhile it gets nothing more,
  then it goes on from where it was with what is newest by then, marked ``conflated``. It is never cut for being slow.
* The work of a round is done in slices: to write to hundreds of viewers must not keep devices from their acks.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from typing import TYPE_CHECKING, Any

from gateway import __version__
from gateway.live.changes import ALL, Chosen, Watch, WholeFleet
from gateway.live.events import event, piece_of
from gateway.live.viewer import Viewer, ViewerGroup
from gateway.time_units import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

    from tornado.iostream import IOStream

    from gateway.devices.device_view import DeviceView
    from gateway.devices.fleet import Fleet
    from gateway.ledger import Entry
    from gateway.metrics import Metrics

    Filter = tuple[frozenset[str] | None, bool]

log = logging.getLogger(__name__)

MOST_VIEWERS = 1000
TICK = 0.1
"""Seconds between two events for the same series, at least."""
BEAT = 10
"""Ticks between two rounds for those who watch all devices, and between totals."""
HEARTBEAT = 10
"""Beats between two comments."""
SLICE = 0.002
KEPT = 60.0
"""Seconds that the changes are kept up after the last viewer of a feed left, for those who come back."""
RETRY_MS = 2000
SEND_BUFFER = 256 * 1024
"""Of the kernel, for each viewer: what waits there grows old, so it must not be megabytes."""


class LiveFeed:
    """The viewers of one gateway. ``totals`` makes the event of that name from how many devices are in
    which state and how many viewers there are."""

    def __init__(
        self, fleet: Fleet, metrics: Metrics, totals: Callable[[Mapping[str, int], int], dict[str, Any]]
    ) -> None:
        self._fleet = fleet
        self._metrics = metrics
        self._totals = totals
        self._number = time.time_ns() // 1000
        self._feeds: dict[Filter, ViewerGroup] = {}
        self._whole: WholeFleet | None = None
        self._watches: dict[str, Watch] = {}
        self._watched = 0
        self._timer: asyncio.TimerHandle | None = None
        self._work: Generator[None] | None = None
        self._ticks = 0
        self._closed = False

    @property
    def viewers(self) -> int:
        """How many watch."""
        return sum(len(feed.viewers) for feed in self._feeds.values())

    @property
    def full(self) -> bool:
        """Whether nobody else may watch."""
        return self._closed or self.viewers >= MOST_VIEWERS

    def open(
        self, stream: IOStream, head: bytes, devices: Iterable[str], after: int | None, *, readings: bool = True
    ) -> None:
        """ViewerGroup ``stream``, beginning with the HTTP ``head``: of ``devices``, or of all if it is empty.

        ``after`` is the number of the last event that it got before, if any.
        """
        if stream.closed():
            return
        feed = self._feed((frozenset(devices) or None, readings))
        source = feed.source
        seen = source.newest if after is None else after
        if seen < source.began or seen > self._number:
            seen = ALL
            if isinstance(source, WholeFleet):
                source.recall(list(self._fleet.views))
        viewer = Viewer(stream, feed, seen)
        stream.set_nodelay(True)
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        stream.set_close_callback(lambda: self._left(viewer))
        feed.viewers.add(viewer)
        hello = {"now": time.time_ns() // NS_PER_MS, "version": __version__}
        viewer.write(head + b"retry: %d\n\n" % RETRY_MS + event("hello", hello, source.newest if seen == ALL else seen))
        self._start()

    def _feed(self, key: Filter) -> ViewerGroup:
        found = self._feeds.get(key)
        if found is None:
            devices, readings = key
            source = self._everything() if devices is None else self._chosen(sorted(devices))
            found = self._feeds[key] = ViewerGroup(source, readings=readings)
        return found

    def _everything(self) -> WholeFleet:
        if self._whole is None:
            self._whole = WholeFleet(self._number)
        return self._whole

    def _chosen(self, devices: Sequence[str]) -> Chosen:
        watches = []
        for device in devices:
            if device not in self._watches:
                self._watched += 1
                self._watches[device] = Watch(device, self._watched)
            watches.append(self._watches[device])
            watches[-1].feeds += 1
        return Chosen(watches, self._number)

    def _left(self, viewer: Viewer) -> None:
        feed = viewer.feed
        feed.viewers.discard(viewer)
        if not feed.viewers and len(self._feeds) <= MOST_VIEWERS:
            feed.left_at = asyncio.get_running_loop().time()

    def data(self, view: DeviceView, entry: Entry) -> None:
        """See `FleetListener`: on the way of every message while somebody watches."""
        if self._whole is not None:
            self._whole.fresh_data[view.id] = None
        watch = self._watches.get(view.id)
        if watch is not None:
            watch.data(entry)

    def presence(self, view: DeviceView) -> None:
        """See `FleetListener`."""
        self._differs(view, view.state_at(time.time_ns())[0])

    def _differs(self, view: DeviceView, state: str) -> None:
        view.told = state
        if self._whole is not None:
            self._whole.fresh_states[view.id] = None
        watch = self._watches.get(view.id)
        if watch is not None:
            watch.state()

    def _start(self) -> None:
        if self._timer is not None:
            return
        self._fleet.watcher = self
        loop = asyncio.get_running_loop()
        self._ticks = 0
        self._begin(self._take_note())
        self._timer = loop.call_at(loop.time() + TICK, self._tick, loop.time() + TICK)

    def _take_note(self) -> Generator[None]:
        """The states as they are now are no news to the first viewer, who loads the list meanwhile."""

        def differs(view: DeviceView, state: str) -> None:
            view.told = state

        yield from self._fleet.census(time.time_ns(), differs)

    def _tick(self, due: float) -> None:
        loop = asyncio.get_running_loop()
        self._forget(loop.time() - KEPT)
        if not self._feeds:
            self._timer = self._fleet.watcher = None
            return
        due = max(due + TICK, loop.time())
        self._timer = loop.call_at(due, self._tick, due)
        if self._work is None:
            self._ticks += 1
            self._begin(self._round())

    def _forget(self, before: float) -> None:
        """Give up the feeds that nobody has watched since ``before``."""
        for key, feed in list(self._feeds.items()):
            if feed.viewers or feed.left_at > before:
                continue
            del self._feeds[key]
            for watch in feed.source.watches if isinstance(feed.source, Chosen) else ():
                watch.feeds -= 1
                if not watch.feeds:
                    del self._watches[watch.device]
        if not any(isinstance(feed.source, WholeFleet) for feed in self._feeds.values()):
            self._whole = None

    def _begin(self, work: Generator[None]) -> None:
        self._work = work
        self._go_on()

    def _go_on(self) -> None:
        work, until = self._work, time.perf_counter() + SLICE
        if work is None:
            return
        try:
            for _ in work:
                if time.perf_counter() > until:
                    asyncio.get_running_loop().call_soon(self._go_on)
                    return
        except Exception:
            log.exception("live feed: a round failed; viewers get what they missed with the next one")
        self._work = None

    def _round(self) -> Generator[None]:
        beat = b""
        if self._ticks % BEAT == 0:
            counts = yield from self._fleet.census(time.time_ns(), self._differs)
            if self._whole is not None:
                self._number = self._whole.fold(self._number)
            beat = event("totals", self._totals(counts, self.viewers))
            if self._ticks % (BEAT * HEARTBEAT) == 0:
                beat += b": heartbeat\n\n"
        for watch in self._watches.values():
            self._number = watch.fold(self._number)
        for feed in list(self._feeds.values()):
            yield from self._serve(feed, beat)

    def _serve(self, feed: ViewerGroup, beat: bytes) -> Generator[None]:
        head = feed.source.newest
        abreast = [viewer for viewer in feed.viewers if viewer.seen == feed.sent]
        behind = [viewer for viewer in feed.viewers if viewer.seen != feed.sent]
        if head != feed.sent:
            self._conflate(viewer for viewer in feed.viewers if not viewer.ready)
        feed.sent = head
        for viewers in (abreast, behind):
            yield from self._deliver(feed, viewers, head, beat)
        for viewer in [*abreast, *behind] if beat else ():
            if viewer.ready and viewer.beat is not beat:
                viewer.beat = beat
                viewer.write(beat)
                yield

    def _deliver(self, feed: ViewerGroup, viewers: Sequence[Viewer], head: int, beat: bytes) -> Generator[None]:
        """Bring ``viewers`` up to ``head`` as far as they take it. Each piece goes to all who lack some of it."""
        while waiting := [viewer for viewer in viewers if viewer.ready and viewer.seen < head]:
            start = min(viewer.seen for viewer in waiting)
            changes = feed.source.since(start, readings=feed.readings)
            piece = yield from piece_of(changes, self._fleet, start, head)
            for viewer in waiting:
                if viewer.seen < piece.end and viewer.ready:
                    before = b"" if viewer.beat is beat else beat
                    viewer.beat, viewer.seen = beat or viewer.beat, piece.end
                    viewer.write(piece.encoded(before, conflated=viewer.behind))
                    viewer.behind = viewer.behind and piece.end < head
                    yield
            yield

    def _conflate(self, viewers: Iterable[Viewer]) -> None:
        for viewer in viewers:
            if not viewer.behind:
                viewer.behind = True
                self._metrics.live_conflated.inc()

    def close(self) -> None:
        """End all streams; nobody is served any more. Viewers come back by themselves."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._work = self._timer = self._fleet.watcher = None
        for feed in self._feeds.values():
            for viewer in list(feed.viewers):
                viewer.stream.close()
        self._feeds.clear()
