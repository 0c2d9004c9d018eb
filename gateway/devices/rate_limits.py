"""What devices are told, and how much one of each profile may send, from the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.config.sections import ProfileLimits
from gateway.protocol.endings import Terms
from gateway.protocol.rates import Quota, Rates

if TYPE_CHECKING:
    from gateway.config import Config, ProfileSection
    from gateway.config.sections import LimitsSection


def terms(config: Config) -> Terms:
    """What every device is told in ``welcome``."""
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
    """The rates of each profile: its own limits where it has some, else those of all."""
    return {name: _rates(config.limits, profile) for name, profile in config.profiles.items()}


def _rates(limits: LimitsSection, profile: ProfileSection) -> Rates:
    own = profile.limits
    chosen = {
        name: getattr(limits, name) if getattr(own, name) is None else getattr(own, name)
        for name in ProfileLimits.model_fields
    }
    quota = Quota(**chosen)
    return Rates(quota, quota.times(limits.backlog))
