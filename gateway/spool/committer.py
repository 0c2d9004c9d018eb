"""Group commit: the entries of a few milliseconds become one record, with one write and one fdatasync.

Rules that hold here:

* The loop thread only adds to a list; one thread of its own encodes, writes and syncs, one record at a time.
* An entry is reported once: in a commit that is on disk, or in a failure. A failed commit fails every queued entry too,
  in order: what a device sent later must not overtake what it has to send again.
"""

from __future__ import annotations

import asyncio
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.ledger import Entry
    from gateway.spool.log import Commit, Log

Item = tuple["Entry", object]

PROBE_SECONDS = 5.0
"""Between two probes of a disk that failed, while no device sends anything that would try it."""


class CommitSink(Protocol):
    """Decides about commits and takes their results. Called on the loop thread."""

    def may_commit(self, size: int) -> bool:
        """Whether about ``size`` bytes may be written now; if not, `Committer.go_on` comes later."""
        ...

    def committed(self, commit: Commit, items: list[Item], seconds: float) -> None:
        """These items are durable."""
        ...

    def commit_failed(self, items: list[Item], error: BaseException) -> None:
        """These items are not durable and never will be."""
        ...


class Committer:
    """Commits to ``log`` at most every ``interval`` seconds.

    Every field belongs to the loop thread. The commit thread runs `_run`, which changes none of them.
    """

    def __init__(self, log: Log, sink: CommitSink, interval: float, clock_ns: Callable[[], int]) -> None:
        self.bytes = 0
        """Bytes that wait or are being written, as the caller of `add` counts them."""
        self._log = log
        self._sink = sink
        self._interval = interval
        self._clock_ns = clock_ns
        self._waiting: list[Item] = []
        """Items of the next commit."""
        self._writing = self._writing_bytes = 0
        """Number and bytes of the items that the commit thread has now."""
        self._due = 0.0
        """Loop time at which the next commit should begin: one interval after its first item came."""
        self._began = 0.0
        """Loop time at which the last commit began."""
        self._busy = False
        """Whether the commit thread has a commit; it has one at a time."""
        self._timer: asyncio.TimerHandle | None = None
        """Calls `go_on` when the next commit is due."""
        self._idle: list[asyncio.Future[None]] = []
        """Calls of `flush` that wait until no commit is under way."""
        self._jobs: SimpleQueue[list[Item] | None] = SimpleQueue()
        """From the loop to the commit thread: the items of a commit; None ends the thread."""
        self._ended = asyncio.Event()
        """Set, on the loop, when the commit thread has ended."""
        self._thread = threading.Thread(target=self._run, name="spool-commit", daemon=True)

    def start(self) -> None:
        """Start the thread; needs the running loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """Commit what waits and end the thread."""
        await self.flush()
        self._jobs.put(None)
        await self._ended.wait()
        self._thread.join()

    async def flush(self) -> None:
        """Return when everything added so far is on disk or has failed."""
        while self._busy or self._waiting:
            done = self._loop.create_future()
            self._idle.append(done)
            self._due = 0.0
            self.go_on()
            await done

    def add(self, entry: Entry, owner: object, size: int) -> None:
        """Put an entry into the next commit."""
        if not self._waiting:
            self._due = self._loop.time() + self._interval
            if not self._busy:
                self._timer = self._loop.call_later(self._interval, self.go_on)
        self._waiting.append((entry, owner))
        self.bytes += size

    @property
    def entries(self) -> int:
        """Number of entries that wait or are being written."""
        return len(self._waiting) + self._writing

    @property
    def seconds(self) -> float:
        """Age of the commit that is being written; 0 without one."""
        return self._loop.time() - self._began if self._busy else 0.0

    def go_on(self) -> None:
        """Start the next commit now, if there is one, the thread is free and the sink allows it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._busy or not self._waiting or not self._sink.may_commit(self.bytes):
            return
        items, self._waiting = self._waiting, []
        self._begin(items)

    def probe(self) -> None:
        """Commit a record without entries, if nothing waits and the last commit began `PROBE_SECONDS` ago or more."""
        idle = not self._busy and not self._waiting
        if idle and self._loop.time() - self._began >= PROBE_SECONDS and self._sink.may_commit(0):
            self._begin([])

    def _begin(self, items: list[Item]) -> None:
        self._busy = True
        self._began = self._loop.time()
        self._writing, self._writing_bytes = len(items), self.bytes
        self._jobs.put(items)

    def fail_waiting(self, error: BaseException) -> None:
        """Fail every waiting entry: there will be no room for them."""
        if not self._busy:
            self._failed([], error)

    def _run(self) -> None:
        while (items := self._jobs.get()) is not None:
            started = time.perf_counter()
            try:
                commit = self._log.append([entry for entry, _ in items], self._clock_ns())
            except Exception as error:  # noqa: BLE001 - whatever went wrong, the devices have to be told
                self._loop.call_soon_threadsafe(self._failed, items, error)
            else:
                seconds = time.perf_counter() - started
                self._loop.call_soon_threadsafe(self._committed, items, commit, seconds)
        self._loop.call_soon_threadsafe(self._ended.set)

    def _committed(self, items: list[Item], commit: Commit, seconds: float) -> None:
        self._busy = False
        self.bytes -= self._writing_bytes
        self._writing = 0
        try:
            self._sink.committed(commit, items, seconds)
        finally:
            self._schedule()

    def _failed(self, items: list[Item], error: BaseException) -> None:
        items += self._waiting
        self._waiting = []
        self._busy = False
        self.bytes = self._writing = 0
        try:
            self._sink.commit_failed(items, error)
        finally:
            self._schedule()

    def _schedule(self) -> None:
        if self._waiting:
            delay = self._due - self._loop.time()
            if delay > 0:
                if self._timer is None:
                    self._timer = self._loop.call_later(delay, self.go_on)
            else:
                self.go_on()
        if not self._busy and self._idle:
            idle, self._idle = self._idle, []
            for done in idle:
                if not done.done():
                    done.set_result(None)
