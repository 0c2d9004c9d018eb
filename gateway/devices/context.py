"""What every handler shares: the parts of the running gateway, handed in by `gateway.components`."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from gateway.api.blocking import Questions
from gateway.config import DEFAULT_PROFILE
from gateway.config.reloading import Standing
from gateway.devices.failed_credentials import Failures
from gateway.devices.problems import Problems
from gateway.devices.unauthenticated import Strangers
from gateway.http.certificate_expiry import Expiry
from gateway.http.client_certificates import Authorities, Certificate, Chain
from gateway.page.files import PageFiles
from gateway.process.clock import WallClock
from gateway.process.file_limit import UNLIMITED
from gateway.protocol.rates import Allowance
from gateway.protocol.validation import Encoder
from gateway.state.registry_layout import Device

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.api.device_socket import DeviceSocket
    from gateway.config import Config, ProfileSection
    from gateway.delivery.dead_letters import DeadLetters
    from gateway.delivery.forwarder import Forwarder
    from gateway.delivery.message_trace import TraceFiles
    from gateway.delivery.sink import Sink
    from gateway.delivery.write_log import WriteLog
    from gateway.devices.acks import Acks
    from gateway.devices.backpressure import Backpressure
    from gateway.devices.commands import Downlink
    from gateway.devices.device_state import DeviceView
    from gateway.devices.directory import Directory
    from gateway.devices.enrolment import Enrolling
    from gateway.devices.fleet import Fleet
    from gateway.devices.settings import SettingsLink
    from gateway.http.access import Access
    from gateway.http.connect_rates import Connects
    from gateway.http.connection_bounds import PlainConnections
    from gateway.ledger import Ledger
    from gateway.live.feed import Live
    from gateway.live.status import Status
    from gateway.metrics import Metrics
    from gateway.protocol.fields import Rulebook
    from gateway.protocol.rates import Rates
    from gateway.protocol.session import Terms
    from gateway.spool.queue import SpoolQueue
    from gateway.state.command_log import CommandLog
    from gateway.state.registry import Registry


log = logging.getLogger(__name__)


@dataclass(slots=True)
class Context:
    """The parts of one gateway and the questions handlers ask of its configuration."""

    config: Config
    metrics: Metrics
    registry: Registry
    ledger: Ledger
    fleet: Fleet
    acks: Acks
    spool: SpoolQueue
    backpressure: Backpressure
    forwarder: Forwarder
    sink: Sink
    terms: Terms
    rates: Mapping[str, Rates]
    """By profile."""
    connects: Connects
    writes: WriteLog
    rulebook: Rulebook
    history: TraceFiles
    directory: Directory
    access: Access
    dead_letters: DeadLetters
    commands: CommandLog
    downlink: Downlink
    settings: SettingsLink
    authorities: Authorities = field(default_factory=lambda: Authorities({}))
    expiry: Expiry = field(default_factory=Expiry)
    files: PageFiles = field(default_factory=PageFiles)
    questions: Questions = field(default_factory=Questions)
    standing: Standing = field(default_factory=Standing)
    clock: WallClock = field(default_factory=WallClock)
    devices_allowed: int = UNLIMITED
    """By the system's limit of open files."""
    problems: Problems = field(default_factory=Problems)
    failures: Failures = field(default_factory=Failures)
    enrolling: Enrolling = field(init=False)
    status: Status = field(init=False)
    live: Live = field(init=False)
    plain: PlainConnections = field(init=False)
    sockets: set[DeviceSocket] = field(default_factory=set)
    strangers: Strangers = field(default_factory=Strangers)
    draining: bool = False
    replaying: threading.Lock = field(default_factory=threading.Lock)
    """Held while dead letters are written again."""
    all_gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the last socket of a draining gateway has closed."""

    @property
    def most_devices(self) -> int:
        """How many may be connected at the same time."""
        return min(self.config.server.max_connections, self.devices_allowed)

    def full(self, device_id: str) -> bool:
        """Whether devices have all their places, and this one has none that it would take over from itself.

        Who has not said who it is, or waits for a person, takes none.
        """
        return self.metrics.connections.devices >= self.most_devices and self.fleet.connection(device_id) is None

    @property
    def needs_token(self) -> bool:
        """Whether devices must present a token."""
        return self.config.auth.mode == "token"

    def authenticate(self, device_id: str, token: str | None, shown: Certificate | None = None) -> Device | None:
        """The device that a token, else the certificate that was ``shown`` stands for; None if there is none."""
        if not self.needs_token:
            return self.registry.devices.lookup(device_id) or Device(id=device_id)
        if token is not None:
            known = self.registry.devices.authenticate(device_id, token)
            if known is not None:
                self.enrolling.arrived(device_id)
            return known
        device = self.registry.devices.lookup(device_id) if shown is not None and device_id in shown.names else None
        if device is None or shown is None or device.revoked:
            return None
        return replace(device, proof=b"") if self.authorities.allow(shown, self._effective(device.profile)) else None

    def encoder(self, device: Device) -> Encoder:
        """What turns this device's readings into line protocol."""
        return Encoder(device.id, self._profile(device.profile), device.tags, self.rulebook)

    def may_connect(self, address: str) -> bool:
        """Whether this address may connect once more; counted."""
        if self.connects.may(address):
            return True
        self.metrics.connections_total.labels("too_often").inc()
        return False

    def rates_of(self, device: Device) -> Rates:
        """How much this device may send."""
        return self.rates.get(device.profile or DEFAULT_PROFILE) or self.rates[DEFAULT_PROFILE]

    def allowance(self, view: DeviceView, device: Device) -> Allowance:
        """What is left of that, for all connections and requests of the device together."""
        rates = self.rates_of(device)
        if view.allowance is None:
            view.allowance = Allowance(rates)
        elif view.allowance.rates is not rates:
            view.allowance.renew(rates)
        return view.allowance

    def units(self, profile: str | None) -> dict[str, str]:
        """The unit of each field that has one in a profile."""
        fields = self._profile(profile).fields
        return {name: field.unit for name, field in fields.items() if field.unit is not None}

    def _profile(self, name: str | None) -> ProfileSection:
        return self.config.profiles[self._effective(name)]

    def _effective(self, name: str | None) -> str:
        """The profile that a device of this one is served by: the configuration may have it no more."""
        return name if name in self.config.profiles and name is not None else DEFAULT_PROFILE

    def socket_opened(self, socket: DeviceSocket) -> None:
        """Watch over a device's socket."""
        self.sockets.add(socket)

    def socket_closed(self, socket: DeviceSocket) -> None:
        """Forget a device's socket."""
        self.sockets.discard(socket)
        self.metrics.connections.devices -= socket.view is not None
        if self.draining and not self.sockets:
            self.all_gone.set()

    def judge(self, socket: DeviceSocket) -> None:
        """End the session of a device whose certificate is of an authority that speaks for it no more."""
        device = socket.device
        if device is not None and self.needs_token and not self._vouched(device, socket.chain):
            log.info("device %s: its certificate counts no more", device.id, extra={"device": device.id})
            socket.revoke()

    def _vouched(self, device: Device, chain: Chain) -> bool:
        """Whether a device that came without a token has a certificate that counts for the profile it has now."""
        known = self.registry.devices.lookup(device.id) or device
        return bool(device.proof) or self.authorities.still_allow(chain, self._effective(known.profile))

    def credentials_changed(self, device_id: str) -> None:
        """End the live session of a device, if what it was let in with no longer counts; no failure keeps it."""
        view = self.fleet.views.get(device_id)
        connection = None if view is None else view.connection
        device = None if connection is None else connection.device
        if not self.needs_token or connection is None or device is None:
            return
        if not self.registry.devices.holds(device) or not self._vouched(device, connection.chain):
            log.info("device %s: what it was let in with has ended", device_id, extra={"device": device_id})
            try:
                connection.revoke()
            except Exception:  # others that are to go at the same time must not wait for this one
                log.exception("device %s could not be told so and is cut off", device_id, extra={"device": device_id})
                connection.abort()
