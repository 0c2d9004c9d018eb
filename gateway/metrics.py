"""Every Prometheus metric of the gateway. Base units; a device id is never a label."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client import Metric

_FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_SLOW = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

_RESULTS = (
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
_ENROLMENTS = "pending", "approved", "refused", "expired", "too_many", "pushed_out", "left", "void"
_COMMANDS = "answered", "expired", "failed"
_ENDINGS = "keepalive", "lost"
_CUTS = "gave_way", "slow_reader"
RATES = tuple(f"{lane}{unit}_per_second" for lane in ("", "backlog.") for unit in ("messages", "readings", "bytes"))
_LIMITS = "spool_bytes", "spool_write", "max_unacked", "commit_queue", *RATES
_REFUSALS = "type_conflict", "malformed", "beyond_retention", "too_large", "refused"


class Connections(Collector):
    """``gateway_connections``. The client library would take its name for that of ``gateway_connections_total``."""

    def __init__(self) -> None:
        self.devices = 0
        """Those that were let in."""

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
        self._show_standing(r)
        self._count_viewers(r)

    def _count_connections(self, r: CollectorRegistry) -> None:
        """Who connects, and who is told to do what."""
        self.connections = Connections()
        r.register(self.connections)
        self.connections_total = Counter(
            "gateway_connections_total", "Device handshakes by result", ["result"], registry=r
        )
        _begin(self.connections_total, _RESULTS)
        self.disconnects = Counter(
            "gateway_disconnects_total", "Device connections ended, by reason", ["reason"], registry=r
        )
        _begin(self.disconnects, _ENDINGS)
        self.requests_cut = Counter(
            "gateway_requests_cut_total", "HTTP connections closed to make room or as too slow", ["reason"], registry=r
        )
        _begin(self.requests_cut, _CUTS)
        self.strangers = Gauge(
            "gateway_connections_strangers", "Connections that have not said who they are yet", registry=r
        )
        self.enrolments = Counter(
            "gateway_enrolments_total", "Devices that asked to be let in, by what came of it", ["result"], registry=r
        )
        _begin(self.enrolments, _ENROLMENTS)
        self.enrolments_open = Gauge(
            "gateway_enrolments_open", "Devices that wait to be approved, or to come back after it", registry=r
        )
        self.throttles = Counter(
            "gateway_throttles_total", "Times a device was told to send again later, by limit", ["limit"], registry=r
        )
        _begin(self.throttles, _LIMITS)
        self.rests = Counter(
            "gateway_rests_total",
            "Times a device that was too fast was not read for a while, by limit",
            ["limit"],
            registry=r,
        )
        _begin(self.rests, RATES)
        self.commands = Counter(
            "gateway_commands_total", "Commands to devices, by the state in which they ended", ["state"], registry=r
        )
        _begin(self.commands, _COMMANDS)
        self.time_requests = Counter("gateway_time_requests_total", "Times a device asked for the time", registry=r)
        self.commands_open = Gauge("gateway_commands_open", "Commands to devices that have not ended", registry=r)

    def _count_readings(self, r: CollectorRegistry) -> None:
        """What came, and what became of it."""
        self.messages = Counter(
            "gateway_messages_received_total",
            "Messages of devices that are on disk, also those that were refused",
            registry=r,
        )
        self.readings = Counter(
            "gateway_readings_total",
            "Readings by what became of them; accepted ones may be dropped or rejected later",
            ["outcome"],
            registry=r,
        )
        self.accepted = self.readings.labels("accepted")
        self.duplicate = self.readings.labels("duplicate")
        self.rejected = self.readings.labels("rejected")
        self.dropped = self.readings.labels("dropped")
        self.corrected = Counter(
            "gateway_readings_corrected_total", "Readings stored with a time other than their device's", registry=r
        )
        self.stored = Counter("gateway_readings_stored_total", "Readings confirmed by the database", registry=r)
        self.ledger = Gauge(
            "gateway_ledger_readings", "The account of all devices, exact across restarts", ["column"], registry=r
        )
        self.gaps = Gauge("gateway_ledger_gaps", "Sequence numbers that devices left out, as in the ledger", registry=r)
        self.field_types = Gauge("gateway_field_types", "Fields whose type is known", registry=r)
        self.field_types_ignored = Gauge(
            "gateway_field_types_ignored", "Times a field's type was not learned for want of room", registry=r
        )
        self.series_refused = Gauge(
            "gateway_series_refused_readings",
            "Readings refused since the start for series above the budget",
            registry=r,
        )
        self.series_refused_shared = Gauge(
            "gateway_series_refused_shared_readings",
            "Those of them whose device was within its own budget, above its share of what all devices have",
            registry=r,
        )
        self.dead_letters = Counter(
            "gateway_dead_letters_total", "Points the database refused, by reason", ["reason"], registry=r
        )
        _begin(self.dead_letters, _REFUSALS)

    def _measure_spool(self, r: CollectorRegistry) -> None:
        """The way to the disk and the ack."""
        self.spool_bytes = Gauge("gateway_spool_bytes", "Bytes of the spool not yet delivered", registry=r)
        self.spool_oldest = Gauge(
            "gateway_spool_oldest_seconds", "Age of the oldest reading not yet delivered", registry=r
        )
        self.spool_damage = Gauge(
            "gateway_spool_damaged_places", "Places in the spool found damaged since the start and left out", registry=r
        )
        self.commit = Histogram(
            "gateway_commit_seconds", "One group commit: write and fdatasync", buckets=_FAST, registry=r
        )
        self.commit_failures = Counter(
            "gateway_commit_failures_total", "Group commits that did not reach the disk", registry=r
        )
        self.commit_queue = Gauge(
            "gateway_commit_queue_bytes", "Bytes taken from devices and not yet on disk", registry=r
        )
        self.reads_paused = Counter(
            "gateway_reads_paused_total", "Times a device was not read on because the disk was behind", registry=r
        )
        self.connections_paused = Gauge(
            "gateway_connections_paused", "Devices that are not read now because the disk is behind", registry=r
        )
        self.connections_resting = Gauge(
            "gateway_connections_resting", "Devices that are not read now because they were too fast", registry=r
        )
        self.ack = Histogram(
            "gateway_ack_seconds",
            "Arrival to commit and acks of it, of the oldest message of a commit",
            buckets=_FAST,
            registry=r,
        )

    def _measure_writes(self, r: CollectorRegistry) -> None:
        """The way to the database."""
        self.write = Histogram("gateway_write_seconds", "One batch written to the database", buckets=_SLOW, registry=r)
        self.write_errors = Counter(
            "gateway_write_errors_total", "Batches the database did not take, by kind", ["kind"], registry=r
        )

    def _show_standing(self, r: CollectorRegistry) -> None:
        """What the gateway and its machine can take."""
        self.ready = Gauge("gateway_ready", "1 while readings are taken, as /readyz says", registry=r)
        self.warnings = Gauge("gateway_warnings", "Warnings that /readyz has", registry=r)
        self.connections_limit = Gauge("gateway_connections_limit", "Devices that may be connected", registry=r)
        self.spool_limit = Gauge("gateway_spool_limit_bytes", "Most bytes that the spool may take", registry=r)
        self.disk_free = Gauge("gateway_disk_free_bytes", "Room left on the disk of the spool", registry=r)
        self.clock_jumps = Gauge("gateway_clock_jumps", "Times the machine's clock was set since the start", registry=r)
        self.config_refused = Gauge(
            "gateway_config_refused", "1 while the configuration's file is refused and an older one counts", registry=r
        )
        self.reloads = Counter(
            "gateway_config_reloads_total", "Times the configuration was read again, by result", ["result"], registry=r
        )

    def _count_viewers(self, r: CollectorRegistry) -> None:
        """Those who look."""
        self.viewers = Gauge("gateway_viewers", "Live feeds open", registry=r)
        self.viewers_refused = Counter(
            "gateway_viewers_refused_total", "Live feeds refused because there were too many", registry=r
        )
        self.live_conflated = Counter(
            "gateway_live_conflated_total", "Times a viewer fell behind and got only the newest values", registry=r
        )
        self.loop_lag = Gauge(
            "gateway_event_loop_lag_seconds", "How late the event loop ran a timer, the worst of 15 s", registry=r
        )


def _begin(counter: Counter, values: Iterable[str]) -> None:
    """Show these at 0: Prometheus sees no increase in a counter that begins with its first event, and alerts on it."""
    for value in values:
        counter.labels(value)
