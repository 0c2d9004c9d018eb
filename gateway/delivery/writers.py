"""A few threads for calls that block on a database.

They are daemon threads, unlike those of a ThreadPoolExecutor, which the interpreter waits for at exit: a database that
accepts connections and never answers must not hold up a stop. What such a thread leaves unfinished is written again
after the next start.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Writers(Generic[T]):
    """``count`` threads; made on a running loop, which gets the results."""

    def __init__(self, count: int, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[tuple[Callable[[], T], asyncio.Future[T]] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Run ``call`` on the next free thread; the future carries its result or exception."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._calls.put((call, future))
        return future

    def close(self) -> None:
        """Let the threads end after what they are doing; does not wait for them."""
        for _ in self._threads:
            self._calls.put(None)

    def _work(self) -> None:
        while (job := self._calls.get()) is not None:
            call, future = job
            try:
                settle = partial(future.set_result, call())
            except Exception as error:  # noqa: BLE001 - it is the future's to tell
                settle = partial(future.set_exception, error)
            # The loop is closed when a stop did not wait for this call.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(settle)
            del job, call, future, settle  # a waiting thread must not keep a batch in memory
