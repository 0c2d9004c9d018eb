"""The devices of the registry as this process knows them: who is let in, said from memory.

Rules that hold here:

* An unknown device, a revoked one and a wrong token cost the same time and give the same answer.
* The mapping is replaced and never changed: who asks takes no lock, and may do so on the event loop while another
  thread is in `RegistryCache.take_in`.
* An old token that counts beside a new one ends at its time, or when the new one was first used: at once in this
  process, and in the file when the registry writes down what is `over`.
"""

from __future__ import annotations

import hmac
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gateway.errors import UnknownDevice
from gateway.state.registered_device import NO_TOKEN, Device, DeviceRow, hashed

if TYPE_CHECKING:
    from _collections_abc import dict_keys
    from collections.abc import Iterable, Sequence

_NOBODY = DeviceRow(Device("", revoked=True), NO_TOKEN, NO_TOKEN)


class RegistryCache:
    """What `take_in` was given last of each device.

    `take_in`, `over`, `written_down` and `take_ended` are called under one lock, the registry's.
    """

    def __init__(self) -> None:
        self._known: dict[str, DeviceRow] = {}
        self._ended: set[str] = set()
        self._overlaps: dict[str, int] = {}
        self._used: dict[str, bytes] = {}

    def authenticate(self, device_id: str, token: str) -> Device | None:
        """The device, if it is registered and the token is its own."""
        found, given = self._known.get(device_id, _NOBODY), hashed(token)
        own, old = hmac.compare_digest(given, found.token), hmac.compare_digest(given, found.old)
        if own:
            if found.old is not NO_TOKEN:
                self._used[device_id] = found.token
            return found.device
        return replace(found.device, proof=found.old) if old and self._counts(found, found.old) else None

    def holds(self, device: Device) -> bool:
        """Whether what ``device`` was let in with still counts."""
        found = self._known.get(device.id, _NOBODY)
        if device.proof:
            return self._counts(found, device.proof)
        return not found.device.revoked

    def _counts(self, found: DeviceRow, token: bytes) -> bool:
        used = self._used.get(found.device.id) == found.token
        return token == found.token if used else found.counts(token, time.time_ns())

    def lookup(self, device_id: str) -> Device | None:
        """The device, revoked ones too."""
        found = self._known.get(device_id)
        return None if found is None else found.device

    def show(self, device_id: str) -> Device:
        """The device.

        Raises:
            UnknownDevice: it is not registered.
        """
        device = self.lookup(device_id)
        if device is None:
            raise UnknownDevice(f"there is no device {device_id}")
        return device

    def ids(self) -> dict_keys[str, Any]:
        """The ids of all devices, in the order in which they were registered."""
        return self._known.keys()

    def list(self) -> list[Device]:
        """All devices, revoked ones too, by id."""
        known = self._known
        return [known[device_id].device for device_id in sorted(known)]

    def take_in(self, changed: Iterable[DeviceRow]) -> Sequence[tuple[DeviceRow | None, DeviceRow]]:
        """Know these from now on; each after what was known of it, None for a new one."""
        changes: list[tuple[DeviceRow | None, DeviceRow]] = []
        all_known, now_ns = dict(self._known), time.time_ns()
        for known in changed:
            device = known.device
            before = all_known.get(device.id)
            tokens = () if before is None else (before.token, before.old)
            if any(token is not NO_TOKEN and not known.counts(token, now_ns) for token in tokens):
                self._ended.add(device.id)
            all_known[device.id] = known
            if known.old is NO_TOKEN:
                self._overlaps.pop(device.id, None)
            else:
                self._overlaps[device.id] = device.old_until_ns
            changes.append((before, known))
        self._known = all_known
        return changes

    def over(self, now_ns: int) -> Sequence[tuple[str, bytes]]:
        """Devices whose old token has ended, each with the hash of the one that ended it."""
        over = {device_id for device_id, until_ns in self._overlaps.items() if until_ns <= now_ns} | set(self._used)
        return [(device_id, self._used.get(device_id) or self._known[device_id].token) for device_id in over]

    def written_down(self, over: Iterable[tuple[str, bytes]]) -> None:
        """The file says what was `over`, and `take_in` knows it."""
        for device_id, token in over:
            if self._used.get(device_id) == token:
                del self._used[device_id]

    def take_ended(self) -> frozenset[str]:
        """The devices of which a token ended since the last call."""
        ended, self._ended = frozenset(self._ended), set()
        return ended
