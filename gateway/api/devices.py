"""``/v1/devices``: a page of the list of devices, and the registration of a new one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tornado.web import HTTPError

from gateway.api.device import describe
from gateway.api.handler import MALFORMED
from gateway.api.registry_changes import RegistryHandler, tags_of
from gateway.config import DEFAULT_PROFILE
from gateway.devices.device_list import SORT_ORDERS
from gateway.devices.device_view import STATES
from gateway.state.registered_device import check_profile

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.devices.device_list import DeviceList
    from gateway.devices.fleet import Fleet
    from gateway.devices.profiles import Profiles
    from gateway.state.registry import Registry

DEFAULT_PAGE = 100
MAX_PAGE = 1000


class DevicesHandler(RegistryHandler):
    """``GET /v1/devices?search=&state=&sort=id|last_data|rate|state&order=asc|desc&offset=&limit=``, and ``POST``."""

    device_list: DeviceList
    fleet: Fleet
    profiles: Profiles

    async def get(self) -> None:
        """A page of the devices whose id contains ``search``; ``state`` may name several, with commas."""
        search, states = self.get_query_argument("search", ""), self._states()
        sort = self._one_of("sort", "id", SORT_ORDERS)
        descending = self._one_of("order", "asc", ("asc", "desc")) == "desc"
        offset = self.number("offset", 0, 0, 10_000_000)
        end = offset + self.number("limit", DEFAULT_PAGE, 1, MAX_PAGE)
        chosen, total = await self.device_list.page(
            search, states, sort, offset, end, time.time_ns(), descending=descending
        )
        now = time.time_ns()  # a search of many devices takes a while
        page = [self._described(device, now) for device in chosen]
        profiles = {device["profile"] for device in page if "profile" in device}
        units = {profile: known for profile in profiles if (known := self.profiles.units(profile))}
        self.answer({"devices": page, "total": total, "offset": offset, "units": units})

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

    async def post(self) -> None:
        """Register ``{"id","profile"?,"tags"?}``: 201 with its token."""
        body = self.body_object({"id": str, "profile": str, "tags": dict})
        device_id, profile = body.get("id", ""), body.get("profile", DEFAULT_PROFILE)
        tags = tags_of(body.get("tags", {}))

        def register(registry: Registry) -> str:
            check_profile(profile, self.active.config.profiles)
            return registry.add(device_id, profile, tags)

        token = await self.change(device_id, "was registered", register)
        self.answer({"id": device_id, "token": token}, 201)
