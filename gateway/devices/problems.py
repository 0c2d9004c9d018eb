"""The last problems that devices were told of, for people who look at a device that does not work.

Rules that hold here:

* Only devices with problems take memory: `MAX_PROBLEMS` each, and `MAX_DEVICES` devices at most. The problems of the
  device that had none for the longest time are forgotten first. Nothing outlives a restart: the ledger has the counts.
* A problem that repeats is one problem with a count, known by its code and field. A sensor that is wrong every second
  must not push out the only sign of another fault.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from gateway.time_units import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_PROBLEMS = 20
MAX_DEVICES = 2000
MAX_TEXT = 300
"""Characters of a message or a field's name that are kept."""


@dataclass(slots=True)
class Problem:
    """It occurred ``count`` times; ``at`` (ms since 1970), ``message`` and ``seq`` are those of the last time."""

    at: int
    code: str
    field: str | None
    message: str
    seq: int | None
    count: int = 1


class Problems:
    """The last problems of the devices that had any."""

    def __init__(self) -> None:
        self._devices: dict[str, dict[tuple[str, str | None], Problem]] = {}
        """By device, then by code and field; the newest last in both."""

    def told(self, device: str, faults: Iterable[Mapping[str, Any]], seq: int | None, now_ns: int) -> None:
        """A device was told of ``faults``: ``code``, ``message`` and perhaps ``field``, as in ``reject``."""
        known = self._devices.pop(device, {})
        for fault in faults:
            name = fault.get("field")
            field = None if name is None else str(name)[:MAX_TEXT]
            before = known.pop((fault["code"], field), None)
            known[fault["code"], field] = Problem(
                now_ns // NS_PER_MS,
                str(fault["code"]),
                field,
                str(fault["message"])[:MAX_TEXT],
                seq,
                1 if before is None else before.count + 1,
            )
            if len(known) > MAX_PROBLEMS:
                del known[next(iter(known))]
        if known:
            self._devices[device] = known
        if len(self._devices) > MAX_DEVICES:
            del self._devices[next(iter(self._devices))]

    def of(self, device: str) -> list[dict[str, Any]]:
        """The problems of one device, the newest first."""
        return [asdict(problem) for problem in reversed(self._devices.get(device, {}).values())]
