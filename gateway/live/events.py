"""Changes as Server-Sent Events, in pieces that are encoded once for all viewers that get them.

A piece is bounded by its bytes, because that is what waits in memory for a viewer that does not read. Values are those
at the moment of encoding, which may be newer than the change: a viewer that gets a value twice loses nothing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import orjson

from gateway.time_units import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from gateway.devices.device_view import DeviceView
    from gateway.devices.fleet import Fleet
    from gateway.live.changes import DeviceChange

PIECE_BYTES = 256 * 1024
"""A piece ends with the device that makes it longer than this."""
STEP = 256
"""Changes that are encoded before the event loop serves others: less than a millisecond."""


def event(name: str, data: Any, number: int | None = None) -> bytes:
    """One event with JSON data; ``number`` is what the browser sends back as ``Last-Event-ID``."""
    return b"event: %b\n%bdata: %b\n\n" % (name.encode(), _id(number), orjson.dumps(data))


def _id(number: int | None) -> bytes:
    return b"" if number is None else b"id: %d\n" % number


class Piece:
    """The changes after number ``start`` up to ``end``."""

    __slots__ = ("_made", "_readings", "_states", "end", "start")

    def __init__(self, start: int, end: int, states: Sequence[bytes], readings: Sequence[bytes]) -> None:
        self.start = start
        self.end = end
        self._states = b"".join(states)
        self._readings = b",".join(readings)
        self._made: dict[tuple[bytes, bool], bytes] = {}
        """The encoded events, by the bytes before them and whether they are conflated."""

    def encoded(self, before: bytes, *, conflated: bool) -> bytes:
        """The events, after the bytes of ``before``; equal arguments give the same object."""
        key = before, conflated
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = before + self._states + self._last(conflated=conflated)
        return found

    def _last(self, *, conflated: bool) -> bytes:
        """The event with the number: a viewer that got it has seen the whole piece."""
        if not self._readings:
            return b"id: %d\n\n" % self.end  # a browser takes the number of an event without data, too
        flag = b"true" if conflated else b"false"
        return b'event: readings\nid: %d\ndata: {"conflated":%b,"devices":{%b}}\n\n' % (self.end, flag, self._readings)


def piece_of(changes: Iterable[DeviceChange], fleet: Fleet, start: int, head: int) -> Generator[None, None, Piece]:
    """As many of ``changes`` as fit into a piece, made in steps. They are all after ``start`` up to ``head``."""
    states: list[bytes] = []
    readings: list[bytes] = []
    size, end = 0, head
    left = iter(changes)
    for place, change in enumerate(left, 1):
        text = _encoded(fleet.look(change.device), change)
        (states if change.is_state else readings).append(text)
        size += len(text)
        if size > PIECE_BYTES:
            end = head if next(left, None) is None else change.number
            break
        if place % STEP == 0:
            yield
    return Piece(start, end, states, readings)


def _encoded(view: DeviceView, change: DeviceChange) -> bytes:
    now = time.time_ns()
    if change.is_state:
        return event("presence", presence(view, now))
    return b"%b:%b" % (orjson.dumps(view.id), orjson.dumps(_shown(view, change, now)))


def presence(view: DeviceView, now_ns: int) -> dict[str, Any]:
    """The data of a ``presence`` event."""
    state, since_ns = view.state_at(now_ns)
    return {
        "device": view.id,
        "state": state,
        "since": since_ns // NS_PER_MS or None,
        "reason": view.reason_at(now_ns),
        "by_request": view.by_request,
    }


def _shown(view: DeviceView, change: DeviceChange, now_ns: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "last_data": view.last_data_ns // NS_PER_MS or None,
        "rate": view.rate_at(now_ns),
        "time": view.latest_ns // NS_PER_MS or None,
        "latest": view.latest,
    }
    if view.by_request:
        found["by_request"] = True
    if change.fields is not None:
        newest = max((time_ns for time_ns, _ in change.fields.values()), default=0)
        found["time"] = newest // NS_PER_MS or None
        found["latest"] = {name: value for name, (_, value) in change.fields.items()}
        times = {name: at // NS_PER_MS for name, (at, _) in change.fields.items() if at != newest}
        if times:
            found["times"] = times
    return found
