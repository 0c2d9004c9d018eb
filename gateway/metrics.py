"""Every Prometheus metric of the gateway.

Rules that hold here:

* Units are base units: seconds, bytes. A device id is never a label, because there may be any number of them.
* An attribute of `Metrics` is named after its metric where it can be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client import Metric

_FAST_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_SLOW_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

_CONNECT_RESULTS = (
    "accepted",
    "unauthorized",
    "too_many",
    "busy",
    "clock",
    "bad_subprotocol",
    "bad_origin",
    "backed_off",
    "too_often",
)
_ENROLMENT_RESULTS = "pending", "approved", "refused", "expired", "too_many", "pushed_out", "left", "void"
_COMMAND_STATES = "answered", "expired", "failed"
_DISCONNECT_REASONS = "keepalive", "lost"
_CUT_REASONS = "gave_way", "slow_reader"
RATES = tuple(f"{lane}{unit}_per_second" for lane in ("", "backlog.") for unit in ("messages", "readings", "bytes"))
_THROTTLE_LIMITS = "spool_bytes", "spool_write", "max_unacked", "commit_queue", *RATES
_REFUSAL_REASONS = "type_conflict", "malformed", "beyond_retention", "too_large", "refused"


class ConnectionsCollector(Collector):
    """``gateway_connections``.

    It has a collector of its own, because a gauge of the client library would share its name with
    ``gateway_connections_total``, which the library refuses.
    """

    def __init__(self) -> None:
        # Devices that are authenticated and connected.
        self.devices = 0

    def collect(self) -> Iterator[Metric]:
        """The one sample."""
        yield GaugeMetricFamily("gateway_connections", "Devices connected", value=self.devices)


class Metrics:
    """The metrics of one gateway, in a registry of their own so that two gateways can share a process."""

    def __init__(self) -> None:
        self.registry = r = CollectorRegistry()
        self._count_connections(r)
        self._count_readings(r)
        self._measure_spool(r)
        self._measure_writes(r)
        self._show_capacity(r)
        self._count_viewers(r)

    def _count_connections(self, r: CollectorRegistry) -> None:
        """Connections, enrolments, limits and commands of devices."""
        self.connections = ConnectionsCollector()
        r.register(self.connections)
        self.connections_total = Counter(
            "gateway_connections_total", "Device handshakes by result", ["result"], registry=r
        )
        _show_at_zero(self.connections_total, _CONNECT_RESULTS)
        self.disconnects = Counter(
            "gateway_disconnects_total", "Device connections that ended, by reason", ["reason"], registry=r
        )
        _show_at_zero(self.disconnects, _DISCONNECT_REASONS)
        self.requests_cut = Counter(
            "gateway_requests_cut_total",
            "HTTP connections closed because they gave way to others or read too slowly, by reason",
            ["reason"],
            registry=r,
        )
        _show_at_zero(self.requests_cut, _CUT_REASONS)
        self.strangers = Gauge(
            "gateway_connections_strangers", "Connections that are not authenticated yet", registry=r
        )
        self.enrolments = Counter(
            "gateway_enrolments_total", "Enrolments that devices asked for, by result", ["result"], registry=r
        )
        _show_at_zero(self.enrolments, _ENROLMENT_RESULTS)
        self.enrolments_open = Gauge(
            "gateway_enrolments_open", "Devices that are pending approval, or approved and not back yet", registry=r
        )
        self.throttles = Counter(
            "gateway_throttles_total", "Times a device was told to send again later, by limit", ["limit"], registry=r
        )
        _show_at_zero(self.throttles, _THROTTLE_LIMITS)
        self.rests = Counter(
            "gateway_rests_total",
            "Times the gateway paused reading from a device that was too fast, by limit",
            ["limit"],
            registry=r,
        )
        _show_at_zero(self.rests, RATES)
        self.commands = Counter(
            "gateway_commands_total", "Commands to devices that have ended, by their last state", ["state"], registry=r
        )
        _show_at_zero(self.commands, _COMMAND_STATES)
        self.time_requests = Counter("gateway_time_requests_total", "Times a device asked for the time", registry=r)
        self.commands_open = Gauge("gateway_commands_open", "Commands to devices that have not ended", registry=r)

    def _count_readings(self, r: CollectorRegistry) -> None:
        """Readings: accepted, rejected, stored."""
        self.messages = Counter(
            "gateway_messages_received_total",
            "Messages of devices that are on disk, refused ones included",
            registry=r,
        )
        self.readings = Counter(
            "gateway_readings_total",
            "Readings by outcome; an accepted one may be dropped or rejected later",
            ["outcome"],
            registry=r,
        )
        self.accepted = self.readings.labels("accepted")
        self.duplicate = self.readings.labels("duplicate")
        self.rejected = self.readings.labels("rejected")
        self.dropped = self.readings.labels("dropped")
        self.corrected = Counter(
            "gateway_readings_corrected_total", "Readings stored with a time that the gateway corrected", registry=r
        )
        self.stored = Counter("gateway_readings_stored_total", "Readings confirmed by the database", registry=r)
        self.ledger = Gauge(
            "gateway_ledger_readings",
            "Sums over the accounts of all devices, exact across restarts",
            ["column"],
            registry=r,
        )
        self.gaps = Gauge(
            "gateway_ledger_gaps", "Sequence numbers that devices have skipped, as in the ledger", registry=r
        )
        self.field_types = Gauge("gateway_field_types", "Fields whose type is known", registry=r)
        self.field_types_ignored = Gauge(
            "gateway_field_types_ignored",
            "Times the type of a field was not learned because there were too many",
            registry=r,
        )
        self.series_refused = Gauge(
            "gateway_series_refused_readings",
            "Readings refused since the start because their series were above the budget",
            registry=r,
        )
        self.series_refused_shared = Gauge(
            "gateway_series_refused_shared_readings",
            "Of these, readings whose device was within its own budget but above its share of that of all",
            registry=r,
        )
        self.dead_letters = Counter(
            "gateway_dead_letters_total", "Points the database refused, by reason", ["reason"], registry=r
        )
        _show_at_zero(self.dead_letters, _REFUSAL_REASONS)

    def _measure_spool(self, r: CollectorRegistry) -> None:
        """The way to the disk and to the ack."""
        self.spool_bytes = Gauge("gateway_spool_bytes", "Bytes of the spool not yet delivered", registry=r)
        self.spool_oldest = Gauge(
            "gateway_spool_oldest_seconds", "Age of the oldest reading not yet delivered", registry=r
        )
        self.spool_damage = Gauge(
            "gateway_spool_damaged_places",
            "Places in the spool that were found damaged since the start, and skipped",
            registry=r,
        )
        self.commit = Histogram(
            "gateway_commit_seconds", "One group commit: write and fdatasync", buckets=_FAST_BUCKETS, registry=r
        )
        self.commit_failures = Counter(
            "gateway_commit_failures_total", "Group commits that did not reach the disk", registry=r
        )
        self.commit_queue = Gauge(
            "gateway_commit_queue_bytes", "Bytes received from devices and not yet on disk", registry=r
        )
        self.reads_paused = Counter(
            "gateway_reads_paused_total",
            "Times the gateway paused reading from a device because the disk was behind",
            registry=r,
        )
        self.connections_paused = Gauge(
            "gateway_connections_paused",
            "Devices that the gateway does not read from now because the disk is behind",
            registry=r,
        )
        self.connections_resting = Gauge(
            "gateway_connections_resting",
            "Devices that the gateway does not read from now because they were too fast",
            registry=r,
        )
        self.ack = Histogram(
            "gateway_ack_seconds",
            "From the arrival of the oldest message of a commit to its commit and acks",
            buckets=_FAST_BUCKETS,
            registry=r,
        )

    def _measure_writes(self, r: CollectorRegistry) -> None:
        """The way to the database."""
        self.write = Histogram(
            "gateway_write_seconds", "One batch written to the database", buckets=_SLOW_BUCKETS, registry=r
        )
        self.write_errors = Counter(
            "gateway_write_errors_total",
            "Writes of a batch that the database did not take, by kind",
            ["kind"],
            registry=r,
        )

    def _show_capacity(self, r: CollectorRegistry) -> None:
        """Readiness, and the limits of the gateway and its machine."""
        self.ready = Gauge("gateway_ready", "1 while the gateway takes readings, as /readyz says", registry=r)
        self.warnings = Gauge("gateway_warnings", "Warnings in /readyz", registry=r)
        self.connections_limit = Gauge("gateway_connections_limit", "Devices that may be connected at once", registry=r)
        self.spool_limit = Gauge("gateway_spool_limit_bytes", "Bytes that may wait in the spool", registry=r)
        self.disk_free = Gauge("gateway_disk_free_bytes", "Bytes free on the disk of the spool", registry=r)
        self.clock_jumps = Gauge("gateway_clock_jumps", "Times the machine's clock was set since the start", registry=r)
        self.config_refused = Gauge(
            "gateway_config_refused",
            "1 while the configuration file is refused and an older configuration is in force",
            registry=r,
        )
        self.reloads = Counter(
            "gateway_config_reloads_total", "Times the configuration was read again, by result", ["result"], registry=r
        )

    def _count_viewers(self, r: CollectorRegistry) -> None:
        """Viewers, and the event loop."""
        self.viewers = Gauge("gateway_viewers", "Live feeds open", registry=r)
        self.viewers_refused = Counter(
            "gateway_viewers_refused_total", "Live feeds refused because there were too many", registry=r
        )
        self.live_conflated = Counter(
            "gateway_live_conflated_total", "Times a viewer fell behind and was sent only the newest values", registry=r
        )
        self.loop_lag = Gauge(
            "gateway_event_loop_lag_seconds", "How late the event loop ran a timer, the worst of 15 seconds", registry=r
        )


def _show_at_zero(counter: Counter, values: Iterable[str]) -> None:
    """Show the counter of each label value at 0 from the start.

    If it appeared with its first event, Prometheus would see no increase, and its alerts would miss that event.
    """
    for value in values:
        counter.labels(value)
