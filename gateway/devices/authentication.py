"""Which device a connection or a request speaks for, by its token or its client certificate.

Rules that hold here:

* An unknown device and a wrong token get the same answer.
* A token goes before a certificate. Where devices need no token (``auth.mode: open``), a device is what it says it is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.state.registered_device import Device

if TYPE_CHECKING:
    from gateway.config.active_config import ActiveConfig
    from gateway.devices.enrolment import Enrolment
    from gateway.devices.profiles import Profiles
    from gateway.http.client_certificates import Authorities, Certificate
    from gateway.state.registry import Registry


class Authentication:
    """Authenticates devices against the registry and the certificate authorities of the configuration in force."""

    def __init__(
        self,
        active: ActiveConfig,
        registry: Registry,
        authorities: Authorities,
        profiles: Profiles,
        enrolment: Enrolment,
    ) -> None:
        self._active = active
        self._registry = registry
        self._authorities = authorities
        self._profiles = profiles
        self._enrolment = enrolment

    @property
    def needs_token(self) -> bool:
        """Whether a device has to present a token or a certificate."""
        return self._active.config.auth.mode == "token"

    def authenticate(self, device_id: str, token: str | None, shown: Certificate | None = None) -> Device | None:
        """The device that ``token``, else the certificate ``shown``, stands for; None if there is none."""
        devices = self._registry.devices
        if not self.needs_token:
            return devices.lookup(device_id) or Device(id=device_id)
        if token is not None:
            known = devices.authenticate(device_id, token)
            if known is not None:
                self._enrolment.arrived(device_id)
            return known
        device = devices.lookup(device_id) if shown is not None and device_id in shown.names else None
        if device is None or shown is None or device.revoked:
            return None
        allowed = self._authorities.allow(shown, self._profiles.effective(device.profile))
        return replace(device, proof=b"") if allowed else None
