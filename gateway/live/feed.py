"""The live feed: changes as Server-Sent Events (WHATWG HTML, section 9.2) to every viewer.

Rules that hold here:

* Only durable readings get here (`Fleet.show`). Nothing is kept or done while there is no viewer.
* One timer serves all viewers. Viewers with the same filter are one `ViewerGroup`: an event is encoded once for it.
* What waits for a viewer is what its stream has not sent yet: one piece and the totals. Until that is sent it gets
  nothing more. Then it goes on from where it was, with the values that are newest by then, marked ``conflated``. No
  viewer is cut off for being slow.
* The work of a round is done in slices: writing to hundreds of viewers must not delay the acks of devices.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from typing import TYPE_CHECKING, Any

from gateway import __version__
from gateway.live.changes import ALL, ChosenDevice, ChosenDevices, WholeFleet
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

MAX_VIEWERS = 1000
TICK = 0.1
"""Seconds between two events for the same series, at least."""
BEAT = 10
"""Ticks between two rounds for viewers of all devices, and between totals."""
HEARTBEAT = 10
"""Beats between two comments that keep the connection alive."""
SLICE = 0.002
"""Seconds of work before the event loop serves others."""
KEPT = 60.0
"""Seconds for which changes are noted after the last viewer of a group has left, in case it comes back."""
RETRY_MS = 2000
SEND_BUFFER = 256 * 1024
"""Bytes of the kernel's buffer for each viewer. Values that wait there grow old, so it must not be megabytes."""


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
        """The last number that a change got."""
        self._groups: dict[Filter, ViewerGroup] = {}
        """By the chosen devices (None: all) and whether they get data."""
        self._whole: WholeFleet | None = None
        """The changes of all devices; None while no viewer wants them."""
        self._chosen: dict[str, ChosenDevice] = {}
        """The changes of each device that a viewer chose."""
        self._places = 0
        """How many devices were ever chosen: the place of the newest (`ChosenDevice`)."""
        self._timer: asyncio.TimerHandle | None = None
        """Runs `_tick`; None while there is no viewer."""
        self._work: Generator[None] | None = None
        """The round that is under way."""
        self._ticks = 0
        """Rounds since the feed was started; every `BEAT` of them viewers get the totals."""
        self._closed = False
        """Whether the gateway is stopping."""

    @property
    def viewers(self) -> int:
        """How many viewers there are."""
        return sum(len(group.viewers) for group in self._groups.values())

    @property
    def full(self) -> bool:
        """Whether no other viewer is admitted."""
        return self._closed or self.viewers >= MAX_VIEWERS

    def open(
        self, stream: IOStream, head: bytes, devices: Iterable[str], after: int | None, *, readings: bool = True
    ) -> None:
        """ViewerGroup ``stream``, beginning with the HTTP ``head``: of ``devices``, or of all if it is empty.

        ``after`` is the number of the last event that it got before, if any.
        """
        if stream.closed():
            return
        group = self._group((frozenset(devices) or None, readings))
        source = group.source
        seen = source.newest if after is None else after
        if seen < source.began or seen > self._number:
            seen = ALL
            if isinstance(source, WholeFleet):
                source.recall(list(self._fleet.views))
        viewer = Viewer(stream, group, seen)
        stream.set_nodelay(True)
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        stream.set_close_callback(lambda: self._left(viewer))
        group.viewers.add(viewer)
        hello = {"now": time.time_ns() // NS_PER_MS, "version": __version__}
        viewer.write(head + b"retry: %d\n\n" % RETRY_MS + event("hello", hello, source.newest if seen == ALL else seen))
        self._start()

    def _group(self, key: Filter) -> ViewerGroup:
        found = self._groups.get(key)
        if found is None:
            devices, readings = key
            source = self._everything() if devices is None else self._choose(sorted(devices))
            found = self._groups[key] = ViewerGroup(source, readings=readings)
        return found

    def _everything(self) -> WholeFleet:
        if self._whole is None:
            self._whole = WholeFleet(self._number)
        return self._whole

    def _choose(self, devices: Sequence[str]) -> ChosenDevices:
        chosen = []
        for device in devices:
            if device not in self._chosen:
                self._places += 1
                self._chosen[device] = ChosenDevice(device, self._places)
            chosen.append(self._chosen[device])
            chosen[-1].groups += 1
        return ChosenDevices(chosen, self._number)

    def _left(self, viewer: Viewer) -> None:
        group = viewer.group
        group.viewers.discard(viewer)
        if not group.viewers and len(self._groups) <= MAX_VIEWERS:
            group.left_at = asyncio.get_running_loop().time()

    def data(self, view: DeviceView, entry: Entry) -> None:
        """See `FleetListener`; called for every durable message while there are viewers."""
        if self._whole is not None:
            self._whole.fresh_data[view.id] = None
        chosen = self._chosen.get(view.id)
        if chosen is not None:
            chosen.data(entry)

    def presence(self, view: DeviceView) -> None:
        """See `FleetListener`."""
        self._differs(view, view.state_at(time.time_ns())[0])

    def _differs(self, view: DeviceView, state: str) -> None:
        view.told = state
        if self._whole is not None:
            self._whole.fresh_states[view.id] = None
        chosen = self._chosen.get(view.id)
        if chosen is not None:
            chosen.state()

    def _start(self) -> None:
        if self._timer is not None:
            return
        self._fleet.watcher = self
        loop = asyncio.get_running_loop()
        self._ticks = 0
        self._begin(self._note_states())
        self._timer = loop.call_at(loop.time() + TICK, self._tick, loop.time() + TICK)

    def _note_states(self) -> Generator[None]:
        """Note the states as they are now: the first viewer loads the list meanwhile, so they are no change for it."""

        def differs(view: DeviceView, state: str) -> None:
            view.told = state

        yield from self._fleet.census(time.time_ns(), differs)

    def _tick(self, due: float) -> None:
        loop = asyncio.get_running_loop()
        self._forget(loop.time() - KEPT)
        if not self._groups:
            self._timer = self._fleet.watcher = None
            return
        due = max(due + TICK, loop.time())
        self._timer = loop.call_at(due, self._tick, due)
        if self._work is None:
            self._ticks += 1
            self._begin(self._round())

    def _forget(self, before: float) -> None:
        """Give up the groups that have had no viewer since ``before``."""
        for key, group in list(self._groups.items()):
            if group.viewers or group.left_at > before:
                continue
            del self._groups[key]
            for chosen in group.source.devices if isinstance(group.source, ChosenDevices) else ():
                chosen.groups -= 1
                if not chosen.groups:
                    del self._chosen[chosen.device]
        if not any(isinstance(group.source, WholeFleet) for group in self._groups.values()):
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
        totals = b""
        if self._ticks % BEAT == 0:
            counts = yield from self._fleet.census(time.time_ns(), self._differs)
            if self._whole is not None:
                self._number = self._whole.fold(self._number)
            totals = event("totals", self._totals(counts, self.viewers))
            if self._ticks % (BEAT * HEARTBEAT) == 0:
                totals += b": heartbeat\n\n"
        for chosen in self._chosen.values():
            self._number = chosen.fold(self._number)
        for group in list(self._groups.values()):
            yield from self._serve(group, totals)

    def _serve(self, group: ViewerGroup, totals: bytes) -> Generator[None]:
        head = group.source.newest
        abreast = [viewer for viewer in group.viewers if viewer.seen == group.sent]
        behind = [viewer for viewer in group.viewers if viewer.seen != group.sent]
        if head != group.sent:
            self._conflate(viewer for viewer in group.viewers if not viewer.ready)
        group.sent = head
        for viewers in (abreast, behind):
            yield from self._deliver(group, viewers, head, totals)
        for viewer in [*abreast, *behind] if totals else ():
            if viewer.ready and viewer.totals is not totals:
                viewer.totals = totals
                viewer.write(totals)
                yield

    def _deliver(self, group: ViewerGroup, viewers: Sequence[Viewer], head: int, totals: bytes) -> Generator[None]:
        """Bring ``viewers`` up to ``head`` as far as they take it. Viewers that lack the same changes share a piece."""
        while waiting := [viewer for viewer in viewers if viewer.ready and viewer.seen < head]:
            start = min(viewer.seen for viewer in waiting)
            changes = group.source.since(start, readings=group.readings)
            piece = yield from piece_of(changes, self._fleet, start, head)
            for viewer in waiting:
                if viewer.seen < piece.end and viewer.ready:
                    before = b"" if viewer.totals is totals else totals
                    viewer.totals, viewer.seen = totals or viewer.totals, piece.end
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
        """End all streams, and admit no viewer any more. Browsers reconnect by themselves."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._work = self._timer = self._fleet.watcher = None
        for group in self._groups.values():
            for viewer in list(group.viewers):
                viewer.stream.close()
        self._groups.clear()
