"""Gauges that say how the running gateway stands at the moment they are asked."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, ProcessCollector

from gateway.live.readiness import readiness

if TYPE_CHECKING:
    from gateway.components import Parts


def show_now(parts: Parts) -> None:
    """Have the gauges of ``parts`` read what they show; needs the running loop."""
    metrics, context, spool, types = parts.metrics, parts.context, parts.spool, parts.types
    total, loop = parts.ledger.total, asyncio.get_running_loop()
    metrics.spool_bytes.set_function(lambda: spool.status().bytes_pending)
    metrics.commit_queue.set_function(lambda: spool.queued_bytes)
    metrics.strangers.set_function(lambda: len(context.strangers))
    metrics.connections_paused.set_function(lambda: len(parts.backpressure))
    metrics.connections_resting.set_function(lambda: len(parts.backpressure.resting))
    metrics.spool_oldest.set_function(lambda: spool.status().oldest_seconds)
    metrics.spool_damage.set_function(lambda: spool.status().damaged)
    for column in ("received", "stored", "duplicate", "rejected", "dropped", "pending"):
        metrics.ledger.labels(column).set_function(partial(getattr, total, column))
    metrics.gaps.set_function(lambda: total.gaps)
    metrics.field_types.set_function(lambda: len(types))
    metrics.field_types_ignored.set_function(lambda: types.ignored)
    metrics.series_refused.set_function(lambda: context.rulebook.budgets.refused)
    metrics.series_refused_shared.set_function(lambda: context.rulebook.budgets.refused_shared)
    metrics.enrolments_open.set_function(lambda: len(context.enrolling))
    metrics.commands_open.set_function(lambda: len(parts.downlink))
    metrics.viewers.set_function(lambda: context.live.viewers)
    metrics.ready.set_function(lambda: not readiness(context)["blocking"])
    metrics.warnings.set_function(lambda: len(readiness(context)["warnings"]))
    metrics.connections_limit.set_function(lambda: context.most_devices)
    metrics.spool_limit.set_function(lambda: parts.config.spool.max_bytes)
    metrics.disk_free.set_function(lambda: spool.floor.free)
    metrics.clock_jumps.set_function(lambda: parts.clock.jumps)
    metrics.config_refused.set_function(lambda: bool(context.standing.refused))
    metrics.loop_lag.set_function(lambda: parts.keepalive.lags.worst(loop.time()))
    ProcessCollector(registry=metrics.registry)
    metrics.registry.register(PLATFORM_COLLECTOR)
    metrics.registry.register(GC_COLLECTOR)
