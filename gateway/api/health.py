"""What monitoring asks: is the process alive, can it take readings, and its metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gateway.api.handler import OperationsHandler

if TYPE_CHECKING:
    from gateway.live.readiness import Readiness
    from gateway.metrics import Metrics


class HealthHandler(OperationsHandler):
    """``GET`` or ``HEAD /healthz``: the event loop runs."""

    def get(self) -> None:
        """Say so."""
        self.answer({"status": "alive"})

    head = get


class ReadyHandler(OperationsHandler):
    """``GET`` or ``HEAD /readyz``: 200 when readings can be taken, 503 when not; in both cases what is wrong."""

    readiness: Readiness

    def get(self) -> None:
        """Answer with the state and its reasons."""
        state = self.readiness.report()
        self.answer(state, 200 if state["ready"] else 503)

    head = get


class MetricsHandler(OperationsHandler):
    """``GET /metrics``: Prometheus text format."""

    metrics: Metrics

    def get(self) -> None:
        """Send all metrics."""
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest(self.metrics.registry))
