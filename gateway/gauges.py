"""Gauges whose value is read from the running gateway at the moment of a scrape."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, ProcessCollector

if TYPE_CHECKING:
    from gateway.components import Components


def show_now(parts: Components) -> None:
    """Connect the gauges to the parts of which they show a value; needs the running loop."""
    metrics, spool, types, budgets = parts.metrics, parts.spool, parts.field_types, parts.rulebook.budgets
    total, loop, limits = parts.ledger.total, asyncio.get_running_loop(), parts.active.config.spool
    metrics.spool_bytes.set_function(lambda: spool.status().bytes_pending)
    metrics.commit_queue.set_function(lambda: spool.queued_bytes)
    metrics.strangers.set_function(lambda: len(parts.unauthenticated))
    metrics.connections_paused.set_function(lambda: len(parts.backpressure))
    metrics.connections_resting.set_function(lambda: len(parts.backpressure.timed_pauses))
    metrics.spool_oldest.set_function(lambda: spool.status().oldest_seconds)
    metrics.spool_damage.set_function(lambda: spool.status().damaged)
    for column in ("received", "stored", "duplicate", "rejected", "dropped", "pending"):
        metrics.ledger.labels(column).set_function(partial(getattr, total, column))
    metrics.gaps.set_function(lambda: total.gaps)
    metrics.field_types.set_function(lambda: len(types))
    metrics.field_types_ignored.set_function(lambda: types.ignored)
    metrics.series_refused.set_function(lambda: budgets.refused)
    metrics.series_refused_shared.set_function(lambda: budgets.refused_shared)
    metrics.enrolments_open.set_function(lambda: len(parts.enrolment))
    metrics.commands_open.set_function(lambda: len(parts.commands))
    metrics.viewers.set_function(lambda: parts.feed.viewers)
    metrics.ready.set_function(lambda: not parts.readiness.blocking())
    metrics.warnings.set_function(lambda: len(parts.readiness.warnings()))
    metrics.connections_limit.set_function(lambda: parts.connections.limit)
    metrics.spool_limit.set_function(lambda: limits.max_bytes)
    metrics.disk_free.set_function(lambda: spool.free_space.free)
    metrics.clock_jumps.set_function(lambda: parts.clock.jumps)
    metrics.config_refused.set_function(lambda: bool(parts.active.refused))
    metrics.loop_lag.set_function(lambda: parts.keepalive.lags.worst(loop.time()))
    ProcessCollector(registry=metrics.registry)
    metrics.registry.register(PLATFORM_COLLECTOR)
    metrics.registry.register(GC_COLLECTOR)
