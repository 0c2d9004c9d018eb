"""Ends the session of a device whose token or certificate is good no longer.

Rules that hold here:

* A session is judged by what it was opened with: its token, or the chain of its certificate.
* An error in one connection delays no other revocation: that connection is cut off.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.config.active_config import ActiveConfig
    from gateway.devices.device_connection import DeviceConnection
    from gateway.devices.fleet import Fleet
    from gateway.devices.profiles import Profiles
    from gateway.http.client_certificates import Authorities, Chain
    from gateway.state.registered_device import Device
    from gateway.state.registry import Registry

log = logging.getLogger(__name__)


class Revocation:
    """Judges the connections of devices after the registry or the certificate authorities have changed."""

    def __init__(
        self, active: ActiveConfig, registry: Registry, authorities: Authorities, profiles: Profiles, fleet: Fleet
    ) -> None:
        self._active = active
        self._registry = registry
        self._authorities = authorities
        self._profiles = profiles
        self._fleet = fleet

    def credentials_changed(self, device_id: str) -> None:
        """The registry's entry of a device has changed: end its session if what it came with is good no longer."""
        connection = self._fleet.connection(device_id)
        device = None if connection is None else connection.device
        if not self._needs_token or connection is None or device is None:
            return
        if not self._registry.devices.holds(device) or not self._vouched(device, connection.chain):
            log.info("device %s: what it was let in with has ended", device_id, extra={"device": device_id})
            try:
                connection.revoke()
            except Exception:  # the devices that are to be revoked with this one must not wait for it
                log.exception("device %s could not be told so and is cut off", device_id, extra={"device": device_id})
                connection.abort()

    def authorities_changed(self, connection: DeviceConnection) -> None:
        """The authorities have changed: end the session of a device whose authority may not vouch for it any more."""
        device = connection.device
        if device is not None and self._needs_token and not self._vouched(device, connection.chain):
            log.info("device %s: its certificate counts no more", device.id, extra={"device": device.id})
            connection.revoke()

    @property
    def _needs_token(self) -> bool:
        return self._active.config.auth.mode == "token"

    def _vouched(self, device: Device, chain: Chain) -> bool:
        """Whether a device that came without a token has a certificate that is good for the profile it has now."""
        known = self._registry.devices.lookup(device.id) or device
        return bool(device.proof) or self._authorities.still_allow(chain, self._profiles.effective(known.profile))
