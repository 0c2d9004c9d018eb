"""The registry's devices in memory: authenticates a device without reading the file.

Rules that hold here:

* An unknown device, a revoked device and a wrong token take the same time and get the same answer.
* The mapping is replaced and never changed. So reading it needs no lock, and the event loop may read it while another
  thread is in `RegistryCache.take_in`.
* During an overlap the previous token is valid beside the new one. It ends at its time or at the first use of the new
  token: at once in this process, and in the file when the registry writes what is `over`.
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

_UNKNOWN_DEVICE = DeviceRow(Device("", revoked=True), NO_TOKEN, NO_TOKEN)


class RegistryCache:
    """Each device as `take_in` received it last.

    `take_in`, `over`, `written_down` and `take_ended` are called under one lock, the registry's.
    """

    def __init__(self) -> None:
        self._known: dict[str, DeviceRow] = {}
        # Devices whose token ended since the last `take_ended`.
        self._ended: set[str] = set()
        # By device: when its previous token ends, in ns since 1970.
        self._overlaps: dict[str, int] = {}
        # By device: the hash of its new token, which was used while the file still has the previous one.
        self._used: dict[str, bytes] = {}

    def authenticate(self, device_id: str, token: str) -> Device | None:
        """The device, if it is registered and the token is its own."""
        found, given = self._known.get(device_id, _UNKNOWN_DEVICE), hashed(token)
        own, old = hmac.compare_digest(given, found.token), hmac.compare_digest(given, found.old)
        if own:
            if found.old is not NO_TOKEN:
                self._used[device_id] = found.token
            return found.device
        return replace(found.device, proof=found.old) if old and self._counts(found, found.old) else None

    def holds(self, device: Device) -> bool:
        """Whether the token (or certificate) that ``device`` authenticated with is still valid."""
        found = self._known.get(device.id, _UNKNOWN_DEVICE)
        if device.proof:
            return self._counts(found, device.proof)
        return not found.device.revoked

    def _counts(self, found: DeviceRow, token: bytes) -> bool:
        used = self._used.get(found.device.id) == found.token
        return token == found.token if used else found.counts(token, time.time_ns())

    def lookup(self, device_id: str) -> Device | None:
        """The device, also if it is revoked; None if it is not registered."""
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
        """Replace these devices by what the file has now; each device before (None: new) and after."""
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
        """The devices whose previous token has ended, each with the hash of its present token."""
        over = {device_id for device_id, until_ns in self._overlaps.items() if until_ns <= now_ns} | set(self._used)
        return [(device_id, self._used.get(device_id) or self._known[device_id].token) for device_id in over]

    def written_down(self, over: Iterable[tuple[str, bytes]]) -> None:
        """The file no longer has the previous tokens of these devices (see `over`), and `take_in` has read that."""
        for device_id, token in over:
            if self._used.get(device_id) == token:
                del self._used[device_id]

    def take_ended(self) -> frozenset[str]:
        """The devices whose token ended since the last call."""
        ended, self._ended = frozenset(self._ended), set()
        return ended
