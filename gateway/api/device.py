"""``/v1/devices/{id}`` and ``/v1/devices/{id}/token``: one device, with all that is known of it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from tornado.web import HTTPError

from gateway.api.handler import MALFORMED
from gateway.api.registry_changes import RegistryHandler
from gateway.time_units import NS_PER_MS

if TYPE_CHECKING:
    from gateway.devices.device_view import DeviceView
    from gateway.devices.fleet import Fleet
    from gateway.devices.problems import Problems
    from gateway.devices.profiles import Profiles

MAX_OVERLAP_MS = 30 * 86_400_000


class DeviceHandler(RegistryHandler):
    """``GET`` and ``DELETE /v1/devices/{id}``."""

    fleet: Fleet
    problems: Problems
    profiles: Profiles

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

    async def delete(self, device_id: str) -> None:
        """Revoke it: its token ends. Profile and tags are kept, and a new token lets the device in again."""
        await self.change(device_id, "was revoked", lambda registry: registry.revoke(device_id))
        self.answer({"id": device_id, "revoked": True})


class TokenHandler(RegistryHandler):
    """``POST /v1/devices/{id}/token``."""

    async def post(self, device_id: str) -> None:
        """A new token, also for a device that was revoked; the old one ends, after ``{"overlap_ms"?}``."""
        body = self.body_object({"overlap_ms": int}) if self.request.body else {}
        overlap_ms = body.get("overlap_ms", 0)
        if isinstance(overlap_ms, bool) or not 0 <= overlap_ms <= MAX_OVERLAP_MS:
            raise HTTPError(MALFORMED, f"overlap_ms must be from 0 to {MAX_OVERLAP_MS}")
        token = await self.change(
            device_id, "got a new token", lambda registry: registry.rotate(device_id, overlap_ms / 1000)
        )
        self.answer({"id": device_id, "token": token})


def describe(view: DeviceView, now_ns: int) -> dict[str, Any]:
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


def _clock(view: DeviceView, now_ns: int) -> dict[str, float] | None:
    """How far the device's clock is behind, in ms, and how far that may be wrong; None while it is not known."""
    estimate = None if view.clock is None else view.clock.estimate(now_ns)
    if estimate is None:
        return None
    return {
        "offset_ms": estimate.offset_ns / NS_PER_MS,
        "uncertainty_ms": estimate.uncertainty_ns / NS_PER_MS,
        "at": estimate.at_ns // NS_PER_MS,
    }
