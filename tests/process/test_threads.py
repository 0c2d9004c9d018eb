"""The threads that block on a database."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import weakref

import pytest

from gateway.process.threads import WorkerThreads


def test_calls_run_at_once_as_far_as_there_are_threads() -> None:
    async def main() -> None:
        writers: WorkerThreads[str] = WorkerThreads(2, "w")
        together = threading.Barrier(2)

        def call() -> str:
            together.wait(10)
            return threading.current_thread().name

        async with asyncio.timeout(10):
            names = await asyncio.gather(*(writers.submit(call) for _ in range(4)))
        assert set(names) == {"w-0", "w-1"}
        writers.close()

    asyncio.run(main())


def test_an_exception_is_the_futures() -> None:
    async def main() -> None:
        writers: WorkerThreads[None] = WorkerThreads(1, "w")

        def call() -> None:
            raise OSError("broken")

        with pytest.raises(OSError, match="broken"):
            await writers.submit(call)
        writers.close()

    asyncio.run(main())


def test_a_cancelled_call_is_not_made() -> None:
    async def main() -> None:
        writers: WorkerThreads[str] = WorkerThreads(1, "w")
        begun, release = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def hold() -> str:
            loop.call_soon_threadsafe(begun.set)
            assert release.wait(10)
            return "held"

        made: list[str] = []

        def make(name: str) -> str:
            made.append(name)
            return name

        held = writers.submit(hold)
        async with asyncio.timeout(10):
            await begun.wait()
        left = writers.submit(lambda: make("left"))
        stays = writers.submit(lambda: make("stays"))
        writers.submit(lambda: make("gone")).cancel()
        assert writers.waiting == 2
        left.cancel()
        held.cancel()  # too late for the thread, and its result is nobody's
        release.set()
        async with asyncio.timeout(10):
            assert await stays == "stays"
        assert made == ["stays"]
        writers.close()

    asyncio.run(main(), debug=True)


def test_a_waiting_thread_holds_nothing_of_its_last_call() -> None:
    class Batch:
        pass

    async def main() -> None:
        writers: WorkerThreads[None] = WorkerThreads(1, "w")
        batch = Batch()
        gone = asyncio.Event()
        loop = asyncio.get_running_loop()
        weakref.finalize(batch, lambda: loop.call_soon_threadsafe(gone.set))

        def call(_batch: Batch = batch) -> None:
            pass

        await writers.submit(call)
        del batch, call
        async with asyncio.timeout(10):
            await gone.wait()
        writers.close()

    asyncio.run(main())


def test_threads_end_when_closed() -> None:
    async def main() -> None:
        writers: WorkerThreads[threading.Thread] = WorkerThreads(2, "w")
        thread = await writers.submit(threading.current_thread)
        writers.close()
        thread.join(10)
        assert not thread.is_alive()

    asyncio.run(main())


def test_a_result_after_the_loop_is_closed_is_dropped() -> None:
    release = threading.Event()

    def call() -> threading.Thread:
        assert release.wait(10)
        return threading.current_thread()

    async def main() -> threading.Thread:
        writers: WorkerThreads[threading.Thread] = WorkerThreads(1, "w")
        thread = await writers.submit(threading.current_thread)
        writers.submit(call)
        writers.close()
        return thread

    thread = asyncio.run(main())
    release.set()
    thread.join(10)
    assert not thread.is_alive()


HANGING = """
import asyncio, threading
from gateway.process.threads import WorkerThreads

async def main():
    writers = WorkerThreads(1, "w")
    writers.submit(threading.Event().wait)
    writers.close()

asyncio.run(main())
"""


def test_a_call_that_never_ends_does_not_hold_up_the_exit() -> None:
    done = subprocess.run([sys.executable, "-c", HANGING], timeout=20, check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
