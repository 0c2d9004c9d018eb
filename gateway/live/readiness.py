"""Whether the gateway can take readings, and what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.devices.connection_limits import shortage

if TYPE_CHECKING:
    from gateway.config.active_config import ActiveConfig
    from gateway.delivery.forwarder import Forwarder
    from gateway.delivery.sink import ActiveSink
    from gateway.devices.connections import Connections
    from gateway.http.certificate_expiry import CertificateExpiry
    from gateway.process.clock import WallClock
    from gateway.spool.queue import SpoolQueue


class Readiness:
    """Judges a running gateway at the moment it is asked."""

    def __init__(
        self,
        active: ActiveConfig,
        clock: WallClock,
        spool: SpoolQueue,
        forwarder: Forwarder,
        active_sink: ActiveSink,
        connections: Connections,
        certificate_expiry: CertificateExpiry,
    ) -> None:
        self._active = active
        self._clock = clock
        self._spool = spool
        self._forwarder = forwarder
        self._active_sink = active_sink
        self._connections = connections
        self._certificate_expiry = certificate_expiry

    def blocking(self) -> list[str]:
        """The reasons for which the gateway takes no readings now."""
        reasons = []
        if self._connections.draining:
            reasons.append("the gateway is shutting down")
        if not self._spool.healthy:
            reasons.append(f"the spool cannot be written: {self._spool.last_error}")
        elif not self._spool.room:
            reasons.append(self._spool.free_space.reason or "the spool is full")
        if self._clock.wrong is not None:
            reasons.append(self._clock.wrong)
        return reasons

    def warnings(self) -> list[str]:
        """Faults that do not stop readings, such as a database that does not answer: readings are kept meanwhile."""
        spool, status = self._spool, self._spool.status()
        warnings = []
        if spool.healthy and spool.last_error:
            warnings.append(f"the spool: {spool.last_error}")
        if status.damaged:
            place = self._active.config.spool.directory / "quarantine"
            warnings.append(
                f"the spool was damaged in {status.damaged} places, copies are in {place}; "
                "what could be read is delivered"
            )
        state = self._forwarder.state
        if state.name != "delivering":
            # An error of kind "internal" is a fault of delivery, not of the database.
            part = self._active_sink.current.name if state.kind != "internal" else "delivery"
            warnings.append(f"{part}: {state.reason}; {status.readings_pending} readings wait in the spool")
        warnings += self._active.warnings()
        warnings += self._clock.warnings()
        warnings += self._certificate_expiry.warnings()
        wanted = self._active.config.server.max_connections
        if problem := shortage(self._connections.devices_allowed, wanted):
            warnings.append(problem)
        return warnings

    def report(self) -> dict[str, Any]:
        """What ``/readyz`` answers."""
        status, state, blocking = self._spool.status(), self._forwarder.state, self.blocking()
        return {
            "ready": not blocking,
            "blocking": blocking,
            "warnings": self.warnings(),
            "spool": {"pending_bytes": status.bytes_pending, "pending_readings": status.readings_pending},
            "database": {"sink": self._active_sink.current.name, "state": state.name, "reason": state.reason},
            "configuration": {
                "refused": list(self._active.refused),
                "needs_restart": list(self._active.waiting),
            },
        }
