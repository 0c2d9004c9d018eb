"""What the configuration says of a device by its profile: what it may send, how it is read, and what it is told.

Rules that hold here:

* A device whose profile the configuration has no more is served by the default profile.
* What is left of a device's rates belongs to the device, not to a connection: a reconnect refills nothing.
* `renew` is called once per reload. Until then every answer comes from the same configuration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.config import DEFAULT_PROFILE
from gateway.config.sections import ProfileLimits
from gateway.protocol.encoder import Encoder
from gateway.protocol.rate_limits import Allowance, Quota, Rates
from gateway.protocol.session import Terms

if TYPE_CHECKING:
    from gateway.config import Config, ProfileSection
    from gateway.config.active_config import ActiveConfig
    from gateway.config.sections import LimitsSection
    from gateway.devices.device_view import DeviceView
    from gateway.protocol.field_rules import Rulebook
    from gateway.state.registered_device import Device


class Profiles:
    """The profiles of the configuration in force."""

    def __init__(self, active: ActiveConfig, rulebook: Rulebook) -> None:
        self._active = active
        self._rulebook = rulebook
        self.terms = terms(active.config)
        """What every device is told in its welcome."""
        self._rates = rates_by_profile(active.config)

    def renew(self) -> None:
        """Go by the configuration that is in force now."""
        config = self._active.config
        self.terms = terms(config)
        self._rates = rates_by_profile(config)
        self._rulebook.budgets.per_day = config.limits.series_per_day

    def effective(self, name: str | None) -> str:
        """The name of the profile that serves a device whose registered profile is ``name``."""
        return name if name in self._active.config.profiles and name is not None else DEFAULT_PROFILE

    def units(self, name: str | None) -> dict[str, str]:
        """The unit of each field that has one in the profile."""
        return {field: rule.unit for field, rule in self._section(name).fields.items() if rule.unit is not None}

    def encoder(self, device: Device) -> Encoder:
        """What turns the readings of ``device`` into line protocol."""
        return Encoder(device.id, self._section(device.profile), device.tags, self._rulebook)

    def rates(self, device: Device) -> Rates:
        """How much ``device`` may send."""
        return self._rates.get(device.profile or DEFAULT_PROFILE) or self._rates[DEFAULT_PROFILE]

    def allowance(self, view: DeviceView, device: Device) -> Allowance:
        """What is left of its rates, for all connections and requests of the device together."""
        rates = self.rates(device)
        if view.allowance is None:
            view.allowance = Allowance(rates)
        elif view.allowance.rates is not rates:
            view.allowance.renew(rates)
        return view.allowance

    def _section(self, name: str | None) -> ProfileSection:
        return self._active.config.profiles[self.effective(name)]


def terms(config: Config) -> Terms:
    """What every device is told in its welcome."""
    return Terms(
        ping_interval_ms=round(config.keepalive.ping_interval * 1000),
        timeout_ms=round(config.keepalive.timeout * 1000),
        max_message_bytes=config.server.max_message_bytes,
        max_unacked=config.limits.max_unacked,
        strikes_per_minute=config.limits.strikes_per_minute,
        ack_delay_ms=round(config.server.ack_delay * 1000),
        enrol=config.auth.enrol == "approve",
    )


def rates_by_profile(config: Config) -> dict[str, Rates]:
    """The rates of each profile: its own limits where it has some, else those of all devices."""
    return {name: _rates(config.limits, profile) for name, profile in config.profiles.items()}


def _rates(limits: LimitsSection, profile: ProfileSection) -> Rates:
    own = profile.limits
    chosen = {
        name: getattr(limits, name) if getattr(own, name) is None else getattr(own, name)
        for name in ProfileLimits.model_fields
    }
    quota = Quota(**chosen)
    return Rates(quota, quota.times(limits.backlog))
