"""From the spool to the database: reads records, has them written in batches, moves the cursor.

Rules that hold here:

* Nothing is dropped. A batch the database cannot take now is written again, the identical bytes, for ever; one it
  refuses is halved until the bad point stands alone, and that point is on disk as a dead letter before its record
  is acknowledged.
* The cursor moves over finished records only, in their order. The listener hears of a record right before that, with
  nothing awaited in between, so that the spool cannot count the same record as dropped.
* A record the spool dropped meanwhile (its cursor went ahead on its own) is forgotten, not delivered.
* What is held in memory has a bound: about one batch more than may be in flight.
* Batches in flight end in any order. Of two different values for one series and timestamp, sent in different batches,
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
"""A batch ends at this many bytes per allowed reading: 5,000 readings stay below the 1 MiB that proxies let through."""
LOOK_INTERVAL = 0.05
"""Seconds between two looks at the spool while a batch fills: one per group commit would cost more than it brings."""
LOOKS_PER_AGE = 20
"""The same as a part of ``max_age``, where that is short."""
TIMER_SLACK = 0.001
"""Seconds: uvloop's timers count in whole milliseconds, and one that is early would only be set again."""
SLICE = 0.002
"""Seconds of work on a backlog after which the loop gets to see its devices again."""
DEFAULT_BOUNDS = BackoffBounds()


class Forwarder:
    """Delivers from ``source`` to ``sink``. ``max_age`` (seconds from commit) bounds how long a batch waits to fill."""

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
        self._sink = sink
        self._dead_letters = dead_letters
        self._listener = listener
        self._max_readings = max_readings
        self._max_bytes = max_readings * BYTES_PER_READING
        self._max_age = max_age
        self._max_in_flight = max_in_flight
        self._bounds = bounds
        self._backoff = Backoff(bounds)
        self._health = Health(lambda: source.status().readings_pending)
        self._wake = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()
        self._stop_at = inf
        self._waiting: asyncio.Task[None] | None = None
        self._delivered_to = self._acknowledged_to = 0

    @property
    def state(self) -> DatabaseState:
        """How delivery is doing."""
        return self._health.state

    @property
    def _stopping(self) -> bool:
        return self._stop_at < inf

    async def redirect(self, sink: Database) -> None:
        """Deliver to ``sink`` from now on; returns when no write to the one before is under way any more."""
        self._sink = sink
        await self._dispatcher.redirect(sink)

    async def run(self) -> None:
        """Deliver until `stop` or cancellation. Errors of the spool, and mistakes in here, are outages like others."""
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
        """Start no more writes, give those in flight ``grace`` seconds, acknowledge what finished; `run` returns."""
        self._stop_at = time.monotonic() + grace
        self._wake.set()
        await self._ended.wait()

    async def _attempt(self) -> None:
        # After an error all records not yet delivered are read again; the pipeline they were in is nobody's any more.
        self._pipeline = Pipeline(self._max_readings, self._max_bytes)
        self._read_to = self._delivered_to
        self._look_at = 0.0
        try:
            await self._deliver()
        except Exception as error:
            log.exception("delivery met an unexpected error and goes on after record %d", self._delivered_to)
            self._end_waiting()
            trouble = RetryLater("internal", f"{type(error).__name__}: {error}")
            delay = self._backoff.failed(trouble, self._backoff.round, time.monotonic())
            self._health.failing(trouble, delay)
            await self._pause(self._backoff.opens_at)

    async def _deliver(self) -> None:
        while not self._stopping:
            self._wake.clear()
            self._dispatcher.settle()
            await self._fill()
            await self._acknowledge()
            if not self._stopping:
                self._dispatcher.send_due(self._pipeline)
            await self._rest()
        await self._dispatcher.drain(self._stop_at - time.monotonic())
        self._dispatcher.settle()
        await self._acknowledge()

    async def _rest(self) -> None:
        """Until something happened, or can be done that nothing will announce."""
        moment = self._dispatcher.next_at(self._pipeline)
        if self._room() and (self._waiting is None or self._waiting.done()):
            moment = min(moment, self._look_at)
        await self._sleep(moment)

    async def _pause(self, until: float) -> None:
        """Sleep whatever happens, except a stop."""
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
        """A slice of it; whether there may be more."""
        self._forget_dropped()
        more, until = False, time.monotonic() + SLICE
        for record in self._pipeline.progress.done():
            self._delivered_to = record.record_id
            self._listener.delivered(record.record_id, record.entries, record.refused)
            if time.monotonic() >= until:
                more = True
                break
        # Nothing may be waited for in between: what is reported as delivered must not be dropped meanwhile.
        if self._delivered_to > self._acknowledged_to:
            upto = self._delivered_to
            await self._source.acknowledge(upto)
            self._acknowledged_to = upto
            self._backoff.answered(self._backoff.round)
        return more

    def _forget_dropped(self) -> None:
        cursor = self._source.status().cursor
        if cursor > self._delivered_to:
            self._pipeline.forget(cursor)
            self._delivered_to = self._acknowledged_to = cursor
            self._read_to = max(self._read_to, cursor)

    async def _fill(self) -> None:
        """Read while there is room and something to read; full batches go out meanwhile."""
        if self._waiting is not None:
            if not self._waiting.done():
                return
            waited, self._waiting = self._waiting, None
            waited.result()
        while not self._stopping and self._room() and time.monotonic() >= self._look_at:
            records = await self._source.read(self._read_to, self._max_bytes)
            if not records:
                self._wait_for_records()
                return
            await self._take(records)

    async def _take(self, records: Sequence[SpooledRecord]) -> None:
        until = time.monotonic() + SLICE
        for record in records:
            self._pipeline.add(record, self._due(record))
            if time.monotonic() >= until:
                await asyncio.sleep(0)
                until = time.monotonic() + SLICE
        self._read_to = records[-1].id
        self._forget_dropped()
        if not self._stopping:
            self._dispatcher.send_full(self._pipeline)

    def _wait_for_records(self) -> None:
        self._look_at = time.monotonic() + min(LOOK_INTERVAL, self._max_age / LOOKS_PER_AGE)
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
        """The moment by which a record has to be written; a clock that was set back does not put it off for long."""
        age = time.time() - record.committed_ns / 1e9
        return time.monotonic() + min(max(self._max_age - age, 0.0), self._max_age)
