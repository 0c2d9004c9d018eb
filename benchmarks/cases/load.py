"""What the devices of one case send."""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.generator.orders import Pace

SHORTEST = 1.0
CLOSED_LOOP_MESSAGES = {"reading": 20000, "batch": 4000, "block": 3000}
"""Prepared per device where it sends as fast as it goes: more than any server here takes in the time."""


@dataclass(frozen=True)
class Load:
    """``connections`` devices that send ``form`` for ``seconds``; ``rate`` a second each, or 0: as fast as it goes."""

    connections: int
    form: str
    seconds: float
    rate: float = 0.0
    tls: bool = False
    backlog: int = 0

    @property
    def label(self) -> str:
        """A short text that tells this load from the others of its case."""
        return f"{self.connections:,} connections"

    def scaled(self, connections: float, seconds: float) -> Load:
        """A smaller one for trying things out; the rate per device stays."""
        return replace(
            self,
            connections=max(2, round(self.connections * connections)),
            seconds=max(SHORTEST, self.seconds * seconds),
            backlog=round(self.backlog * seconds),
        )

    def pace(self) -> Pace:
        """The order for the generator."""
        messages = int(self.rate * self.seconds) + 2 if self.rate else CLOSED_LOOP_MESSAGES[self.form]
        return Pace(seconds=self.seconds, messages=messages, rate=self.rate)
