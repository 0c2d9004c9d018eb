"""The list of devices as people see it: searched, filtered by state, sorted, a page at a time.

Rules that hold here:

* The work is done in steps, so that a list of 100,000 devices does not delay their acks.
* The registry and the ledger forget no device, so both only grow, at their ends. New ids are found there without a look
  at the known ones, and a page costs the same with ten devices as with a hundred thousand.
"""

from __future__ import annotations

import asyncio
import heapq
from bisect import bisect_left
from itertools import islice
from typing import TYPE_CHECKING, Any

from gateway.devices.device_view import STATES

if TYPE_CHECKING:
    from _collections_abc import dict_keys
    from collections.abc import Callable, Iterable, Sequence

    from gateway.devices.device_view import DeviceView
    from gateway.devices.fleet import Fleet

    Key = Callable[[DeviceView], Any]

MAX_INSERTED = 64
"""New ids that are inserted one by one; more are sorted in."""
SEARCH_STEP = 4096
"""Ids that a search looks at before the event loop serves others: about half a millisecond."""
STEP = 2048
"""Devices that are filtered, or sorted, before the event loop serves others: a few milliseconds."""
_KEYS: dict[str, Callable[[int], Key]] = {
    "last_data": lambda _now: lambda view: view.last_data_ns,
    "rate": lambda now: lambda view: view.rate_at(now),
    "state": lambda now: lambda view: STATES.index(view.state_at(now)[0]),
}
"""By the name of a sort order, what it compares at a moment (ns since 1970)."""
SORT_ORDERS = "id", *_KEYS


class DeviceIds:
    """The ids of all devices, in order. Each of ``sources`` gives the keys of a mapping that only grows."""

    def __init__(self, *sources: Callable[[], dict_keys[str, Any]]) -> None:
        self._sources = sources
        self._seen = [0] * len(sources)
        """How many keys of each source are in the list."""
        self._ids: list[str] = []
        """Sorted; replaced and never changed, so that a search may take its time with it."""

    def ids(self) -> Sequence[str]:
        """All ids as they are now, sorted."""
        if new := sorted(self._new_ids()):
            ids = [*self._ids]
            if len(new) > MAX_INSERTED:
                ids += new
                ids.sort()
            else:
                for device in new:
                    ids.insert(bisect_left(ids, device), device)
            self._ids = ids
        return self._ids

    async def search(self, part: str) -> Sequence[str]:
        """The ids that contain ``part``, in upper or lower case."""
        if not part:
            return self.ids()
        part, ids, found = part.lower(), self.ids(), list[str]()
        for start in range(0, len(ids), SEARCH_STEP):
            found += [device for device in ids[start : start + SEARCH_STEP] if part in device.lower()]
            await asyncio.sleep(0)
        return found

    def _new_ids(self) -> Iterable[str]:
        new: set[str] = set()
        for number, source in enumerate(self._sources):
            ids = source()
            new.update(islice(reversed(ids), len(ids) - self._seen[number]))
            self._seen[number] = len(ids)
        return (device for device in new if not self._has(device))

    def _has(self, device: str) -> bool:
        place = bisect_left(self._ids, device)
        return place < len(self._ids) and self._ids[place] == device


class DeviceList:
    """All devices that are registered or were heard of."""

    def __init__(self, ids: DeviceIds, fleet: Fleet) -> None:
        self._ids = ids
        self._fleet = fleet

    async def page(
        self, search: str, states: frozenset[str], sort: str, start: int, end: int, now_ns: int, *, descending: bool
    ) -> tuple[Sequence[str], int]:
        """The ids from ``start`` to ``end`` in the order ``sort``, and how many there are in all.

        Devices whose id contains ``search``, in one of ``states`` (empty: in any).
        """
        found = await self._ids.search(search)
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
