"""The ids of all devices, those that are registered and those that were heard of, in order.

Rules that hold here:

* No device is ever forgotten by the registry or the ledger, so both only grow, at their ends: what is new is found
  without looking at what is known, and a page of the list costs the same with ten devices and with a hundred thousand.
* The list is replaced and never changed, so that a search may take its time with it.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _collections_abc import dict_keys
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

FEW = 64
"""New ids that are put in one by one; more are sorted in."""
STEP = 4096
"""Ids a search looks at before others have their turn, which is about half a millisecond."""


class Directory:
    """Each of ``sources`` gives the ids of one kind: views of mappings that only grow."""

    def __init__(self, *sources: Callable[[], dict_keys[str, Any]]) -> None:
        self._sources = sources
        self._seen = [0] * len(sources)
        self._ids: list[str] = []

    def ids(self) -> Sequence[str]:
        """All ids as they are now, sorted."""
        if new := sorted(self._news()):
            ids = [*self._ids]
            if len(new) > FEW:
                ids += new
                ids.sort()
            else:
                for device in new:
                    ids.insert(bisect_left(ids, device), device)
            self._ids = ids
        return self._ids

    async def search(self, part: str) -> Sequence[str]:
        """The ids that have ``part`` in them, whatever the case."""
        if not part:
            return self.ids()
        part, ids, found = part.lower(), self.ids(), list[str]()
        for start in range(0, len(ids), STEP):
            found += [device for device in ids[start : start + STEP] if part in device.lower()]
            await asyncio.sleep(0)
        return found

    def _news(self) -> Iterable[str]:
        news: set[str] = set()
        for number, source in enumerate(self._sources):
            ids = source()
            news.update(islice(reversed(ids), len(ids) - self._seen[number]))
            self._seen[number] = len(ids)
        return (device for device in news if not self._has(device))

    def _has(self, device: str) -> bool:
        place = bisect_left(self._ids, device)
        return place < len(self._ids) and self._ids[place] == device
