"""The changes of devices, in the order of the last change of each. A viewer reads on from any number.

Rules that hold here:

* A change has a number. Numbers only grow, also over restarts, because they begin with the clock. What a viewer has
  seen is one number.
* A device is in a list once, at its newest change. So nothing here grows with time, with what a device sends, or with
  how far a viewer is behind: a viewer that is behind reads fewer, newer values.
* To note a change costs an entry or two of a dictionary per message. The change gets its number shortly before it is
  sent (`fold`).
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
"""The number of a viewer that has seen nothing."""
MAX_FIELDS = 512
"""Fields of a chosen device whose changes are kept apart."""


class DeviceChange(NamedTuple):
    """The data or the state of one device has changed."""

    number: int
    device: str
    is_state: bool
    """Whether the state changed; else the data did."""
    fields: dict[str, tuple[int, Any]] | None = None
    """The fields that changed: name to time (ns) and value. None where only the device is known."""


class ChangeSource(Protocol):
    """The changes of some devices."""

    began: int
    """Changes before this number are not known."""

    @property
    def newest(self) -> int:
        """The number of the last change that can be read."""
        ...

    def since(self, number: int, *, readings: bool) -> Iterable[DeviceChange]:
        """The changes after ``number``, oldest first, of data only if ``readings``. Valid until the next `fold`."""
        ...


class ChangeOrder:
    """Devices in the order of their last change."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        """The number of the last change of each device, in ascending order."""

    def __contains__(self, device: str) -> bool:
        return device in self._numbers

    def note(self, device: str, number: int) -> None:
        """``device`` has changed."""
        self._numbers.pop(device, None)
        self._numbers[device] = number

    def since(self, number: int, *, is_state: bool) -> Iterator[DeviceChange]:
        """The changes after ``number``, oldest first."""
        first = bisect_right(list(self._numbers.values()), number)
        return (DeviceChange(at, device, is_state) for device, at in islice(self._numbers.items(), first, None))


class WholeFleet:
    """The changes of all devices."""

    def __init__(self, number: int) -> None:
        self.began = self.newest = number
        self.fresh_data: dict[str, None] = {}
        """The devices whose data has changed since the last `fold`."""
        self.fresh_states: dict[str, None] = {}
        """The devices whose state has changed since the last `fold`."""
        self._data, self._states = ChangeOrder(), ChangeOrder()
        self._before: Sequence[str] = ()
        """The devices that were known before this began (`recall`)."""

    def fold(self, number: int) -> int:
        """Number the changes since the last call, after ``number``; the last number given."""
        for fresh, journal in ((self.fresh_data, self._data), (self.fresh_states, self._states)):
            for device in fresh:
                number += 1
                journal.note(device, number)
            fresh.clear()
        self.newest = number
        return number

    def recall(self, devices: Sequence[str]) -> None:
        """Show ``devices``, which may not have changed since this began, to viewers that have seen nothing.

        One call is enough: a device that was not known then has changed since.
        """
        self._before = self._before or devices

    def since(self, number: int, *, readings: bool) -> Iterator[DeviceChange]:
        """See `ChangeSource`. Made while it is read, because a viewer takes a piece of a large fleet at a time."""
        states = self._states.since(number, is_state=True)
        found = merge(states, self._data.since(number, is_state=False)) if readings else states
        return chain(self._recalled(number, readings=readings), found) if number < self.began else found

    def _recalled(self, number: int, *, readings: bool) -> Iterator[DeviceChange]:
        """The devices that have not changed, numbered so that the last of them is `began`."""
        first = self.began - 2 * len(self._before)
        passed = max(0, (number - first - 1) // 2)
        for place, device in enumerate(islice(self._before, passed, None), passed + 1):
            if device not in self._states and first + 2 * place - 1 > number:
                yield DeviceChange(first + 2 * place - 1, device, is_state=True)
            if readings and device not in self._data and first + 2 * place > number:
                yield DeviceChange(first + 2 * place, device, is_state=False)


class ChosenDevice:
    """The changes of one device that viewers chose, field by field, so that a chart gets each value at its time."""

    def __init__(self, device: str, place: int) -> None:
        """``place`` is small, and different for each chosen device: its first changes come before all numbers."""
        self.device = device
        self.groups = 0
        """How many groups of viewers chose it."""
        self.newest = 0
        """The number of its last change."""
        self._state, self._data = 2 * place + 1, 2 * place + 2
        """The numbers of the last change of its state, and of its data."""
        self._fields: dict[str, tuple[int, int, Any]] = {}
        """By field, in the order of their changes: number, time (ns), value."""
        self._fresh: dict[str, tuple[int, Any]] = {}
        """The fields that have changed since the last `fold`: time (ns), value."""
        self._fresh_data = self._fresh_state = False
        """Whether the data, and the state, have changed since then."""

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
        """Number the changes since the last call, after ``number``; the last number given."""
        if self._fresh_state:
            self._state = self.newest = number = number + 1
            self._fresh_state = False
        if self._fresh_data:
            self._data = self.newest = number = number + 1
            for name, (time_ns, value) in self._fresh.items():
                self._fields.pop(name, None)
                self._fields[name] = number, time_ns, value
            while len(self._fields) > MAX_FIELDS:
                del self._fields[next(iter(self._fields))]
            self._fresh.clear()
            self._fresh_data = False
        return number

    def since(self, number: int, *, readings: bool, whole: bool = False) -> Iterable[DeviceChange]:
        """The changes after ``number``; ``whole`` is for a viewer that does not know the device yet."""
        if self._state > number:
            yield DeviceChange(self._state, self.device, is_state=True)
        if readings and self._data > number:
            known = {name: (time_ns, value) for name, (at, time_ns, value) in self._fields.items() if at > number}
            yield DeviceChange(self._data, self.device, is_state=False, fields=None if whole else known)


class ChosenDevices:
    """The changes of a few devices that viewers chose."""

    def __init__(self, devices: Sequence[ChosenDevice], number: int) -> None:
        self.devices = devices
        self.began = number

    @property
    def newest(self) -> int:
        """See `ChangeSource`."""
        return max(self.began, *(device.newest for device in self.devices))

    def since(self, number: int, *, readings: bool) -> Sequence[DeviceChange]:
        """See `ChangeSource`."""
        whole = number < self.began  # also in the middle of the first pieces
        found = [change for device in self.devices for change in device.since(number, readings=readings, whole=whole)]
        found.sort(key=_number)
        return found


def _number(change: DeviceChange) -> int:
    return change.number
