"""The device registry over HTTP: what ``gateway devices`` does, for administrators.

Rules that hold here:

* The registry decides, as it does for the command line. A token is in the answer that made it and never again.
* A device whose token ended is let go at once, also when whoever asked for it has left meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from typing import TYPE_CHECKING, Any, TypeVar

from tornado.web import Finish, HTTPError

from gateway.api.blocking import BlockingHandler
from gateway.api.devices import DeviceHandler, DevicesHandler
from gateway.api.handler import MALFORMED
from gateway.config import DEFAULT_PROFILE
from gateway.errors import DeviceExists, EnrolmentConflict, RegistryError, UnknownDevice, UnknownEnrolment
from gateway.state.new_device import check_profile

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.devices.revocation import Revocation
    from gateway.state.registry import Registry

T = TypeVar("T")

LONGEST_OVERLAP_MS = 30 * 86_400_000
_ANSWERS: dict[type[RegistryError], tuple[int, str]] = {
    UnknownDevice: (404, "unknown_device"),
    UnknownEnrolment: (404, "unknown_enrolment"),
    DeviceExists: (409, "device_exists"),
    EnrolmentConflict: (409, "enrolment_conflict"),
}

log = logging.getLogger(__name__)


class ChangingHandler(BlockingHandler):
    """An endpoint that changes the registry."""

    registry: Registry
    revocation: Revocation

    async def change(self, device_id: str, what: str, call: Callable[[Registry], T]) -> T:
        """What ``call`` returns; ``what`` is for the log.

        Raises:
            Finish: it was refused, and said so.
        """
        loop, address = asyncio.get_running_loop(), self.request.remote_ip

        def make() -> T:
            try:
                result = call(self.registry)
            finally:
                for changed in self.registry.refresh():
                    loop.call_soon_threadsafe(self.revocation.credentials_changed, changed)
            log.info("device %s %s, by an administrator at %s", device_id, what, address, extra={"device": device_id})
            return result

        try:
            return await self.run_blocking(make)
        except RegistryError as error:
            self.refuse(*judged(error), str(error))
            raise Finish from None


class RegisteringHandler(DevicesHandler, ChangingHandler):
    """``POST /v1/devices`` beside ``GET``."""

    async def post(self) -> None:
        """Register ``{"id","profile"?,"tags"?}``: 201 with its token."""
        body = self.body_object({"id": str, "profile": str, "tags": dict})
        device_id, profile = body.get("id", ""), body.get("profile", DEFAULT_PROFILE)
        tags = texts(body.get("tags", {}))

        def register(registry: Registry) -> str:
            check_profile(profile, self.active.config.profiles)
            return registry.add(device_id, profile, tags)

        token = await self.change(device_id, "was registered", register)
        self.answer({"id": device_id, "token": token}, 201)


class RevokingHandler(DeviceHandler, ChangingHandler):
    """``DELETE /v1/devices/{id}`` beside ``GET``."""

    async def delete(self, device_id: str) -> None:
        """End its access; profile and tags are kept, and a new token lets it in again."""
        await self.change(device_id, "was revoked", lambda registry: registry.revoke(device_id))
        self.answer({"id": device_id, "revoked": True})


class TokenHandler(ChangingHandler):
    """``POST /v1/devices/{id}/token``."""

    async def post(self, device_id: str) -> None:
        """A new token, also for a device that was revoked; the old one ends, after ``{"overlap_ms"?}``."""
        body = self.body_object({"overlap_ms": int}) if self.request.body else {}
        overlap_ms = body.get("overlap_ms", 0)
        if isinstance(overlap_ms, bool) or not 0 <= overlap_ms <= LONGEST_OVERLAP_MS:
            raise HTTPError(MALFORMED, f"overlap_ms must be from 0 to {LONGEST_OVERLAP_MS}")
        token = await self.change(
            device_id, "got a new token", lambda registry: registry.rotate(device_id, overlap_ms / 1000)
        )
        self.answer({"id": device_id, "token": token})


def judged(error: RegistryError) -> tuple[int, str]:
    """Status and code of the answer to what the registry refused."""
    for kind, answer in _ANSWERS.items():
        if isinstance(error, kind):
            return answer
    return (503, "registry") if isinstance(error.__cause__, sqlite3.Error) else (MALFORMED, "bad_request")


def texts(tags: dict[str, Any]) -> dict[str, str]:
    """The tags of a body; 400 where they are none."""
    if not all(isinstance(value, str) for value in tags.values()):
        raise HTTPError(MALFORMED, "the value of a tag is text")
    return tags
