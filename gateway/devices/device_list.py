"""The list of devices as people see it: searched, filtered by state, sorted, a page at a time.

Rule that holds here: the work is done in steps, so that a list of 100,000 devices does not delay their acks.
"""

from __future__ import annotations

import asyncio
import heapq
from itertools import islice
from typing import TYPE_CHECKING, Any

from gateway.devices.device_state import STATES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.devices.device_state import DeviceState
    from gateway.devices.directory import Directory
    from gateway.devices.fleet import Fleet

    Key = Callable[[DeviceState], Any]

STEP = 2048
"""Devices that are filtered, or sorted, before the event loop serves others: a few milliseconds."""
_KEYS: dict[str, Callable[[int], Key]] = {
    "last_data": lambda _now: lambda view: view.last_data_ns,
    "rate": lambda now: lambda view: view.rate_at(now),
    "state": lambda now: lambda view: STATES.index(view.state_at(now)[0]),
}
"""By the name of a sort order, what it compares at a moment (ns since 1970)."""
SORT_ORDERS = "id", *_KEYS


class DeviceList:
    """All devices that are registered or were heard of."""

    def __init__(self, directory: Directory, fleet: Fleet) -> None:
        self._directory = directory
        self._fleet = fleet

    async def page(
        self, search: str, states: frozenset[str], sort: str, start: int, end: int, now_ns: int, *, descending: bool
    ) -> tuple[Sequence[str], int]:
        """The ids from ``start`` to ``end`` in the order ``sort``, and how many there are in all.

        Devices whose id contains ``search``, in one of ``states`` (empty: in any).
        """
        found = await self._directory.search(search)
        if states:
            found = await self._in_states(found, states, now_ns)
        if sort == "id":
            return (found[::-1] if descending else found)[start:end], len(found)
        return await self._sorted(found, _KEYS[sort](now_ns), start, end, descending=descending), len(found)

    async def _in_states(self, devices: Sequence[str], states: frozenset[str], now_ns: int) -> list[str]:
        look, found = self._fleet.look, list[str]()
        for start in range(0, len(devices), STEP):
            found += [device for device in devices[start : start + STEP] if look(device).state_at(now_ns)[0] in states]
            await asyncio.sleep(0)
        return found

    async def _sorted(self, devices: Sequence[str], key: Key, start: int, end: int, *, descending: bool) -> list[str]:
        """Those from ``start`` to ``end`` in order of ``key``; devices that are equal are in order of their ids.

        They are sorted in runs, which are merged as far as needed.
        """
        runs = []
        for at in range(0, len(devices), STEP):
            run = [(key(self._fleet.look(device)), device) for device in devices[at : at + STEP]]
            run.sort(key=_first, reverse=descending)
            runs.append(run)
            await asyncio.sleep(0)
        merged = heapq.merge(*runs, key=_first, reverse=descending)
        passed, found = 0, list[str]()
        while passed < end and (some := [device for _, device in islice(merged, min(STEP, end - passed))]):
            found += some[max(0, start - passed) :]
            passed += len(some)
            await asyncio.sleep(0)
        return found


def _first(pair: tuple[Any, str]) -> Any:
    return pair[0]
