"""How the gateway is doing: now, and over the last day, for the page and for operators without Prometheus.

Rules that hold here:

* One timer reads the counters of other parts once a second. Memory is constant: two rings of numbers.
* Latencies are percentiles of the Prometheus histograms between two moments, to the resolution of their buckets.
* A value that is not known is NaN here and null in the answer, never 0.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import deque
from dataclasses import dataclass
from math import inf, isnan, nan
from typing import TYPE_CHECKING, Any

from gateway.devices.device_view import OFFLINE
from gateway.time_units import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from prometheus_client import Counter, Gauge, Histogram

    from gateway.config.active_config import ActiveConfig
    from gateway.delivery.dead_letters import DeadLetters
    from gateway.delivery.forwarder import Forwarder
    from gateway.delivery.sink import ActiveSink
    from gateway.devices.device_list import DeviceIds
    from gateway.ledger import Ledger
    from gateway.metrics import Metrics
    from gateway.process.threads import BoundedThreads
    from gateway.spool.queue import SpoolQueue

TICK = 1.0
RATE_TICKS = 5
"""Seconds over which the present rates are taken."""
LATENCY_TICKS = 10
"""Seconds over which the present latencies are taken."""
DAY = 86_400
"""Seconds."""
COLUMNS = (
    "readings_per_second",
    "messages_per_second",
    "ack_p50_ms",
    "ack_p99_ms",
    "loop_lag_ms",
    "write_p50_ms",
    "spool_bytes",
    "pending",
    "connected",
)


@dataclass(frozen=True, slots=True)
class Counters:
    """The counters at one moment: ``at`` in the loop's seconds, ``acks`` and ``writes`` by the bound of each bucket."""

    at: float
    messages: float
    readings: int
    acks: Sequence[tuple[float, float]]
    writes: Sequence[tuple[float, float]]


def _value(metric: Counter | Gauge) -> float:
    return float(next(iter(metric.collect())).samples[0].value)


def buckets(histogram: Histogram) -> list[tuple[float, float]]:
    """Upper bound (seconds) and cumulative count of each bucket."""
    samples = next(iter(histogram.collect())).samples
    return [(float(s.labels["le"]), s.value) for s in samples if s.name.endswith("_bucket")]


def percentile_ms(before: Sequence[tuple[float, float]], after: Sequence[tuple[float, float]], share: float) -> float:
    """The value, in ms, below which ``share`` of the observations in between lie; NaN if there were none.

    Within a bucket they are taken to be spread evenly, as Prometheus does. Beyond the last bound, it is that bound.
    """
    counts = [(bound, now - then) for (bound, now), (_, then) in zip(after, before, strict=True)]
    total = counts[-1][1]
    if total <= 0:
        return nan
    low, below = 0.0, 0.0
    for bound, count in counts:
        if count >= share * total:
            width = 0.0 if bound == inf else bound - low
            return (low + width * (share * total - below) / (count - below)) * 1000
        low, below = bound, count
    return low * 1000


class Ring:
    """The last ``size`` samples, one per ``interval`` seconds, of every column."""

    def __init__(self, interval: int, size: int) -> None:
        self.interval = interval
        self._size = size
        self._columns = {name: array("d", [nan]) * size for name in COLUMNS}
        self._taken = 0
        """Samples taken so far; the ring holds the last ones."""
        self._ended_ms = 0
        """When the last of them was taken, in ms since 1970."""

    def add(self, sample: Mapping[str, float], now_ms: int) -> None:
        """Take the newest sample, which ended at ``now_ms``."""
        place = self._taken % self._size
        for name, column in self._columns.items():
            column[place] = sample[name]
        self._taken += 1
        self._ended_ms = now_ms

    def last(self, seconds: int) -> dict[str, Any]:
        """The samples of the last ``seconds``, oldest first; ``start`` is the end of the first."""
        count = min(self._taken, self._size, max(1, seconds // self.interval))
        places = [place % self._size for place in range(self._taken - count, self._taken)]
        interval_ms = self.interval * 1000
        return {
            "interval_ms": interval_ms,
            "start": self._ended_ms - (count - 1) * interval_ms if count else None,
            "columns": {name: [column[place] for place in places] for name, column in self._columns.items()},
        }


class Sampler:
    """Fills a ring: each sample is the difference to the one before."""

    def __init__(self, ring: Ring, begin: Counters) -> None:
        self.ring = ring
        self._before = begin
        self._lag = nan

    def tick(self, now: Counters, lag: float, gauges: Mapping[str, float]) -> None:
        """A second has passed; ``lag`` is by how many of them the event loop was late."""
        self._lag = lag if isnan(self._lag) else max(self._lag, lag)
        before, seconds = self._before, now.at - self._before.at
        if seconds < self.ring.interval - TICK / 2:
            return
        sample = {
            "readings_per_second": (now.readings - before.readings) / seconds,
            "messages_per_second": (now.messages - before.messages) / seconds,
            "ack_p50_ms": percentile_ms(before.acks, now.acks, 0.5),
            "ack_p99_ms": percentile_ms(before.acks, now.acks, 0.99),
            "loop_lag_ms": self._lag * 1000,
            "write_p50_ms": percentile_ms(before.writes, now.writes, 0.5),
            **gauges,
        }
        self.ring.add(sample, time.time_ns() // NS_PER_MS)
        self._before, self._lag = now, nan


class Status:
    """The status of one gateway; `start` on the running loop."""

    def __init__(  # noqa: PLR0913 - it sums up what all of these count
        self,
        *,
        active: ActiveConfig,
        metrics: Metrics,
        ledger: Ledger,
        device_ids: DeviceIds,
        spool: SpoolQueue,
        forwarder: Forwarder,
        active_sink: ActiveSink,
        dead_letters: DeadLetters,
        threads: BoundedThreads,
    ) -> None:
        self._active = active
        self._metrics = metrics
        self._ledger = ledger
        self._device_ids = device_ids
        self._spool = spool
        self._forwarder = forwarder
        self._active_sink = active_sink
        self._dead_letters = dead_letters
        self._threads = threads
        self._bytes_per_reading = nan
        """Bytes of the spool per reading that waits there, at the last sample in which any did."""
        self._timer: asyncio.TimerHandle | None = None
        self._counting: asyncio.Future[int] | None = None
        """The count of dead letters that is under way; None if none is."""
        self._dead_letter_count: int | None = None
        """How many dead letters there are; None if they could not be counted."""

    def start(self) -> None:
        """Begin to take samples."""
        now = self._counters()
        self._recent: deque[Counters] = deque([now], maxlen=LATENCY_TICKS + 1)
        self._samplers = [Sampler(Ring(5, 720), now), Sampler(Ring(60, DAY // 60), now)]
        self._count_dead_letters()
        self._wait(now.at + TICK)

    def stop(self) -> None:
        """Take no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _count_dead_letters(self) -> None:
        """Count on a thread, unless the last count is still under way: a replay may delay it."""
        if self._counting is None:
            self._counting = self._threads.submit(self._dead_letters.count)
            self._counting.add_done_callback(self._counted)

    def _counted(self, answer: asyncio.Future[int]) -> None:
        self._counting = None
        if not answer.cancelled():
            self._dead_letter_count = None if answer.exception() else answer.result()

    def _wait(self, due: float) -> None:
        self._timer = asyncio.get_running_loop().call_at(due, self._tick, due)

    def _tick(self, due: float) -> None:
        now = self._counters()
        self._wait(max(due + TICK, now.at))
        self._recent.append(now)
        status = self._spool.status()
        if status.readings_pending:
            self._bytes_per_reading = status.bytes_pending / status.readings_pending
        gauges = {
            "spool_bytes": float(status.bytes_pending),
            "pending": float(status.readings_pending),
            "connected": float(self._metrics.connections.devices),
        }
        self._count_dead_letters()
        lag = max(now.at - due, _value(self._metrics.loop_lag))
        for sampler in self._samplers:
            sampler.tick(now, lag, gauges)

    def _counters(self) -> Counters:
        metrics = self._metrics
        return Counters(
            at=asyncio.get_running_loop().time(),
            messages=_value(metrics.messages),
            readings=self._ledger.total.received,
            acks=buckets(metrics.ack),
            writes=buckets(metrics.write),
        )

    def totals(self, states: Mapping[str, int], viewers: int) -> dict[str, Any]:
        """The state now; ``states`` is how many devices that were heard of are in each of their states."""
        recent = self._recent
        now, before = recent[-1], recent[max(0, len(recent) - 1 - RATE_TICKS)]
        seconds = max(now.at - before.at, TICK)
        readings = (now.readings - before.readings) / seconds
        state, heard_of, known = self._forwarder.state, sum(states.values()), len(self._device_ids.ids())
        offline = known - heard_of + states[OFFLINE]  # with those that are registered and never came
        return {
            "devices": {"known": known, "connected": known - offline, **states, OFFLINE: offline},
            "messages_per_second": round((now.messages - before.messages) / seconds, 3),
            "readings_per_second": round(readings, 3),
            "ledger": self._ledger.total.sums(),
            "spool": self._spool_totals(readings),
            "database": {"name": self._active_sink.current.name, "state": state.name, "reason": state.reason or None},
            "dead_letters": self._dead_letter_count,
            "ack_ms": self._ack(now, recent[0]),
            "viewers": viewers,
        }

    def _spool_totals(self, readings_per_second: float) -> dict[str, Any]:
        """``room_seconds``: how long it lasts at this rate when nothing is delivered; None where that is not known."""
        status, most = self._spool.status(), self._active.config.spool.max_bytes
        grows = readings_per_second * self._bytes_per_reading
        return {
            "bytes": status.bytes_pending,
            "max_bytes": most,
            "readings": status.readings_pending,
            "oldest_seconds": round(status.oldest_seconds, 3),
            "room_seconds": round(max(0, most - status.bytes_pending) / grows) if grows > 0 else None,
        }

    def _ack(self, now: Counters, before: Counters) -> dict[str, float] | None:
        median, most = (percentile_ms(before.acks, now.acks, share) for share in (0.5, 0.99))
        return None if isnan(median) else {"p50": round(median, 3), "p99": round(most, 3)}

    def history(self, seconds: int) -> dict[str, Any]:
        """The last ``seconds``: every 5 s up to an hour, else every minute."""
        fine, coarse = (sampler.ring for sampler in self._samplers)
        return (fine if seconds <= 3600 else coarse).last(seconds)
