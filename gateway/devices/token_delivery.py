"""Makes the tokens of approved devices, in a thread, while those devices may disconnect.

Rules that hold here:

* Each step is written to the file before it is done. After a crash, the time in the registry tells whether a token was
  made: it is the time that the request names (`EnrolmentRequest.delivered_ns`).
* A token that no device is left to receive is taken back.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gateway.state.enrolments import EnrolmentRequest, Enrolments
    from gateway.state.registry import Registry

log = logging.getLogger(__name__)


class TokenDelivery:
    """Makes tokens and takes them back. All methods block, except `was_made`."""

    def __init__(self, store: Enrolments, registry: Registry) -> None:
        self._store = store
        self._registry = registry

    def make(self, due: Sequence[EnrolmentRequest]) -> tuple[list[str | None], frozenset[str]]:
        """A token for each request, None where its approval is void; and the devices whose older tokens have ended.

        Raises:
            sqlite3.Error: the requests' file failed; requests that got no token are still due.
        """
        self._registry.look()  # should a step below fail, the next refresh still names the tokens that have ended
        tokens = [self._make(request) for request in due]
        return tokens, self._registry.refresh()

    def _make(self, request: EnrolmentRequest) -> str | None:
        approval, again, now_ns = request.approval, request.delivered_ns > 0, time.time_ns()
        known = self._registry.devices.lookup(request.id)
        void = again and (known is None or known.changed_ns != request.delivered_ns)
        if approval is None or request.contested or void:
            return None
        self._store.write(replace(request, delivered_ns=now_ns))
        replaces = approval.replaces or again
        try:
            token = self._registry.enrol(request.id, approval.profile, approval.tags, now_ns, replaces=replaces)
        except RegistryError as error:
            log.warning("device %s was approved, but: %s", request.id, error, extra={"device": request.id})
            return None
        request.delivered_ns = now_ns
        return token

    def was_made(self, request: EnrolmentRequest) -> bool:
        """Whether the token of a request that an earlier run has left was made, not only announced."""
        known = self._registry.devices.lookup(request.id)
        return known is not None and known.changed_ns >= request.delivered_ns

    def take_back(self, made: Iterable[tuple[str, str]]) -> None:
        """End the tokens in ``made`` (device id and token). Tokens that have been replaced meanwhile are left alone."""
        for device_id, token in made:
            try:
                self._registry.take_back(device_id, token)
                log.info("device %s: its token was taken back", device_id, extra={"device": device_id})
            except RegistryError as error:
                text = "device %s: its token, which no device has received, could not be ended: %s"
                log.warning(text, device_id, error, extra={"device": device_id})
