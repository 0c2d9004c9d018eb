"""The harness's end of the generator's pipes."""

from __future__ import annotations

import select
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson

from benchmarks.harness.process import Child

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.generator.orders import Pace, Target


class GeneratorError(Exception):
    """The generator ended, or did not answer in time."""


class Driver(Child):
    """A generator process: sends it orders and reads its events."""

    def __init__(self, core: int | None, log: Path) -> None:
        super().__init__([sys.executable, "-m", "benchmarks.generator"], core=core, log=log, pipes=True)
        self._pending = b""

    def connect(self, target: Target, seconds: float) -> dict[str, Any]:
        """Connect all devices.

        Raises:
            GeneratorError: not all devices got their welcome.
        """
        self.order("connect", **asdict(target))
        connected = self.await_event("connected", seconds)
        if connected["links"] != target.connections:
            raise GeneratorError(
                f"{connected['links']} of {target.connections} devices connected: {connected['failures']}"
            )
        return connected

    def go(self, pace: Pace) -> float:
        """Begin to send; the moment of the first message, by the monotonic clock."""
        self.order("go", **asdict(pace))
        return float(self.await_event("started", 120)["at"])

    def ask(self, order: str, answer: str, seconds: float = 60) -> dict[str, Any]:
        """An order that is answered at once or after a while."""
        self.order(order)
        return self.await_event(answer, seconds)

    def order(self, order: str, **facts: Any) -> None:
        """Send an order."""
        assert self.process.stdin is not None
        self.process.stdin.write(orjson.dumps({"order": order, **facts}) + b"\n")
        self.process.stdin.flush()

    def await_event(self, name: str, seconds: float) -> dict[str, Any]:
        """The next event of that name; an unexpected ``sent`` is skipped."""
        while True:
            event: dict[str, Any] = orjson.loads(self._line(seconds))
            said = event.pop("event")
            if said == name:
                return event
            if said != "sent":
                raise GeneratorError(f"expected {name}, got {said}: {event}")

    def _line(self, seconds: float) -> bytes:
        assert self.process.stdout is not None
        deadline = time.monotonic() + seconds
        while b"\n" not in self._pending:
            readable, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            data = self.process.stdout.read1(65536) if readable else b""  # type: ignore[attr-defined]
            if not data:
                raise GeneratorError(f"the generator said nothing within {seconds} s:\n{self.tail()}")
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        return line
