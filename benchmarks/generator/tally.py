"""What the devices saw, as numbers."""

from __future__ import annotations

from array import array
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.generator.link import Link

OPCODES = {0x81: "text", 0x82: "binary", 0x88: "close"}
EXAMPLES = 3


class Tally:
    """Counts of one generator; ``latencies`` (seconds from sending to the ack) since the last `window`."""

    def __init__(self) -> None:
        self.latencies = array("d")
        self.opening = array("d")
        self.acked = 0
        self.acks = 0
        self.last_ack_at = 0.0
        self.pings = 0
        self.failures: Counter[str] = Counter()
        self.throttles: Counter[str] = Counter()
        self.behind: set[Link] = set()
        self._others: Counter[str] = Counter()
        self._examples: list[str] = []

    def throttled(self, link: Link, limit: str) -> None:
        """A device was told to wait, and has messages to send again."""
        self.throttles[limit] += 1
        self.behind.add(link)

    def unexpected(self, first: int, payload: bytes) -> None:
        """A frame that a healthy session does not have."""
        kind = OPCODES.get(first, hex(first))
        if kind == "text":
            kind = payload[:40].decode(errors="replace").split(",")[0]
        self._others[kind] += 1
        if len(self._examples) < EXAMPLES:
            self._examples.append(payload[:200].decode(errors="replace"))

    def window(self) -> dict[str, Any]:
        """Mean and percentiles of the latencies since the last call, in ms."""
        latencies, self.latencies = sorted(self.latencies), array("d")
        found = {"acked": len(latencies), "mean": round(1000 * sum(latencies) / max(1, len(latencies)), 3)}
        return found | {name: percentile(latencies, at) for name, at in PERCENTILES.items()}

    def connecting(self) -> dict[str, Any]:
        """Percentiles of the times from the first packet to an open connection, in ms."""
        ordered = sorted(self.opening)
        return {f"connect_{name}_ms": percentile(ordered, at) for name, at in PERCENTILES.items()}

    def totals(self) -> dict[str, Any]:
        """All counts that do not belong to a window."""
        return {
            "acked_total": self.acked,
            "acks": self.acks,
            "last_ack_at": self.last_ack_at,
            "pings": self.pings,
            "failures": dict(self.failures),
            "throttles": dict(self.throttles),
            "unexpected": dict(self._others),
            "examples": self._examples,
        }


PERCENTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}


def percentile(ordered: list[float], at: float) -> float | None:
    """The value below which the share ``at`` of them lies, in ms, from seconds in order."""
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * at))] * 1000, 3)
