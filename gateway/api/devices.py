"""The devices as the API shows them: a page of the list, and one of them with all that is known."""

from __future__ import annotations

import asyncio
import heapq
import time
from itertools import islice
from typing import TYPE_CHECKING, Any

from tornado.web import HTTPError

from gateway.api.handler import MALFORMED, ViewerHandler
from gateway.devices.device_state import STATES
from gateway.time_units import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gateway.devices.device_state import DeviceState
    from gateway.devices.directory import Directory
    from gateway.devices.fleet import Fleet
    from gateway.devices.problems import Problems
    from gateway.devices.profiles import Profiles
    from gateway.state.registry import Registry

    Key = Callable[[DeviceState], Any]

DEFAULT_PAGE = 100
LARGEST_PAGE = 1000
STEP = 2048
"""Devices that are filtered, or sorted, before others have their turn: a few milliseconds."""


class DevicesHandler(ViewerHandler):
    """``GET /v1/devices?search=&state=&sort=id|last_data|rate|state&order=asc|desc&offset=&limit=``."""

    directory: Directory
    fleet: Fleet
    profiles: Profiles
    registry: Registry

    async def get(self) -> None:
        """A page of the devices whose id contains ``search``; ``state`` may name several, with commas."""
        search, states = self.get_query_argument("search", ""), self._states()
        sort = self._one_of("sort", "id", ("id", "last_data", "rate", "state"))
        descending = self._one_of("order", "asc", ("asc", "desc")) == "desc"
        offset = self.number("offset", 0, 0, 10_000_000)
        limit = self.number("limit", DEFAULT_PAGE, 1, LARGEST_PAGE)
        found, now, fleet = await self.directory.search(search), time.time_ns(), self.fleet
        if states:
            found = await _in_states(fleet, found, states, now)
        if sort != "id":
            key = _KEYS[sort](now)
            chosen: Sequence[str] = await _sorted(fleet, found, key, offset, offset + limit, descending=descending)
        else:
            chosen = (found[::-1] if descending else found)[offset : offset + limit]
        page = [self._described(device, now) for device in chosen]
        profiles = {device["profile"] for device in page if "profile" in device}
        units = {profile: known for profile in profiles if (known := self.profiles.units(profile))}
        self.answer({"devices": page, "total": len(found), "offset": offset, "units": units})

    def _described(self, device_id: str, now_ns: int) -> dict[str, Any]:
        found = describe(self.fleet.look(device_id), now_ns)
        registered = self.registry.devices.lookup(device_id)
        return found if registered is None else found | {"profile": registered.profile}

    def _one_of(self, name: str, default: str, allowed: Iterable[str]) -> str:
        text = self.get_query_argument(name, "") or default
        if text not in allowed:
            raise HTTPError(MALFORMED, f"{name} must be one of {', '.join(allowed)}, not {text[:40]!r}")
        return text

    def _states(self) -> frozenset[str]:
        states = frozenset(filter(None, self.get_query_argument("state", "").split(",")))
        if not states <= set(STATES):
            raise HTTPError(MALFORMED, f"state must be of {', '.join(STATES)}")
        return states


_KEYS: dict[str, Callable[[int], Key]] = {
    "last_data": lambda _now: lambda view: view.last_data_ns,
    "rate": lambda now: lambda view: view.rate_at(now),
    "state": lambda now: lambda view: STATES.index(view.state_at(now)[0]),
}


async def _in_states(fleet: Fleet, devices: Sequence[str], states: frozenset[str], now_ns: int) -> list[str]:
    found: list[str] = []
    for start in range(0, len(devices), STEP):
        found += [d for d in devices[start : start + STEP] if fleet.look(d).state_at(now_ns)[0] in states]
        await asyncio.sleep(0)
    return found


async def _sorted(
    fleet: Fleet, devices: Sequence[str], key: Key, start: int, end: int, *, descending: bool
) -> list[str]:
    """Those from ``start`` to ``end`` in order of ``key``, those that are equal in order of their ids.

    Sorted in runs that are merged as far as is needed: to sort 100,000 at once would hold up the devices.
    """
    runs = []
    for at in range(0, len(devices), STEP):
        run = [(key(fleet.look(device)), device) for device in devices[at : at + STEP]]
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


class DeviceHandler(ViewerHandler):
    """``GET /v1/devices/{id}``."""

    fleet: Fleet
    problems: Problems
    profiles: Profiles
    registry: Registry

    def get(self, device_id: str) -> None:
        """One device, its units and its last problems."""
        registered = self.registry.devices.lookup(device_id)
        if registered is None and device_id not in self.fleet.known():
            return self.refuse(404, "unknown_device", f"no device {device_id[:128]!r} is registered or has connected")
        found = describe(self.fleet.look(device_id), time.time_ns())
        if registered is not None:
            found |= {"profile": registered.profile, "tags": dict(registered.tags)}
        found["units"] = found.get("units", {}) | self.profiles.units(found.get("profile"))
        found["problems"] = self.problems.of(device_id)
        return self.answer(found)


def describe(view: DeviceState, now_ns: int) -> dict[str, Any]:
    """A device as the API shows it; times in ms since 1970, ``rate`` in messages a second."""
    connection = view.connection
    state, since_ns = view.state_at(now_ns)
    found: dict[str, Any] = {
        "id": view.id,
        "state": state,
        "state_since": since_ns // NS_PER_MS or None,
        "state_reason": view.reason_at(now_ns),
        "connected": connection is not None,
        "by_request": view.by_request,
        "flapping": view.fought_over(now_ns),
        "last_data": view.last_data_ns // NS_PER_MS or None,
        "rhythm_ms": round(view.rhythm_ns / NS_PER_MS) or None,
        "rate": view.rate_at(now_ns),
        "latest": view.latest,
        "ledger": view.account.sums(),
        "clock": _clock(view, now_ns),
        "keepalive": None,
    }
    if view.allowance is not None:
        found["limits"] = view.allowance.shown(now_ns)
    if view.units:
        found["units"] = dict(view.units)
    if connection is not None:
        silent = asyncio.get_running_loop().time() - connection.last_byte_at
        found |= {
            "session": connection.session_id,
            "address": connection.remote,
            "profile": connection.profile,
            "info": connection.info,
            "keepalive": {"silent_ms": round(silent * 1000)},
        }
    return found


def _clock(view: DeviceState, now_ns: int) -> dict[str, float] | None:
    """How far the device's clock is behind, in ms, and for certain to within what; None while it is not known."""
    estimate = None if view.clock is None else view.clock.estimate(now_ns)
    if estimate is None:
        return None
    return {
        "offset_ms": estimate.offset_ns / NS_PER_MS,
        "uncertainty_ms": estimate.uncertainty_ns / NS_PER_MS,
        "at": estimate.at_ns // NS_PER_MS,
    }
