"""The tokens of devices that were approved: made in a thread, for devices that may leave meanwhile.

Rules that hold here:

* What is about to be done is written down before it is done. A token that a crash came after is told from one that was
  never made by the time in the registry, which is that of the request (`Request.delivered_ns`).
* A token that nobody is left to be given is taken back.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gateway.state.enrolments import Enrolments, Request
    from gateway.state.registry import Registry

log = logging.getLogger(__name__)


class TokenDelivery:
    """Makes tokens and takes them back. Methods block, but `was_made`."""

    def __init__(self, store: Enrolments, registry: Registry) -> None:
        self._store = store
        self._registry = registry

    def make(self, due: Sequence[Request]) -> tuple[list[str | None], frozenset[str]]:
        """A token for each, None where its approval is void; and the devices whose tokens ended.

        Raises:
            sqlite3.Error: the requests' file failed; who got no token is still due.
        """
        self._registry.look()  # and leave to others, should this fail, to hear whose tokens have ended
        tokens = [self._make(request) for request in due]
        return tokens, self._registry.refresh()

    def _make(self, request: Request) -> str | None:
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

    def was_made(self, request: Request) -> bool:
        """Whether the token of a request that an earlier run left was made, not only about to be."""
        known = self._registry.devices.lookup(request.id)
        return known is not None and known.changed_ns >= request.delivered_ns

    def take_back(self, made: Iterable[tuple[str, str]]) -> None:
        """Let the tokens, each after its device's id, count no more; those that have been replaced are left alone."""
        for device_id, token in made:
            try:
                self._registry.take_back(device_id, token)
                log.info("device %s: its token was taken back", device_id, extra={"device": device_id})
            except RegistryError as error:
                text = "device %s: its token stays, which nobody has: %s"
                log.warning(text, device_id, error, extra={"device": device_id})
