"""The forwarder against a spool in memory and a database that follows a script."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from typing import Any

import pytest

from gateway.delivery.backoff import BackoffBounds
from gateway.delivery.forwarder import BYTES_PER_READING, READ_INTERVAL
from gateway.delivery.progress import Progress
from gateway.delivery.write_result import OperatorNeeded, RetryLater, WriteResult
from tests.support.delivery import WAIT, Bench, entry, line

DOWN = RetryLater("unreachable", "connection refused")


def test_every_point_arrives_in_batches_of_the_configured_size() -> None:
    async def main() -> None:
        bench = Bench(max_readings=10)
        points = bench.fill(records=25, per_record=2)
        await bench.delivered()
        assert bench.database.lines == sorted(points)
        assert [batch.count(b"\n") for batch in bench.database.writes] == [10] * 5
        assert bench.witness.delivered_ids == list(range(1, 26))
        assert bench.source.ledger.total.pending == 0

    asyncio.run(main())


def test_a_batch_that_does_not_fill_is_sent_at_max_age() -> None:
    async def main() -> None:
        bench = Bench(max_age=1.0)  # long enough for a busy machine to append the second record in time
        async with bench.running():
            begun = time.monotonic()
            bench.source.append(entry("a", line("a", 1)), committed_ns=time.time_ns())
            await asyncio.sleep(0.1)
            bench.source.append(entry("a", line("a", 2)), committed_ns=time.time_ns())
            await bench.source.emptied()
            assert 0.99 < time.monotonic() - begun < 5
        assert bench.database.writes == [line("a", 1) + line("a", 2)]

    asyncio.run(main())


def test_a_full_batch_does_not_wait_for_the_age() -> None:
    async def main() -> None:
        bench = Bench(max_age=3600.0, max_readings=2)
        async with bench.running():
            for number in range(4):
                bench.source.append(entry("a", line("a", number)), committed_ns=time.time_ns())
                await asyncio.sleep(0.001)
            await bench.source.emptied()

    asyncio.run(main())


def test_records_from_a_clock_ahead_are_sent_on_time() -> None:
    async def main() -> None:
        bench = Bench(max_age=0.05)
        bench.source.append(entry("a", line("a", 1)), committed_ns=time.time_ns() + 3600 * 10**9)
        await bench.delivered()

    asyncio.run(main())


def test_records_without_points_are_acknowledged_without_a_write() -> None:
    async def main() -> None:
        bench = Bench()
        bench.source.append(entry("a", duplicate=2))
        await bench.delivered()
        assert bench.database.writes == []
        assert bench.witness.delivered_ids == [1]

    asyncio.run(main())


def test_one_acknowledgement_covers_many_records() -> None:
    async def main() -> None:
        bench = Bench()
        bench.fill(records=100)
        await bench.delivered()
        assert bench.source.acknowledged == [100]

    asyncio.run(main())


def test_after_an_outage_the_identical_batch_is_written() -> None:
    async def main() -> None:
        bench = Bench(*[DOWN] * 20)
        points = bench.fill(records=3)
        await bench.delivered()
        assert bench.database.writes == [b"".join(points)] * 21
        assert bench.source.acknowledged == [3]
        assert bench.forwarder.state.name == "delivering"

    asyncio.run(main())


def test_while_the_database_fails_one_write_at_a_time_tests_it() -> None:
    async def main() -> None:
        bench = Bench(*[DOWN] * 40, max_readings=1, max_in_flight=4)
        points = bench.fill(records=20)
        await bench.delivered()
        tests = bench.database.writes[4:40]
        assert set(tests) == {points[0]}, "the oldest batch tests the database, the others wait"
        assert bench.database.lines == sorted(points)

    asyncio.run(main())


def test_several_batches_are_in_flight() -> None:
    async def main() -> None:
        bench = Bench(max_readings=1, max_in_flight=3)
        bench.database.gate.clear()
        bench.fill(records=10)
        async with bench.running():
            await bench.database.until(lambda: bench.database.at_once == 3)
            bench.database.gate.set()
            await bench.source.emptied()
        assert bench.database.max_at_once == 3

    asyncio.run(main())


def test_the_cursor_waits_for_the_oldest_record_and_reads_wait_for_the_cursor() -> None:
    """A write that hangs holds up the cursor, and with it further reads, but no other batch."""

    async def main() -> None:
        bench = Bench(max_readings=4, max_in_flight=2)
        bench.fill(records=100, per_record=4)
        release, write = asyncio.Event(), bench.database.write
        loop = asyncio.get_running_loop()

        def stalling(lines: bytes) -> WriteResult:
            if line("a", 0) in lines:
                asyncio.run_coroutine_threadsafe(asyncio.wait_for(release.wait(), WAIT), loop).result()
            return write(lines)

        bench.database.write = stalling  # type: ignore[method-assign]
        async with bench.running():
            await bench.database.until(lambda: len(bench.database.writes) >= 2)
            assert bench.witness.delivered_ids == bench.source.acknowledged == []
            release.set()
            await bench.source.emptied()
        assert 0 < bench.source.max_unacknowledged <= 3 * 4 * BYTES_PER_READING
        assert bench.source.acknowledged == sorted(bench.source.acknowledged)
        assert bench.witness.delivered_ids == list(range(1, 101))

    asyncio.run(main())


def test_retry_after_is_followed() -> None:
    async def main() -> None:
        bench = Bench(
            RetryLater("overloaded", "503", after=0.2),
            bounds=BackoffBounds(first=0.0, max_delay=0.0, max_retry_after=1.0),
        )
        bench.fill(records=1)
        begun = time.monotonic()
        await bench.delivered()
        assert time.monotonic() - begun >= 0.2

    asyncio.run(main())


@pytest.mark.parametrize("partial", [True, False])
@pytest.mark.parametrize("position", [0, 1, 2499, 2500, 4998, 4999])
def test_a_poison_point_in_five_thousand_costs_few_writes(partial: bool, position: int) -> None:
    async def main() -> None:
        bench = Bench(partial=partial)
        points = bench.fill(records=50, per_record=100)
        bench.database.poison = {points[position]}
        await bench.delivered()
        assert len(bench.database.writes) <= 31
        assert bench.dead_letters.lines == [points[position]]
        assert bench.database.lines == sorted(set(points) - bench.database.poison)
        (letter,) = bench.dead_letters.letters.values()
        assert (letter.record_id, letter.line) == (1 + position // 100, position % 100)
        assert letter.reason == "partial write: field type conflict dropped=1"
        assert bench.witness.dead == {"bad_request": 1}
        assert bench.source.ledger.total.sums() == {
            "received": 5000,
            "stored": 4999,
            "duplicate": 0,
            "rejected": 1,
            "dropped": 0,
            "pending": 0,
            "gaps": 0,
        }

    asyncio.run(main())


def test_a_batch_too_large_is_cut_and_a_point_too_large_becomes_a_dead_letter() -> None:
    async def main() -> None:
        bench = Bench()
        points = bench.fill(records=8)
        huge = b'telemetry,device=a s="' + b"x" * 1000 + b'" 77\n'
        bench.source.append(entry("a", huge))
        bench.database.max_bytes = 3 * len(points[0])
        await bench.delivered()
        assert bench.database.lines == sorted(points)
        assert bench.dead_letters.lines == [huge]
        assert bench.witness.dead == {"too_large": 1}

    asyncio.run(main())


@pytest.mark.parametrize("max_readings", [5000, 1])
def test_a_refused_batch_that_cannot_be_cut_is_one_dead_letter(max_readings: int) -> None:
    async def main() -> None:
        bench = Bench(max_readings=max_readings, partial=False)
        bench.witness.wrote = lambda *_: None  # type: ignore[method-assign] - counts the newlines
        first, second = b'm s="no end 1\n', b"m\nx=1 2\n"
        bench.source.append(entry("a", first, second))
        bench.database.poison = {first}
        after = bench.fill(records=1, device="b") if max_readings == 1 else []
        await bench.delivered()
        assert bench.dead_letters.lines == [first + second]
        assert bench.witness.dead == {"bad_request": 1}
        assert set(bench.database.lines) >= set(after)
        sums = bench.source.ledger.total.sums()
        assert (sums["rejected"], sums["stored"], sums["pending"]) == (2, len(after), 0)

    asyncio.run(main())


def test_a_dead_letter_is_on_disk_before_its_record_is_acknowledged() -> None:
    async def main() -> None:
        bench = Bench()
        points = bench.fill(records=1)
        bench.database.poison = set(points)
        bench.dead_letters.faults = [sqlite3.OperationalError("database or disk is full"), OSError("no space left")]
        kept_at_acknowledge = []
        acknowledge = bench.source.acknowledge

        async def recording(record_id: int) -> None:
            kept_at_acknowledge.append(bench.dead_letters.lines)
            await acknowledge(record_id)

        bench.source.acknowledge = recording  # type: ignore[method-assign]
        await bench.delivered()
        assert kept_at_acknowledge == [points]
        assert len(bench.database.writes) == 3
        retries = [result.kind for result in bench.witness.results if isinstance(result, RetryLater)]
        assert retries == ["dead_letters"] * 2
        assert bench.witness.dead == {"bad_request": 1}

    asyncio.run(main())


def test_a_sink_that_raises_is_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        bench = Bench(ZeroDivisionError("a bug"))
        points = bench.fill(records=1)
        await bench.delivered()
        assert bench.database.lines == points
        assert bench.witness.results[0] == RetryLater("internal", "ZeroDivisionError: a bug")

    asyncio.run(main())
    assert "Traceback" in caplog.text


@pytest.mark.parametrize(
    ("result", "name"), [(OperatorNeeded("unauthorized", "authorization failed"), "held"), (DOWN, "retrying")]
)
def test_the_state_shows_the_failure_and_the_log_its_end(
    result: OperatorNeeded | RetryLater, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def main() -> None:
        bench = Bench(result, bounds=BackoffBounds(first=0.4, operator_needed=0.2))
        bench.fill(records=7)
        async with bench.running():
            async with asyncio.timeout(WAIT):
                await bench.witness.wrote_one.wait()
            assert bench.forwarder.state.name == name
            assert bench.forwarder.state.kind == result.kind
            assert bench.forwarder.state.reason == result.reason
            await bench.source.emptied()
            assert bench.forwarder.state.name == "delivering"

    asyncio.run(main())
    assert f"({result.kind}): {result.reason}" in caplog.text
    assert "7 readings waited" in caplog.text


@pytest.mark.parametrize("method", ["read", "wait", "acknowledge"])
def test_errors_of_the_spool_do_not_end_delivery(method: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        bench = Bench()
        bench.source.faults[method] = [OSError("input/output error"), OSError("input/output error")]
        points = bench.fill(records=2)
        async with bench.running():
            await bench.source.emptied()
            points += bench.fill(records=2)
            await bench.source.emptied()
            async with asyncio.timeout(WAIT):
                await bench.source.until(lambda: bench.source.idle and not bench.source.faults[method])
            assert bench.forwarder.state.name == "delivering"
        assert bench.database.lines == sorted(points)
        assert bench.witness.delivered_ids == [1, 2, 3, 4], "each once"
        assert bench.source.acknowledged[-1] == 4

    asyncio.run(main())
    assert "Traceback" in caplog.text


def test_a_failure_is_over_when_nothing_is_left_to_deliver() -> None:
    async def main() -> None:
        bench = Bench()
        bench.source.faults["wait"] = [OSError("input/output error")]
        async with bench.running(), asyncio.timeout(WAIT):
            await bench.source.until(lambda: bench.source.idle)
            assert bench.forwarder.state.name == "delivering"

    asyncio.run(main())


def test_a_listener_that_fails_is_told_of_the_next_records(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        bench = Bench(max_readings=1, max_in_flight=1)
        bench.fill(records=3)
        heard = bench.witness.delivered

        def failing(record_id: int, *rest: Any) -> None:
            if record_id == 2:
                raise ValueError("a bug")
            heard(record_id, *rest)

        bench.witness.delivered = failing  # type: ignore[assignment,method-assign]
        await bench.delivered()
        assert bench.witness.delivered_ids == [1, 3]
        assert bench.source.acknowledged[-1] == 3

    asyncio.run(main())
    assert "ValueError: a bug" in caplog.text


def test_missing_ids_are_skipped() -> None:
    async def main() -> None:
        bench = Bench()
        bench.source.append(entry("a", line("a", 1)))
        bench.source.append(entry("a", line("a", 2)), skip_ids=7)
        await bench.delivered()
        assert bench.witness.delivered_ids == [1, 9]
        assert bench.source.ledger.total.pending == 0

    asyncio.run(main())


def test_records_that_the_spool_drops_meanwhile_are_not_delivered() -> None:
    async def main() -> None:
        bench = Bench(DOWN, max_readings=4, max_in_flight=1)
        points = bench.fill(records=12)
        bench.database.gate.clear()
        async with bench.running():
            await bench.database.until(lambda: bench.database.at_once == 1)
            bench.source.drop_to(6)
            bench.database.gate.set()
            await bench.source.emptied()
        assert bench.database.lines == sorted(points[6:])
        assert bench.witness.delivered_ids == list(range(7, 13))
        sums = bench.source.ledger.total.sums()
        assert (sums["stored"], sums["dropped"], sums["pending"]) == (6, 6, 0)

    asyncio.run(main())


def test_a_refused_batch_whose_records_were_dropped_meanwhile_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        bench = Bench(max_readings=2, max_in_flight=2)
        points = bench.fill(records=6)
        bench.database.poison = {points[0], points[3]}
        bench.database.gate.clear()
        async with bench.running():
            await bench.database.until(lambda: bench.database.at_once == 2)
            bench.source.drop_to(3)
            bench.fill(records=1)  # wakes the forwarder, which sees the drop before the results
            bench.forwarder._wake.set()
            await asyncio.sleep(0.02)
            bench.database.gate.set()
            await bench.source.emptied()
        assert bench.dead_letters.lines == [points[3]]
        assert bench.witness.delivered_ids == [4, 5, 6, 7]
        assert bench.source.ledger.total.pending == 0
        assert "unexpected error" not in caplog.text

    asyncio.run(main())


def test_records_dropped_while_they_are_read_are_not_delivered() -> None:
    async def main() -> None:
        bench = Bench(max_readings=1)
        points = bench.fill(records=4)
        read = bench.source.read

        async def losing(after_id: int, max_bytes: int) -> Any:
            found = await read(after_id, max_bytes)
            bench.source.drop_to(2)
            return found

        bench.source.read = losing  # type: ignore[method-assign]
        await bench.delivered()
        assert bench.witness.delivered_ids == [3, 4]
        assert bench.database.lines == points[2:]
        assert bench.source.ledger.total.pending == 0

    asyncio.run(main())


def test_stop_waits_for_writes_in_flight_and_starts_none() -> None:
    async def main() -> None:
        bench = Bench(max_readings=1, max_in_flight=2)
        points = bench.fill(records=10)
        bench.database.gate.clear()
        running = asyncio.create_task(bench.forwarder.run())
        await bench.database.until(lambda: bench.database.at_once == 2)
        stopping = asyncio.create_task(bench.forwarder.stop(WAIT))
        await asyncio.sleep(0)
        bench.database.gate.set()
        async with asyncio.timeout(WAIT):
            await asyncio.gather(stopping, running)
        assert bench.database.lines == sorted(points[:2])
        assert bench.source.acknowledged == [2]
        assert bench.witness.delivered_ids == [1, 2]

    asyncio.run(main())


def test_stop_abandons_a_slow_write_and_it_is_made_after_the_restart() -> None:
    async def main() -> None:
        bench = Bench(max_readings=1, max_in_flight=2)
        points = bench.fill(records=3)
        bench.database.gate.clear()
        running = asyncio.create_task(bench.forwarder.run())
        await bench.database.until(lambda: bench.database.at_once == 2)
        async with asyncio.timeout(WAIT):
            await bench.forwarder.stop(0.05)
            await running
        assert bench.source.acknowledged == []
        bench.database.gate.set()
        bench.forwarder = bench.another()
        await bench.delivered()
        assert bench.database.lines == sorted(points)
        assert bench.witness.delivered_ids == [1, 2, 3]

    asyncio.run(main())


def test_stop_during_an_outage_does_not_wait_for_the_backoff() -> None:
    async def main() -> None:
        bench = Bench(
            *[OperatorNeeded("not_found", "database not found")] * 10, bounds=BackoffBounds(operator_needed=3600.0)
        )
        bench.fill(records=1)
        running = asyncio.create_task(bench.forwarder.run())
        async with asyncio.timeout(WAIT):
            await bench.witness.wrote_one.wait()
        assert bench.forwarder.state.name == "held"
        async with asyncio.timeout(5):
            await bench.forwarder.stop(4.0)
            await running
        assert bench.source.acknowledged == []

    asyncio.run(main())


def test_stop_does_not_wait_for_the_pause_after_an_error() -> None:
    async def main() -> None:
        bench = Bench(bounds=BackoffBounds(first=3600.0, max_delay=3600.0))
        bench.source.faults["read"] = [OSError("input/output error")] * 10
        running = asyncio.create_task(bench.forwarder.run())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert bench.forwarder.state.kind == "internal"
        async with asyncio.timeout(5):
            await bench.forwarder.stop(4.0)
            await running

    asyncio.run(main())


@pytest.mark.parametrize("max_readings", [1, 5000])
def test_records_read_during_a_stop_are_not_written(max_readings: int) -> None:
    async def main() -> None:
        bench = Bench(max_readings=max_readings, partial=False)
        bench.fill(records=3)
        read = bench.source.read
        stopping: list[asyncio.Task[None]] = []

        async def stopped_meanwhile(after_id: int, max_bytes: int) -> Any:
            stopping.append(asyncio.create_task(bench.forwarder.stop(WAIT)))
            await asyncio.sleep(0)
            return await read(after_id, max_bytes)

        bench.source.read = stopped_meanwhile  # type: ignore[method-assign]
        async with asyncio.timeout(WAIT):
            await bench.forwarder.run()
            await asyncio.gather(*stopping)
        assert bench.database.writes == []

    asyncio.run(main())


def test_nothing_is_written_after_a_stop_during_an_acknowledgement() -> None:
    async def main() -> None:
        bench = Bench(max_readings=1, max_in_flight=1)
        bench.fill(records=3)
        acknowledge = bench.source.acknowledge
        stopping: list[asyncio.Task[None]] = []

        async def stopped_meanwhile(record_id: int) -> None:
            stopping.append(asyncio.create_task(bench.forwarder.stop(WAIT)))
            await acknowledge(record_id)

        bench.source.acknowledge = stopped_meanwhile  # type: ignore[method-assign]
        async with asyncio.timeout(WAIT):
            await bench.forwarder.run()
            await asyncio.gather(*stopping)
        assert len(bench.database.writes) == 1
        assert bench.source.acknowledged == [1]

    asyncio.run(main())


def test_a_cancelled_run_leaves_nothing_behind() -> None:
    async def main() -> None:
        bench = Bench()
        bench.fill(records=1)
        running = asyncio.create_task(bench.forwarder.run())
        await bench.source.emptied()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        async with asyncio.timeout(5):
            await bench.forwarder.stop(1.0)

    asyncio.run(main())


def test_a_slow_stream_is_read_in_portions() -> None:
    """A read for every group commit would cost a change of thread per commit."""

    async def main() -> None:
        bench = Bench(max_age=1.5)
        async with bench.running():
            begun = time.monotonic()
            for number in range(100):
                bench.source.append(entry("a", line("a", number)), committed_ns=time.time_ns())
                await asyncio.sleep(0.002)
            looks = (time.monotonic() - begun) / READ_INTERVAL
            assert bench.source.waits <= looks + 2
            await bench.source.emptied()

    asyncio.run(main())


def test_the_event_loop_runs_while_a_backlog_is_read_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each record takes half a millisecond to read and to report here: all at once, half a second or more."""

    async def main() -> None:
        bench = Bench(max_readings=1000)
        bench.fill(records=1000)
        calls: list[str] = []
        slow(monkeypatch, bench.witness, "delivered", calls)
        slow(monkeypatch, Progress, "add", calls)
        in_one_turn = []

        async def live() -> None:
            while True:
                before = len(calls)
                await asyncio.sleep(0)
                in_one_turn.append(len(calls) - before)

        device = asyncio.create_task(live())
        await bench.delivered()
        device.cancel()
        assert len(calls) >= 1000
        assert max(in_one_turn) < 500, "a quarter of a second of the loop's time"

    asyncio.run(main())


def slow(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, calls: list[str]) -> None:
    """Make a method take half a millisecond of the loop's time, and note each of its ``calls``."""
    original = getattr(owner, name)

    def slower(*arguments: Any) -> Any:
        calls.append(name)
        time.sleep(0.0005)
        return original(*arguments)

    monkeypatch.setattr(owner, name, slower)
