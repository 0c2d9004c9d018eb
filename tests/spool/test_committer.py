from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.errors import AppendFailed, SpoolFull
from gateway.ledger import Entry
from gateway.spool.committer import Committer, Item
from gateway.spool.log import Commit, Log
from tests.support.faulty_files import FaultyFiles

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path("/spool")
INTERVAL = 0.02


class SlowLog(Log):
    """A log whose commits wait until they are let through."""

    def __init__(self) -> None:
        super().__init__(FaultyFiles(), HERE, 1 << 20)
        assert list(self.recover(0, 0)) == []
        self.start()
        self.gate = threading.Semaphore(0)
        self.sizes: list[int] = []
        self.error: Exception | None = None

    def append(self, entries: Sequence[Entry], now_ns: int) -> Commit:
        assert self.gate.acquire(timeout=10)
        if self.error:
            raise self.error
        self.sizes.append(len(entries))
        return super().append(entries, now_ns)


class Sink:
    """Remembers what it was told; lets a test wait for that."""

    def __init__(self) -> None:
        self.told: list[tuple[str, list[object]]] = []
        self.allowed = True
        self.news = asyncio.Event()

    def may_commit(self, size: int) -> bool:
        assert size >= 0
        return self.allowed

    def committed(self, commit: Commit, items: list[Item], seconds: float) -> None:
        assert (commit.committed_ns, seconds >= 0) == (123, True)
        self.told.append(("committed", [owner for _, owner in items]))
        self.news.set()

    def commit_failed(self, items: list[Item], error: BaseException) -> None:
        self.told.append((str(error), [owner for _, owner in items]))
        self.news.set()

    async def hear(self) -> None:
        async with asyncio.timeout(10):
            await self.news.wait()
        self.news.clear()


class Case:
    def __init__(self, interval: float = INTERVAL) -> None:
        self.log = SlowLog()
        self.sink = Sink()
        self.committer = Committer(self.log, self.sink, interval, lambda: 123)
        self.committer.start()

    def add(self, *owners: int) -> None:
        for owner in owners:
            self.committer.add(Entry("d"), owner, 10)

    async def end(self) -> None:
        self.log.gate.release(100)
        async with asyncio.timeout(10):
            await self.committer.stop()


def test_entries_within_the_interval_are_one_commit() -> None:
    async def main() -> None:
        case = Case(interval=0.5)  # a busy machine adds the third in time, too
        case.log.gate.release(100)
        started = time.monotonic()
        case.add(1, 2)
        await asyncio.sleep(INTERVAL)
        case.add(3)
        assert case.committer.bytes == 30
        await case.sink.hear()
        assert time.monotonic() - started >= 0.498
        assert case.sink.told == [("committed", [1, 2, 3])]
        assert case.committer.bytes == 0
        await case.end()

    asyncio.run(main())


def test_entries_added_during_a_commit_are_the_next_one_which_begins_when_it_ends() -> None:
    async def main() -> None:
        case = Case()
        case.add(1)
        await asyncio.sleep(2 * INTERVAL)
        case.add(2)
        await asyncio.sleep(2 * INTERVAL)
        case.add(3)
        assert case.sink.told == []
        assert case.committer.bytes == 30
        case.log.gate.release(2)
        await case.sink.hear()
        if len(case.sink.told) == 1:
            await case.sink.hear()
        assert case.sink.told == [("committed", [1]), ("committed", [2, 3])]
        await case.end()

    asyncio.run(main())


def test_it_says_for_how_long_a_commit_has_been_under_way() -> None:
    async def main() -> None:
        case = Case()
        assert case.committer.seconds == 0
        case.add(1)
        await asyncio.sleep(3 * INTERVAL)
        assert INTERVAL < case.committer.seconds < 10
        case.log.gate.release(1)
        await case.sink.hear()
        assert case.committer.seconds == 0
        await case.end()

    asyncio.run(main())


def test_a_commit_that_ends_early_does_not_make_the_next_one_early() -> None:
    async def main() -> None:
        case = Case(interval=0.1)
        started = time.monotonic()
        case.add(1)
        await asyncio.sleep(0.11)
        case.add(2)
        case.log.gate.release(2)
        await case.sink.hear()
        await case.sink.hear()
        assert time.monotonic() - started >= 0.19, "two intervals, but for a tick of the clock"
        assert case.sink.told == [("committed", [1]), ("committed", [2])]
        await case.end()

    asyncio.run(main())


@pytest.mark.parametrize("error", [AppendFailed("no disk"), RuntimeError("no disk")])
def test_a_failure_fails_every_queued_entry_in_order(error: Exception) -> None:
    async def main() -> None:
        case = Case()
        case.log.error = error
        case.add(1, 2)
        await asyncio.sleep(2 * INTERVAL)
        case.add(3)
        case.log.gate.release(1)
        await case.sink.hear()
        assert case.sink.told == [("no disk", [1, 2, 3])]
        assert case.committer.bytes == 0
        case.log.error = None
        case.log.gate.release(1)
        case.add(4)
        await case.sink.hear()
        assert case.sink.told[1:] == [("committed", [4])]
        await case.end()

    asyncio.run(main())


def test_flush_does_not_wait_for_the_interval() -> None:
    async def main() -> None:
        case = Case(interval=60)
        case.log.gate.release(100)
        case.add(1)
        async with asyncio.timeout(10):
            await case.committer.flush()
        assert case.sink.told == [("committed", [1])]
        async with asyncio.timeout(10):
            await case.committer.flush()
        await case.end()

    asyncio.run(main())


def test_flush_returns_when_the_waiting_entries_have_failed() -> None:
    async def main() -> None:
        case = Case(interval=60)
        case.log.error = AppendFailed("no disk")
        case.log.gate.release(100)
        case.add(1)
        async with asyncio.timeout(10):
            await case.committer.flush()
        assert case.sink.told == [("no disk", [1])]
        await case.end()

    asyncio.run(main())


def test_stop_commits_the_waiting_entries_and_ends_the_thread() -> None:
    async def main() -> None:
        case = Case(interval=60)
        case.add(1, 2)
        await case.end()
        assert case.sink.told == [("committed", [1, 2])]
        assert not case.committer._thread.is_alive()

    asyncio.run(main())


def test_a_commit_that_has_to_wait_for_room_begins_when_told_or_is_given_up() -> None:
    async def main() -> None:
        case = Case()
        case.log.gate.release(100)
        case.sink.allowed = False
        case.add(1)
        await asyncio.sleep(2 * INTERVAL)
        assert case.sink.told == []
        case.sink.allowed = True
        case.committer.go_on()
        await case.sink.hear()
        case.sink.allowed = False
        case.add(2)
        case.committer.fail_waiting(SpoolFull("full"))
        assert case.sink.told == [("committed", [1]), ("full", [2])]
        await case.end()

    asyncio.run(main())


def test_the_disk_is_probed_when_nothing_else_tries_it_and_not_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        case = Case()
        case.log.gate.release(100)
        case.add(1)
        case.committer.probe()
        await case.sink.hear()
        case.committer.probe()
        await case.committer.flush()
        assert case.sink.told == [("committed", [1])], "something was tried a moment ago"
        monkeypatch.setattr("gateway.spool.committer.PROBE_SECONDS", 0.0)
        case.sink.allowed = False
        case.committer.probe()
        await case.committer.flush()
        assert case.log.sizes == [1]
        case.sink.allowed = True
        case.committer.probe()
        case.committer.probe()
        await case.committer.flush()
        assert case.log.sizes == [1, 0]
        await case.end()

    asyncio.run(main())


def test_a_listener_that_fails_does_not_stop_the_next_commit() -> None:
    async def main() -> None:
        errors: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))
        case = Case()
        case.log.gate.release(100)
        tell = case.sink.committed

        def fail(commit: Commit, items: list[Item], seconds: float) -> None:
            case.sink.committed = tell  # type: ignore[method-assign]
            case.add(2)
            raise ValueError("a mistake in the listener")

        case.sink.committed = fail  # type: ignore[method-assign]
        case.add(1)
        await case.sink.hear()
        assert case.sink.told == [("committed", [2])]
        assert [str(error) for error in errors] == ["a mistake in the listener"]
        await case.end()

    asyncio.run(main())


def test_stop_does_not_wait_for_the_threads_that_others_use() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        release, busy = threading.Event(), ThreadPoolExecutor(1)
        loop.set_default_executor(busy)
        loop.run_in_executor(None, release.wait)
        case = Case()
        try:
            async with asyncio.timeout(10):
                await case.committer.stop()
        finally:
            release.set()

    asyncio.run(main())
