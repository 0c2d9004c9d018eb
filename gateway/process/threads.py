"""Threads for calls that block, on a database or a file.

They are daemon threads. The interpreter waits at exit for those of a ThreadPoolExecutor, but a database that accepts
connections and never answers must not hold up a stop. A write that such a thread leaves unfinished is repeated after
the next start.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class WorkerThreads(Generic[T]):
    """``count`` threads; made on a running loop, which gets the results."""

    def __init__(self, count: int, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls: deque[tuple[Callable[[], T], asyncio.Future[T]] | None] = deque()
        """Calls that wait for a thread, each with the future of its result; None ends one thread."""
        self._changed = threading.Condition()
        """Guards `_calls`; notified when one is added."""
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """How many calls no thread has begun. Calls whose future was cancelled are dropped."""
        with self._changed:
            self._calls = deque(job for job in self._calls if job is None or not job[1].cancelled())
            return len(self._calls)

    def submit(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Run ``call`` on the next free thread; the future carries its result or exception.

        A call whose future is cancelled before a thread is free is never made.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        self._put((call, future))
        return future

    def close(self) -> None:
        """Let each thread end after its call; does not wait for them."""
        for _ in self._threads:
            self._put(None)

    def _put(self, job: tuple[Callable[[], T], asyncio.Future[T]] | None) -> None:
        with self._changed:
            self._calls.append(job)
            self._changed.notify()

    def _take(self) -> tuple[Callable[[], T], asyncio.Future[T]] | None:
        with self._changed:
            while not self._calls:
                self._changed.wait()
            return self._calls.popleft()

    def _work(self) -> None:
        while (job := self._take()) is not None:
            call, future = job
            if not future.cancelled():
                settle = partial(_settle, future, _outcome(call))
                # The loop is closed when a stop did not wait for this call.
                with suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(settle)
                del settle
            del job, call, future  # a waiting thread must not keep a batch in memory


class BoundedThreads(WorkerThreads[Any]):
    """Threads for the calls of clients, of which at most ``max_waiting`` may wait for a thread."""

    def __init__(self, count: int, name: str, max_waiting: int) -> None:
        super().__init__(count, name)
        self.max_waiting = max_waiting

    @property
    def full(self) -> bool:
        """Whether no other call may wait."""
        return self.waiting >= self.max_waiting


def _outcome(call: Callable[[], T]) -> Callable[[asyncio.Future[T]], None]:
    try:
        result = call()
    except Exception as error:  # noqa: BLE001 - the future carries it to the caller
        failure = error
        return lambda future: future.set_exception(failure)
    return lambda future: future.set_result(result)


def _settle(future: asyncio.Future[T], outcome: Callable[[asyncio.Future[T]], None]) -> None:
    if not future.cancelled():
        outcome(future)
