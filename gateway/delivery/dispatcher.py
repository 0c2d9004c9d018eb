"""The writes in flight: sends a pipeline's batches to the database and reports the results to the pipeline.

Rules that hold here:

* Every batch that is sent gets a result. An exception of a sink counts as an outage; delivery goes on.
* A point counts as a dead letter once the store has it on disk. While the store fails, the point is written again.
* While the database fails, one batch at a time is sent to test it, the oldest (see `gateway.delivery.backoff`).
* A write ends at the database at which it began. A batch that this database did not take goes to the current sink.
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
    """A batch of ``pipeline`` that was sent to ``sink`` in ``round`` of the backoff.

    ``origin`` is where its first point came from if the batch is indivisible, else None.
    """

    sink: Database
    pipeline: Pipeline
    batch: Batch
    origin: PointOrigin | None
    round: int


@dataclass(frozen=True, slots=True)
class FinishedWrite:
    """A write and its result, ``seconds`` after it started."""

    write: WriteInFlight
    result: WriteResult
    seconds: float


class Dispatcher:
    """At most ``max_in_flight`` writes at once; calls ``wake`` when one ends. Made on a running loop."""

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
        # The database that new writes go to; `redirect` changes it.
        self._sink = sink
        self._dead_letters = dead_letters
        self._listener = listener
        self._health = health
        self._max_in_flight = max_in_flight
        self._wake = wake
        self._backoff = Backoff(bounds)
        self._writers: WorkerThreads[FinishedWrite] = WorkerThreads(max_in_flight, "delivery")
        # Includes the writes that have ended, until `settle` has taken their results.
        self._in_flight: set[asyncio.Future[FinishedWrite]] = set()

    def _admits(self, now: float) -> bool:
        in_flight = len(self._in_flight)
        return in_flight < self._max_in_flight and self._backoff.admits(now, in_flight)

    def send_full(self, pipeline: Pipeline) -> None:
        """Send ready batches as far as the backoff and the free writers allow."""
        while pipeline.ready and self._admits(time.monotonic()):
            self._send(pipeline)

    def send_due(self, pipeline: Pipeline) -> None:
        """As `send_full`, and send the batch that is being assembled if it is due."""
        self.send_full(pipeline)
        now = time.monotonic()
        if pipeline.due <= now and self._admits(now):
            pipeline.flush()
            self.send_full(pipeline)

    def next_at(self, pipeline: Pipeline) -> float:
        """The moment (monotonic seconds) from which a batch can be sent; infinity if a result has to come first."""
        moment = max(0.0 if pipeline.ready else pipeline.due, self._backoff.opens_at)
        return moment if self._admits(moment) else inf

    def settle(self) -> None:
        """Take the results of ended writes and report them to the pipelines that the batches are from."""
        for future in [future for future in self._in_flight if future.done()]:
            self._in_flight.remove(future)
            finished = future.result()
            write, result = finished.write, finished.result
            self._listener.wrote(write.batch, finished.seconds, result)
            self._apply(write, result)
            self._adjust_backoff(write, result)

    async def redirect(self, sink: Database) -> None:
        """Send to ``sink`` from now on; returns when the writes in flight have ended at the earlier database."""
        before = list(self._in_flight)
        self._sink = sink
        self._backoff.restart()
        self._wake()
        if before:
            await asyncio.wait(before)

    async def drain(self, seconds: float) -> None:
        """Wait for the writes in flight, at most ``seconds``."""
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=max(0.0, seconds))

    def close(self) -> None:
        """End the writers; writes still in flight are abandoned."""
        self._writers.close()

    def _send(self, pipeline: Pipeline) -> None:
        batch = pipeline.take()
        origin = pipeline.origin(batch) if batch.indivisible else None
        write = WriteInFlight(self._sink, pipeline, batch, origin, self._backoff.round)
        future = self._writers.submit(partial(self._run, write))
        future.add_done_callback(lambda _: self._wake())
        self._in_flight.add(future)

    def _run(self, write: WriteInFlight) -> FinishedWrite:
        """Runs in a writer's thread."""
        started = time.monotonic()
        try:
            result = write.sink.write(write.batch.lines)
        except Exception as error:
            log.exception("the sink failed on a batch of %d points", write.batch.count)
            result = RetryLater("internal", f"{type(error).__name__}: {error}")
        seconds = time.monotonic() - started
        if write.origin is not None and isinstance(result, PointRefused | BatchTooLarge):
            result = self._keep(write.batch.lines, write.origin, result)
        return FinishedWrite(write, result, seconds)

    def _keep(self, line: bytes, origin: PointOrigin, refusal: PointRefused | BatchTooLarge) -> WriteResult:
        """Keep a refused point as a dead letter; `RetryLater` instead of ``refusal`` if that fails."""
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

    def _apply(self, write: WriteInFlight, result: WriteResult) -> None:
        match result:
            case Stored():
                write.pipeline.stored(write.batch)
            case RetryLater() | OperatorNeeded():
                write.pipeline.again(write.batch)
            case PointRefused(kind, reason) | BatchTooLarge(kind, reason) if write.origin is not None:
                write.pipeline.dead(write.batch)
                self._listener.dead_letter(kind, write.batch.lines)
                self._health.dead_letter(write.origin.device, kind, reason)
            case PointRefused() | BatchTooLarge():
                write.pipeline.split(write.batch)

    def _adjust_backoff(self, write: WriteInFlight, result: WriteResult) -> None:
        if write.sink is not self._sink:
            return  # the result of another database says nothing about this one
        if isinstance(result, RetryLater | OperatorNeeded):
            delay = self._backoff.failed(result, write.round, time.monotonic())
            self._health.failing(result, delay)
            return
        self._backoff.answered(write.round)
        if not self._backoff.failures:
            self._health.recovered()
