"""From the spool to the database: reads records, has them written in batches, moves the cursor.

Rules that hold here:

* Nothing is dropped. A batch that the database cannot take now is written again, the identical bytes, without end. A
  batch that it refuses is halved until the bad point stands alone, and that point is on disk as a dead letter before
  its record is acknowledged.
* The cursor moves over finished records only, in their order. The listener is told of a record right before that.
  Nothing is awaited in between, so that the spool cannot count the same record as dropped.
* A record that the spool has dropped meanwhile (it moved its cursor itself) is not delivered.
* Memory has a bound: about one batch more than may be in flight.
* Writes in flight end in any order. Of two different values for one series and timestamp, sent in different batches,
  either may be the one that stays.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING

from gateway.delivery.backoff import Backoff, BackoffBounds
from gateway.delivery.dispatcher import Dispatcher
from gateway.delivery.health import DatabaseState, Health
from gateway.delivery.pipeline import Pipeline
from gateway.delivery.write_result import RetryLater

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.delivery.interfaces import Database, DeadLetterStore, ForwarderListener, RecordSource, SpooledRecord

log = logging.getLogger(__name__)

BYTES_PER_READING = 200
"""A batch ends at so many bytes per allowed reading: 5,000 readings stay below the 1 MiB that proxies let through."""
READ_INTERVAL = 0.05
"""Seconds between two reads of the spool while a batch fills: a read per group commit would cost more than it gains."""
READS_PER_AGE = 20
"""While a batch fills, the spool is read at least so many times within ``max_age``."""
TIMER_SLACK = 0.001
"""Seconds added to each sleep: uvloop's timers count whole milliseconds; one that ends early has to be set again."""
SLICE_SECONDS = 0.002
"""After so much work on a backlog, the event loop turns to the devices again."""
DEFAULT_BOUNDS = BackoffBounds()


class Forwarder:
    """Delivers from ``source`` to ``sink``. A batch may fill until its oldest record is ``max_age`` seconds old."""

    def __init__(
        self,
        source: RecordSource,
        sink: Database,
        dead_letters: DeadLetterStore,
        *,
        max_readings: int,
        max_age: float,
        max_in_flight: int,
        listener: ForwarderListener,
        bounds: BackoffBounds = DEFAULT_BOUNDS,
    ) -> None:
        self._source = source
        # The database that `run` gives to the dispatcher; `redirect` changes both.
        self._sink = sink
        self._dead_letters = dead_letters
        self._listener = listener
        self._max_readings = max_readings
        self._max_bytes = max_readings * BYTES_PER_READING
        self._max_age = max_age
        self._max_in_flight = max_in_flight
        self._bounds = bounds
        # For failures of the spool and of this module; the dispatcher has its own for the database's.
        self._backoff = Backoff(bounds)
        self._health = Health(lambda: source.status().readings_pending)
        # Set whenever there may be something to do: a write ended, records came, `stop` was called.
        self._wake = asyncio.Event()
        # Set while `run` does not run.
        self._ended = asyncio.Event()
        self._ended.set()
        # Until when (monotonic seconds) writes in flight may go on; infinity until `stop` is called.
        self._stop_at = inf
        # Waits for a durable record after _read_to; None while the spool may have one that is not read yet.
        self._waiting: asyncio.Task[None] | None = None
        # The last record that the listener was told of, and the last one that the spool's cursor has passed.
        self._delivered_to = self._acknowledged_to = 0

    @property
    def state(self) -> DatabaseState:
        """Whether the database takes batches, and why not."""
        return self._health.state

    @property
    def _stopping(self) -> bool:
        return self._stop_at < inf

    async def redirect(self, sink: Database) -> None:
        """Deliver to ``sink`` from now on; returns when no write to the earlier database is in flight any more."""
        self._sink = sink
        await self._dispatcher.redirect(sink)

    async def run(self) -> None:
        """Deliver until `stop` or cancellation. An error of the spool or in this module counts as an outage."""
        self._ended.clear()
        self._dispatcher = Dispatcher(
            self._sink,
            self._dead_letters,
            self._listener,
            self._health,
            bounds=self._bounds,
            max_in_flight=self._max_in_flight,
            wake=self._wake.set,
        )
        self._delivered_to = self._acknowledged_to = self._source.status().cursor
        try:
            while not self._stopping:
                await self._attempt()
        finally:
            self._end_waiting()
            self._dispatcher.close()
            self._ended.set()

    async def stop(self, grace: float) -> None:
        """Start no write, wait ``grace`` seconds for those in flight, acknowledge the delivered records; `run` ends."""
        self._stop_at = time.monotonic() + grace
        self._wake.set()
        await self._ended.wait()

    async def _attempt(self) -> None:
        # After an error, the records not yet delivered are read again, into a new pipeline.
        self._pipeline = Pipeline(self._max_readings, self._max_bytes)
        # The last record in the pipeline.
        self._read_to = self._delivered_to
        # When (monotonic seconds) the spool is read next.
        self._read_at = 0.0
        try:
            await self._deliver()
        except Exception as error:
            log.exception("delivery met an unexpected error and goes on after record %d", self._delivered_to)
            self._end_waiting()
            failure = RetryLater("internal", f"{type(error).__name__}: {error}")
            delay = self._backoff.failed(failure, self._backoff.round, time.monotonic())
            self._health.failing(failure, delay)
            await self._pause(self._backoff.opens_at)

    async def _deliver(self) -> None:
        while not self._stopping:
            self._wake.clear()
            self._dispatcher.settle()
            await self._fill()
            await self._acknowledge()
            if not self._stopping:
                self._dispatcher.send_due(self._pipeline)
            await self._sleep_until_work()
        await self._dispatcher.drain(self._stop_at - time.monotonic())
        self._dispatcher.settle()
        await self._acknowledge()

    async def _sleep_until_work(self) -> None:
        """Sleep until `_wake` is set, a batch is due or the spool can be read; the last two do not set `_wake`."""
        moment = self._dispatcher.next_at(self._pipeline)
        if self._room() and (self._waiting is None or self._waiting.done()):
            moment = min(moment, self._read_at)
        await self._sleep(moment)

    async def _pause(self, until: float) -> None:
        """Sleep until ``until``; only `stop` ends the sleep early."""
        while not self._stopping and time.monotonic() < until:
            self._wake.clear()
            await self._sleep(until)

    async def _sleep(self, until: float) -> None:
        seconds = max(0.0, until - time.monotonic()) + TIMER_SLACK if until < inf else None
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _acknowledge(self) -> None:
        while await self._acknowledge_some():
            pass

    async def _acknowledge_some(self) -> bool:
        """Acknowledge for `SLICE_SECONDS`; whether there may be more to acknowledge."""
        self._forget_dropped()
        more, until = False, time.monotonic() + SLICE_SECONDS
        for record in self._pipeline.progress.take_finished():
            self._delivered_to = record.record_id
            self._listener.delivered(record.record_id, record.entries, record.refused)
            if time.monotonic() >= until:
                more = True
                break
        # No await between `_forget_dropped` and here: the spool must not drop a record that was reported as delivered.
        if self._delivered_to > self._acknowledged_to:
            delivered_to = self._delivered_to
            await self._source.acknowledge(delivered_to)
            self._acknowledged_to = delivered_to
            self._backoff.answered(self._backoff.round)
        return more

    def _forget_dropped(self) -> None:
        cursor = self._source.status().cursor
        if cursor > self._delivered_to:
            self._pipeline.forget(cursor)
            self._delivered_to = self._acknowledged_to = cursor
            self._read_to = max(self._read_to, cursor)

    async def _fill(self) -> None:
        """Read while there is room and something to read; full batches are sent meanwhile."""
        if self._waiting is not None:
            if not self._waiting.done():
                return
            waited, self._waiting = self._waiting, None
            waited.result()
        while not self._stopping and self._room() and time.monotonic() >= self._read_at:
            records = await self._source.read(self._read_to, self._max_bytes)
            if not records:
                self._wait_for_records()
                return
            await self._take(records)

    async def _take(self, records: Sequence[SpooledRecord]) -> None:
        until = time.monotonic() + SLICE_SECONDS
        for record in records:
            self._pipeline.add(record, self._due(record))
            if time.monotonic() >= until:
                await asyncio.sleep(0)
                until = time.monotonic() + SLICE_SECONDS
        self._read_to = records[-1].id
        self._forget_dropped()
        if not self._stopping:
            self._dispatcher.send_full(self._pipeline)

    def _wait_for_records(self) -> None:
        self._read_at = time.monotonic() + min(READ_INTERVAL, self._max_age / READS_PER_AGE)
        self._waiting = asyncio.create_task(self._wait(), name="forwarder-wait")
        self._waiting.add_done_callback(lambda _: self._wake.set())
        if self._pipeline.empty:
            self._health.recovered()

    async def _wait(self) -> None:
        await self._source.wait(self._read_to)

    def _end_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _room(self) -> bool:
        progress = self._pipeline.progress
        batches = self._max_in_flight
        return progress.bytes <= batches * self._max_bytes and progress.entries <= batches * self._max_readings

    def _due(self, record: SpooledRecord) -> float:
        """The moment (monotonic seconds) by which a record has to be written, even after the clock was set back."""
        age = time.time() - record.committed_ns / 1e9
        return time.monotonic() + min(max(self._max_age - age, 0.0), self._max_age)
