"""What changed, in the order of the last change of each: what a viewer has not seen yet is read from any place on.

Rules that hold here:

* A change has a number, and numbers only grow, over restarts too (they begin with the clock). A viewer is one number.
* A device is there once, at its newest change. So nothing here grows with time, with what a device sends, or with how
  far a viewer is behind: one who comes late reads fewer, newer values.
* Taking a change in is a word or two per message; it gets its number when it is about to be sent (`fold`).
"""

from __future__ import annotations

from bisect import bisect_right
from heapq import merge
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gateway.ledger import Entry

ALL = 0
"""The number of a viewer who has seen nothing."""
MOST_FIELDS = 512


class DeviceChange(NamedTuple):
    """One device's data or state changed; ``fields`` (name to time in ns and value) where it is known which did."""

    number: int
    device: str
    is_state: bool
    fields: dict[str, tuple[int, Any]] | None = None


class ChangeSource(Protocol):
    """The changes of some devices."""

    began: int
    """Changes before this number are not known."""

    @property
    def newest(self) -> int:
        """The number of the last change that can be read."""
        ...

    def since(self, number: int, *, readings: bool) -> Iterable[DeviceChange]:
        """What changed after ``number``, oldest first: states, and data where ``readings``. Good until a `fold`."""
        ...


class Journal:
    """Devices in order of their last change."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __contains__(self, device: str) -> bool:
        return device in self._numbers

    def note(self, device: str, number: int) -> None:
        """``device`` changed."""
        self._numbers.pop(device, None)
        self._numbers[device] = number

    def since(self, number: int, *, is_state: bool) -> Iterator[DeviceChange]:
        """Its changes after ``number``, oldest first."""
        first = bisect_right(list(self._numbers.values()), number)
        return (DeviceChange(at, device, is_state) for device, at in islice(self._numbers.items(), first, None))


class WholeFleet:
    """The changes of all devices."""

    def __init__(self, number: int) -> None:
        self.began = self.newest = number
        self.fresh_data: dict[str, None] = {}
        self.fresh_states: dict[str, None] = {}
        self._data, self._states = Journal(), Journal()
        self._before: Sequence[str] = ()

    def fold(self, number: int) -> int:
        """Number what came since the last time, after ``number``; the last number given."""
        for fresh, journal in ((self.fresh_data, self._data), (self.fresh_states, self._states)):
            for device in fresh:
                number += 1
                journal.note(device, number)
            fresh.clear()
        self.newest = number
        return number

    def recall(self, devices: Sequence[str]) -> None:
        """Let those who have seen nothing see ``devices`` too, which may not have changed since this began.

        Once is enough: who was not there then has changed since.
        """
        self._before = self._before or devices

    def since(self, number: int, *, readings: bool) -> Iterator[DeviceChange]:
        """See `ChangeSource`; made as it is read, because a viewer takes a piece of a large fleet at a time."""
        states = self._states.since(number, is_state=True)
        found = merge(states, self._data.since(number, is_state=False)) if readings else states
        return chain(self._recalled(number, readings=readings), found) if number < self.began else found

    def _recalled(self, number: int, *, readings: bool) -> Iterator[DeviceChange]:
        """Those that did not change, numbered so that the last of them is `began`."""
        first = self.began - 2 * len(self._before)
        passed = max(0, (number - first - 1) // 2)
        for place, device in enumerate(islice(self._before, passed, None), passed + 1):
            if device not in self._states and first + 2 * place - 1 > number:
                yield DeviceChange(first + 2 * place - 1, device, is_state=True)
            if readings and device not in self._data and first + 2 * place > number:
                yield DeviceChange(first + 2 * place, device, is_state=False)


class Watch:
    """The changes of one device that somebody chose, field by field, so that a chart gets each value at its time."""

    def __init__(self, device: str, place: int) -> None:
        """``place`` differs from that of every other watch, and is small: its first changes come before all numbers."""
        self.device = device
        self.feeds = 0
        self.newest = 0
        self._state, self._data = 2 * place + 1, 2 * place + 2
        self._fields: dict[str, tuple[int, int, Any]] = {}
        self._fresh: dict[str, tuple[int, Any]] = {}
        self._fresh_data = self._fresh_state = False

    def data(self, entry: Entry) -> None:
        """A message of the device is durable."""
        self._fresh_data = True
        time_ns, fresh = entry.time_ns, self._fresh
        for name, value in (entry.latest or {}).items():
            if name not in fresh or fresh[name][0] <= time_ns:
                fresh[name] = time_ns, value

    def state(self) -> None:
        """The device's state changed."""
        self._fresh_state = True

    def fold(self, number: int) -> int:
        """Number what came since the last time, after ``number``; the last number given."""
        if self._fresh_state:
            self._state = self.newest = number = number + 1
            self._fresh_state = False
        if self._fresh_data:
            self._data = self.newest = number = number + 1
            for name, (time_ns, value) in self._fresh.items():
                self._fields.pop(name, None)
                self._fields[name] = number, time_ns, value
            while len(self._fields) > MOST_FIELDS:
                del self._fields[next(iter(self._fields))]
            self._fresh.clear()
            self._fresh_data = False
        return number

    def since(self, number: int, *, readings: bool, whole: bool = False) -> Iterable[DeviceChange]:
        """What changed after ``number``; ``whole`` is for who does not know the device yet."""
        if self._state > number:
            yield DeviceChange(self._state, self.device, is_state=True)
        if readings and self._data > number:
            known = {name: (time_ns, value) for name, (at, time_ns, value) in self._fields.items() if at > number}
            yield DeviceChange(self._data, self.device, is_state=False, fields=None if whole else known)


class Chosen:
    """The changes of a few devices, each watched once for all who chose it."""

    def __init__(self, watches: Sequence[Watch], number: int) -> None:
        self.watches = watches
        self.began = number

    @property
    def newest(self) -> int:
        """See `ChangeSource`."""
        return max(self.began, *(watch.newest for watch in self.watches))

    def since(self, number: int, *, readings: bool) -> Sequence[DeviceChange]:
        """See `ChangeSource`."""
        whole = number < self.began  # also in the middle of the first pieces
        found = [change for watch in self.watches for change in watch.since(number, readings=readings, whole=whole)]
        found.sort(key=_number)
        return found


def _number(change: DeviceChange) -> int:
    return change.number
