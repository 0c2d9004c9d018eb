"""Histograms of a server's `/metrics`, as far as a benchmark needs them."""

from __future__ import annotations

import urllib.request
from dataclasses import dataclass
from typing import Self


def scrape(port: int) -> str:
    """The page as it is now."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read(), "utf-8")


@dataclass(frozen=True)
class Histogram:
    """Upper bounds of buckets in seconds, each with the number of observations up to it."""

    buckets: tuple[tuple[float, float], ...]

    @classmethod
    def between(cls, before: str, after: str, name: str) -> Self:
        """What was observed between two pages."""
        old = dict(_buckets(before, name))
        return cls(tuple((bound, count - old.get(bound, 0)) for bound, count in _buckets(after, name)))

    def percentile(self, at: float) -> float | None:
        """Milliseconds, interpolated within the bucket as Prometheus does; None without observations."""
        total = self.buckets[-1][1] if self.buckets else 0
        wanted, low, below = total * at, 0.0, 0.0
        for bound, count in self.buckets:
            if total and count >= wanted:
                within = (wanted - below) / (count - below) if count > below else 1.0
                return round((low + (bound - low) * within if bound != float("inf") else low) * 1000, 3)
            low, below = bound, count
        return None


def _buckets(page: str, name: str) -> list[tuple[float, float]]:
    start = f'{name}_bucket{{le="'
    found = (line[len(start) :].split('"} ') for line in page.splitlines() if line.startswith(start))
    return [(float(bound), float(count)) for bound, count in found]
