"""What monitoring sees of a real gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest.mock import MagicMock

import pytest
from prometheus_client import Counter
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from gateway.config import Config
from gateway.config.active_config import ActiveConfig
from gateway.delivery import health
from gateway.http.certificate_expiry import CertificateExpiry
from gateway.live.readiness import Readiness
from gateway.metrics import Metrics
from gateway.process.clock import WallClock
from gateway.sinks.influxdb.http_response import REFUSALS
from gateway.spool.listener import SpoolStatus
from gateway.state.command_log import CommandState
from tests.support.gateway import running_gateway, wait_for
from tests.support.servers import free_port
from tests.support.visitor import Visitor

if TYPE_CHECKING:
    from pathlib import Path

NAMES = {
    "gateway_connections", "gateway_connections_total", "gateway_disconnects_total",
    "gateway_messages_received_total", "gateway_readings_total", "gateway_readings_stored_total",
    "gateway_dead_letters_total", "gateway_spool_bytes", "gateway_spool_oldest_seconds", "gateway_commit_seconds_count",
    "gateway_ack_seconds_count", "gateway_write_seconds_count", "gateway_write_errors_total",
    "gateway_event_loop_lag_seconds", "process_cpu_seconds_total",
}  # fmt: skip
"""Fixed: dashboards and alerts are written against them. Some labels appear with their first value."""


LABELS = {
    "gateway_commands_total": ("state",),
    "gateway_connections_total": ("result",), "gateway_disconnects_total": ("reason",),
    "gateway_readings_total": ("outcome",), "gateway_dead_letters_total": ("reason",),
    "gateway_write_errors_total": ("kind",), "gateway_config_reloads_total": ("result",),
    "gateway_ledger_readings": ("column",), "gateway_requests_cut_total": ("reason",),
    "gateway_enrolments_total": ("result",), "gateway_throttles_total": ("limit",), "gateway_rests_total": ("limit",),
}  # fmt: skip
"""All labels there are: few values each, and never a device."""


def test_labels_are_these_and_no_others() -> None:
    metrics = [each for each in vars(Metrics()).values() if isinstance(each, MetricWrapperBase) and each._labelnames]
    named = {each._name + ("_total" if isinstance(each, Counter) else ""): each._labelnames for each in metrics}
    assert named == LABELS
    outcomes = Metrics().registry.collect()
    counted = {s.labels["outcome"] for family in outcomes for s in family.samples if "outcome" in s.labels}
    assert counted == {"accepted", "duplicate", "rejected", "dropped"}


def test_what_an_alert_waits_for_once_is_shown_before_it_happens() -> None:
    """A counter that appears with its first event has no increase by which Prometheus could tell of that event."""
    shown = {
        (sample.name, *sample.labels.values()): sample.value
        for family in Metrics().registry.collect()
        for sample in family.samples
    }
    kinds = {*REFUSALS.values(), "too_large", "refused"}
    awaited = {("gateway_dead_letters_total", kind) for kind in kinds}
    awaited |= {("gateway_connections_total", result) for result in ("too_many", "unauthorized")}
    awaited |= {("gateway_disconnects_total", reason) for reason in ("keepalive", "lost")}
    awaited |= {("gateway_enrolments_total", result) for result in ("pushed_out", "left", "void")}
    awaited |= {("gateway_commands_total", state) for state in CommandState if state not in ("waiting", "sent")}
    assert {shown.get(name) for name in awaited} == {0.0}


def test_every_metric_is_there_and_counts(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        gateway.request("/v1/devices/d/readings", body=b'[{"a":1},{"b":[]}]')
        gateway.settled("d")
        status, text = gateway.request("/metrics")
    assert status == 200
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    missing = NAMES - {name for name, *_ in samples} - {"gateway_write_errors_total"}
    assert missing == set()
    assert samples["gateway_readings_total", "accepted"] == 1
    assert samples["gateway_readings_total", "rejected"] == 1
    assert samples["gateway_readings_stored_total",] == 1
    assert samples["gateway_messages_received_total",] == 1
    assert samples["gateway_spool_bytes",] == 0


def test_a_gateway_without_its_database_is_ready_and_says_what_waits(tmp_path: Path) -> None:
    influx = {"url": f"http://127.0.0.1:{free_port()}", "api": "v1", "database": "d"}
    with running_gateway(tmp_path, {"sink": "influxdb", "influxdb": influx}) as gateway:
        assert gateway.request("/healthz") == (200, {"status": "alive"})
        for path in ("/healthz", "/readyz"):  # some load balancers look by HEAD
            answer = Visitor(gateway.url).send("HEAD", path)
            assert (answer.status, answer.body) == (200, b"")
        assert gateway.request("/readyz")[1]["warnings"] == []
        assert gateway.request("/v1/devices/d/readings", body=b'{"a":1}')[0] == 200
        status, body = wait_for(lambda: (r := gateway.request("/readyz"))[1]["warnings"] and r, "a warning")
        assert (status, body["ready"], body["blocking"]) == (200, True, [])
        assert "1 readings wait" in body["warnings"][0]
        assert body["database"]["state"] == "retrying"
        assert gateway.stop() == 0


@pytest.mark.parametrize(("kind", "said"), [("unreachable", "influxdb: gone"), ("internal", "delivery: gone")])
def test_the_database_is_not_blamed_for_what_happens_in_the_gateway(kind: str, said: str) -> None:
    spool, forwarder, database, connections = MagicMock(), MagicMock(), MagicMock(), MagicMock(draining=False)
    active = ActiveConfig(Config())
    connections.devices_allowed = active.config.server.max_connections
    spool.last_error = None
    spool.status.return_value = SpoolStatus(9, 3, 0, None, 0.0, 0, 1, 1, damaged=0)
    database.current.name = "influxdb"
    forwarder.state = health.DatabaseState("retrying", kind, "gone", 0.0)
    readiness = Readiness(active, WallClock(), spool, forwarder, database, connections, CertificateExpiry())
    assert (readiness.blocking(), readiness.warnings()) == ([], [f"{said}; 3 readings wait in the spool"])


def test_a_full_spool_is_not_ready(tmp_path: Path) -> None:
    influx = {"url": f"http://127.0.0.1:{free_port()}", "api": "v1", "database": "d"}
    spool = {"max_bytes": "1MiB", "segment_bytes": "64KiB"}
    with running_gateway(tmp_path, {"sink": "influxdb", "influxdb": influx, "spool": spool}) as gateway:
        body = b"[" + b",".join(b'{"ts":%d,"values":{"a":1}}' % (1_700_000_000_000 + n) for n in range(100)) + b"]"
        answers = [gateway.request("/v1/devices/d/readings", body=body) for _ in range(300)]
        assert answers[0][0] == 200
        status, error = answers[-1]
        assert (status, error["error"]["code"]) == (503, "spool_full")
        status, state = gateway.request("/readyz")
        assert status == 503
        assert state["blocking"] == ["the spool is full"]
        taken = sum(status == 200 for status, _ in answers)
        assert gateway.ledger("d")["received"] == taken * 100
