"""Random histories of sending, delivering, failing and crashing, against the promise: what was acknowledged is safe."""

from __future__ import annotations

import asyncio
import errno
import logging
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.support.faulty_files import BYTES_LEFT, NAMES_LEFT, FaultyFiles
from tests.support.spool_world import Process, World, check_recovery

if TYPE_CHECKING:
    from collections.abc import Coroutine

DEVICES = ("a", "b", "c")
LAYOUTS: list[dict[str, Any]] = [
    {"segment_bytes": 500, "max_bytes": 64_000},
    {"segment_bytes": 400, "max_bytes": 4000, "keep_delivered": 3600.0},
    {"segment_bytes": 400, "max_bytes": 3000, "when_full": "drop_oldest"},
    {"segment_bytes": 300, "max_bytes": 3000},
]


class Gateway(RuleBasedStateMachine):
    """A world, a disk and the process that runs on them at the moment."""

    @initialize(layout=st.sampled_from(LAYOUTS))
    def begin(self, layout: dict[str, Any]) -> None:
        logging.disable(logging.CRITICAL)
        self.runner = asyncio.Runner()
        self.world, self.disk, self.layout = World(), FaultyFiles(), layout
        self.start()

    def start(self) -> None:
        self.process = Process(self.world, self.disk, **self.layout)
        try:
            self.process.open()
        except OSError:
            self.process = Process(self.world, self.disk, **self.layout)
            self.process.open()
        self.runner.run(self.serve())

    async def serve(self) -> None:
        self.process.queue.start()
        self.process.connect()

    def end_process(self) -> None:
        """Its threads end; what it does to the disk on the way is undone by what comes next."""
        self.runner.run(self.process.queue.close())

    def work(self, doing: Coroutine[Any, Any, None]) -> None:
        """Do it; if the power went meanwhile, go on with the machine that comes back: nothing drawn depends on that."""

        async def tolerated() -> None:
            try:
                await doing
            except OSError:
                assert self.disk.is_off

        self.runner.run(tolerated())
        if self.disk.is_off:
            self.end_process()
            self.disk = self.disk.after_power_cut(*self.loss)
            self.start()

    @rule(devices=st.lists(st.sampled_from(DEVICES), max_size=4), flush=st.booleans())
    def devices_send(self, devices: list[str], flush: bool) -> None:
        async def work() -> None:
            for device in devices:
                self.world.measure(device)
            self.process.send()
            if flush:
                await self.process.queue.flush()

        self.work(work())

    @rule(max_bytes=st.sampled_from([1, 400, 10_000]), settle=st.booleans())
    def the_database_takes_a_batch(self, max_bytes: int, settle: bool) -> None:
        async def work() -> None:
            await self.process.deliver(max_bytes)
            if settle:
                await self.process.settled()

        self.work(work())

    @rule(after=st.integers(0, 6), error=st.sampled_from([errno.EIO, errno.ENOSPC]), half_done=st.booleans())
    def an_operation_will_fail(self, after: int, error: int, half_done: bool) -> None:
        self.disk.half_done = half_done
        self.disk.failing[len(self.disk.operations) + after] = error

    @rule(
        after=st.integers(0, 12),
        loss=st.tuples(st.sampled_from(BYTES_LEFT), st.sampled_from(NAMES_LEFT), st.integers(0, 3)),
    )
    def the_power_will_go(self, after: int, loss: tuple[str, str, int]) -> None:
        if self.disk.crash_at is None:
            self.loss = loss
            self.disk.crash_at = len(self.disk.operations) + after

    @rule()
    def a_clean_restart(self) -> None:
        async def work() -> None:
            await self.process.queue.close()

        self.work(work())
        self.end_process()
        self.disk.failing.clear()
        self.disk.crash_at = None
        self.start()

    @rule()
    def a_kill(self) -> None:
        killed, survivors = self.disk.after_kill(), self.world.copy()
        self.end_process()
        self.world, self.disk = survivors, killed
        self.start()

    def teardown(self) -> None:
        if not hasattr(self, "runner"):
            return
        self.disk.failing.clear()
        killed, survivors = self.disk.after_kill(), self.world.copy()
        self.end_process()
        for left in "none", "all":
            cut = killed.after_power_cut(left, left, 0)
            self.runner.run(check_recovery(survivors.copy(), cut, **self.layout))
        self.runner.close()
        logging.disable(logging.NOTSET)


TestModel = Gateway.TestCase
TestModel.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
