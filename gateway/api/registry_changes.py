"""What the endpoints share that change the device registry, as ``gateway devices`` does.

Rules that hold here:

* The registry decides, as it does for the command line. A token is in the answer that made it and never again.
* A device whose token ended is closed at once, also when the client that asked for it has left meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from typing import TYPE_CHECKING, Any, TypeVar

from tornado.web import Finish, HTTPError

from gateway.api.blocking import BlockingHandler
from gateway.api.handler import MALFORMED
from gateway.errors import DeviceExists, EnrolmentConflict, RegistryError, UnknownDevice, UnknownEnrolment

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.devices.revocation import Revocation
    from gateway.state.registry import Registry

T = TypeVar("T")

_ANSWERS: dict[type[RegistryError], tuple[int, str]] = {
    UnknownDevice: (404, "unknown_device"),
    UnknownEnrolment: (404, "unknown_enrolment"),
    DeviceExists: (409, "device_exists"),
    EnrolmentConflict: (409, "enrolment_conflict"),
}

log = logging.getLogger(__name__)


class RegistryHandler(BlockingHandler):
    """An endpoint that may change the registry."""

    registry: Registry
    revocation: Revocation

    async def change(self, device_id: str, what: str, call: Callable[[Registry], T]) -> T:
        """What ``call`` returns; ``what`` was done to the device, for the log.

        Raises:
            Finish: the registry refused, and the client was told so.
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
            self.refuse(*status_of(error), str(error))
            raise Finish from None


def status_of(error: RegistryError) -> tuple[int, str]:
    """HTTP status and error code for what the registry refused."""
    for kind, answer in _ANSWERS.items():
        if isinstance(error, kind):
            return answer
    return (503, "registry") if isinstance(error.__cause__, sqlite3.Error) else (MALFORMED, "bad_request")


def tags_of(tags: dict[str, Any]) -> dict[str, str]:
    """The tags of a body; HTTP 400 where a value is no text."""
    if not all(isinstance(value, str) for value in tags.values()):
        raise HTTPError(MALFORMED, "the value of a tag is text")
    return tags
