"""A change of the database: a write ends where it began, all others go to the new database."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.delivery.backoff import BackoffBounds
from gateway.delivery.write_result import OperatorNeeded
from tests.support.delivery import WAIT, Bench, ScriptedDatabase, entry, line

if TYPE_CHECKING:
    import pytest


def test_writes_in_flight_end_at_the_old_database_and_all_others_go_to_the_new_one() -> None:
    async def main() -> None:
        bench, new = Bench(max_readings=1, max_in_flight=2), ScriptedDatabase()
        bench.database.gate.clear()
        points = bench.fill(records=10)
        async with bench.running():
            await bench.database.until(lambda: bench.database.at_once == 2)
            redirecting = asyncio.create_task(bench.forwarder.redirect(new))
            await asyncio.sleep(0)
            assert not redirecting.done()
            bench.database.gate.set()
            async with asyncio.timeout(WAIT):
                await redirecting
            assert bench.database.at_once == 0
            await bench.source.emptied()
        assert bench.database.lines == sorted(points[:2])
        assert new.lines == sorted(points[2:])
        assert bench.source.ledger.total.stored == 10

    asyncio.run(main())


def test_batches_that_the_old_database_does_not_take_go_to_the_new_one(caplog: pytest.LogCaptureFixture) -> None:
    """Their failure does not count for the new database: it would have to wait, and be logged as failing."""

    async def main() -> None:
        patient = BackoffBounds(first=0.0, max_delay=0.0, max_retry_after=0.0, operator_needed=3600.0)
        bench, new = Bench(OperatorNeeded("unauthorized", "no"), bounds=patient, max_in_flight=1), ScriptedDatabase()
        bench.database.gate.clear()
        points = bench.fill(records=3)
        async with bench.running():
            await bench.database.until(lambda: bench.database.at_once == 1)
            redirecting = asyncio.create_task(bench.forwarder.redirect(new))
            await asyncio.sleep(0)
            bench.database.gate.set()
            async with asyncio.timeout(WAIT):
                await redirecting
            await bench.source.emptied()
        assert bench.database.lines == []
        assert new.lines == sorted(points)
        assert caplog.text == ""

    asyncio.run(main())


def test_a_redirect_ends_the_backoff_for_the_old_database() -> None:
    async def main() -> None:
        bounds = BackoffBounds(first=3600.0, max_delay=3600.0, max_retry_after=3600.0, operator_needed=3600.0)
        bench, new = Bench(*[OperatorNeeded("unauthorized", "no")] * 3, bounds=bounds), ScriptedDatabase()
        points = bench.fill(records=1)
        async with bench.running():
            await bench.database.until(lambda: len(bench.database.writes) == 1)
            async with asyncio.timeout(WAIT):
                await bench.witness.wrote_one.wait()
                await bench.forwarder.redirect(new)
            await bench.source.emptied()
            assert bench.forwarder.state.name == "delivering"
            bench.source.append(entry("b", more := line("b", 1)))
            await bench.source.emptied()
        assert new.lines == sorted([*points, more])

    asyncio.run(main())
