"""The counts of a run: one `Tally` for all its devices, and the summary made of it.

At every moment, in readings: sent = acked + refused + outstanding. Outstanding readings at the end of a run have no
verdict; the gateway promises that this never happens.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

_GROWTH = math.log(1.02)
MAX_VIOLATION_TEXTS = 20


class Latencies:
    """Durations in buckets 2 % wide, so that memory does not grow with their number."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = 0
        self.longest = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.count += 1
        self.longest = max(self.longest, seconds)
        self._buckets[math.floor(math.log(max(seconds, 1e-6)) / _GROWTH)] += 1

    def percentile(self, share: float) -> float | None:
        """The duration that ``share`` (0 to 1) of all do not exceed, at most 2 % too high; None without durations."""
        wanted, seen = share * self.count, 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                return min(math.exp((bucket + 1) * _GROWTH), self.longest)
        return None


@dataclass(slots=True)
class Tally:
    """Counts of readings, unless a comment says otherwise."""

    sent: int = 0
    history: int = 0
    """Of the time before the run; once sent, they count in ``sent``, too."""
    acked: int = 0
    refused: int = 0
    resent: int = 0
    oversized: int = 0
    """Never sent, because their message exceeds the gateway's limit."""
    held_back: int = 0
    """Not measured, because as many messages were pending as the gateway allows."""
    messages: int = 0
    duplicates: int = 0
    """Messages sent twice on purpose."""
    connects: int = 0
    reconnects: int = 0
    connect_failures: int = 0
    drained: int = 0
    """Drain messages."""
    connected: int = 0
    stopped: int = 0
    lag: float = 0.0
    """Seconds by which the simulator itself was late for a sample, at worst."""
    throttled: Counter[str] = field(default_factory=Counter)
    reject_codes: Counter[str] = field(default_factory=Counter)
    error_codes: Counter[str] = field(default_factory=Counter)
    closes: Counter[str] = field(default_factory=Counter)
    commands: Counter[str] = field(default_factory=Counter)
    """Commands received, by name."""
    settings: int = 0
    """Settings messages received."""
    times: int = 0
    """Answers to requests for the time."""
    ignored: Counter[str] = field(default_factory=Counter)
    violations: int = 0
    violation_texts: list[str] = field(default_factory=list)
    latency: Latencies = field(default_factory=Latencies)

    def violation(self, text: str) -> None:
        """The gateway broke the protocol. Keeps the first `MAX_VIOLATION_TEXTS` texts."""
        self.violations += 1
        if len(self.violation_texts) < MAX_VIOLATION_TEXTS:
            self.violation_texts.append(text)

    def summary(self) -> dict[str, Any]:
        """The counts, JSON-ready; latencies in milliseconds from the first send to the ack."""
        plain = {name: getattr(self, name) for name in _PLAIN}
        counters = {name: dict(getattr(self, name)) for name in _COUNTERS}
        return {**plain, **counters, "latency_ms": self._latencies(), "violation_texts": list(self.violation_texts)}

    def _latencies(self) -> dict[str, float | None]:
        shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
        found = {name: self.latency.percentile(share) for name, share in shares.items()}
        found["max"] = self.latency.longest if self.latency.count else None
        return {name: None if value is None else round(value * 1000, 3) for name, value in found.items()}


_PLAIN = (
    "sent", "history", "acked", "refused", "resent", "oversized", "held_back", "messages", "duplicates", "connects",
    "reconnects", "connect_failures", "drained", "stopped", "settings", "times", "lag", "violations",
)  # fmt: skip
_COUNTERS = ("throttled", "reject_codes", "error_codes", "closes", "commands", "ignored")
