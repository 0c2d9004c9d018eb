"""The writes under way: sends a pipeline's batches to the database and tells it what became of them.

Rules that hold here:

* Every batch that goes out comes back with an outcome. A sink that raises is an outage, not an end.
* A point is a dead letter when the store has it on disk; while the store fails, the point is written again.
* While the database fails, one batch at a time asks for it, the oldest (see `gateway.delivery.backoff`).
* A write ends at the database it began at. What that one did not take goes to the one that is the sink by then.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from gateway.delivery.backoff import Backoff, BackoffBounds
from gateway.delivery.dead_letters import DeadLetter
from gateway.delivery.write_result import BatchTooLarge, OperatorNeeded, PointRefused, RetryLater, Stored, WriteResult
from gateway.process.threads import WorkerThreads

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.delivery.batch import Batch
    from gateway.delivery.health import Health
    from gateway.delivery.interfaces import Database, DeadLetterStore, ForwarderListener
    from gateway.delivery.pipeline import Pipeline
    from gateway.delivery.progress import PointOrigin

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WriteInFlight:
    """A batch of ``pipeline`` that went to ``sink`` in ``round`` of the backoff.

    ``origin`` is that of its first point if it is not to be cut.
    """

    sink: Database
    pipeline: Pipeline
    batch: Batch
    origin: PointOrigin | None
    round: int


@dataclass(frozen=True, slots=True)
class FinishedWrite:
    """What came back for it, ``seconds`` later."""

    out: WriteInFlight
    outcome: WriteResult
    seconds: float


class Dispatcher:
    """At most ``max_in_flight`` writes at once; ``wake`` is called when one ends. Made on a running loop."""

    def __init__(
        self,
        sink: Database,
        dead_letters: DeadLetterStore,
        listener: ForwarderListener,
        health: Health,
        *,
        bounds: BackoffBounds,
        max_in_flight: int,
        wake: Callable[[], None],
    ) -> None:
        self._sink = sink
        self._dead_letters = dead_letters
        self._listener = listener
        self._health = health
        self._max_in_flight = max_in_flight
        self._wake = wake
        self._backoff = Backoff(bounds)
        self._writers: WorkerThreads[FinishedWrite] = WorkerThreads(max_in_flight, "delivery")
        self._in_flight: set[asyncio.Future[FinishedWrite]] = set()

    def _admits(self, now: float) -> bool:
        in_flight = len(self._in_flight)
        return in_flight < self._max_in_flight and self._backoff.admits(now, in_flight)

    def send_full(self, pipeline: Pipeline) -> None:
        """Send ready batches as far as the backoff and the free writers allow."""
        while pipeline.ready and self._admits(time.monotonic()):
            self._send(pipeline)

    def send_due(self, pipeline: Pipeline) -> None:
        """Likewise, and the batch being assembled when it is due."""
        self.send_full(pipeline)
        now = time.monotonic()
        if pipeline.due <= now and self._admits(now):
            pipeline.flush()
            self.send_full(pipeline)

    def next_at(self, pipeline: Pipeline) -> float:
        """The moment (monotonic seconds) from which something can be sent; infinity before an answer has come."""
        moment = max(0.0 if pipeline.ready else pipeline.due, self._backoff.opens_at)
        return moment if self._admits(moment) else inf

    def settle(self) -> None:
        """Take the answers that have come and tell the pipelines the batches are of."""
        for future in [future for future in self._in_flight if future.done()]:
            self._in_flight.remove(future)
            back = future.result()
            self._listener.wrote(back.out.batch, back.seconds, back.outcome)
            self._apply(back.out, back.outcome)
            self._judge(back.out, back.outcome)

    async def redirect(self, sink: Database) -> None:
        """Write to ``sink`` from now on; returns when the writes under way have ended where they began."""
        before = list(self._in_flight)
        self._sink = sink
        self._backoff.restart()
        self._wake()
        if before:
            await asyncio.wait(before)

    async def drain(self, seconds: float) -> None:
        """Wait for the writes in flight, at most so long."""
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=max(0.0, seconds))

    def close(self) -> None:
        """Let the writers go; writes still under way are abandoned."""
        self._writers.close()

    def _send(self, pipeline: Pipeline) -> None:
        batch = pipeline.take()
        origin = pipeline.origin(batch) if batch.last else None
        out = WriteInFlight(self._sink, pipeline, batch, origin, self._backoff.round)
        future = self._writers.submit(partial(self._write, out))
        future.add_done_callback(lambda _: self._wake())
        self._in_flight.add(future)

    def _write(self, out: WriteInFlight) -> FinishedWrite:
        """Runs in a writer's thread."""
        started = time.monotonic()
        try:
            outcome = out.sink.write(out.batch.lines)
        except Exception as error:
            log.exception("the sink failed on a batch of %d points", out.batch.count)
            outcome = RetryLater("internal", f"{type(error).__name__}: {error}")
        seconds = time.monotonic() - started
        if out.origin is not None and isinstance(outcome, PointRefused | BatchTooLarge):
            outcome = self._keep(out.batch.lines, out.origin, outcome)
        return FinishedWrite(out, outcome, seconds)

    def _keep(self, line: bytes, origin: PointOrigin, refusal: PointRefused | BatchTooLarge) -> WriteResult:
        letter = DeadLetter(
            record_id=origin.record_id,
            line=origin.line,
            committed_ns=origin.committed_ns,
            device=origin.device,
            counted=origin.counted,
            refused_ns=time.time_ns(),
            kind=refusal.kind,
            reason=refusal.reason,
            data=line,
        )
        try:
            self._dead_letters.add(letter)
        except Exception as error:
            text = "a refused point of device %s cannot be kept as a dead letter and waits"
            log.exception(text, origin.device, extra={"device": origin.device})
            return RetryLater("dead_letters", f"dead letters cannot be written: {error}")
        return refusal

    def _apply(self, out: WriteInFlight, outcome: WriteResult) -> None:
        match outcome:
            case Stored():
                out.pipeline.stored(out.batch)
            case RetryLater() | OperatorNeeded():
                out.pipeline.again(out.batch)
            case PointRefused(kind, reason) | BatchTooLarge(kind, reason) if out.origin is not None:
                out.pipeline.dead(out.batch)
                self._listener.dead_letter(kind, out.batch.lines)
                self._health.dead_letter(out.origin.device, kind, reason)
            case PointRefused() | BatchTooLarge():
                out.pipeline.split(out.batch)

    def _judge(self, out: WriteInFlight, outcome: WriteResult) -> None:
        if out.sink is not self._sink:
            return  # what another database answers says nothing about this one
        if isinstance(outcome, RetryLater | OperatorNeeded):
            delay = self._backoff.failed(outcome, out.round, time.monotonic())
            self._health.failing(outcome, delay)
            return
        self._backoff.answered(out.round)
        if not self._backoff.failures:
            self._health.recovered()
