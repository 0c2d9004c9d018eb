"""Invariants under any fault: each point ends once, the cursor only moves forward, the sums are exact."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.delivery.write_result import OperatorNeeded, RetryLater
from gateway.ledger import Entry, Kind
from tests.support.delivery import Bench, entry, line

if TYPE_CHECKING:
    from collections.abc import Iterable

DEVICES = ("a", "b", "c")
Sketch = tuple[str, int, Kind, int, int]
ENTRY = st.tuples(
    st.sampled_from(DEVICES), st.integers(0, 5), st.sampled_from(list(Kind)), st.integers(0, 2), st.integers(0, 2)
)
COMMITS = st.lists(st.lists(ENTRY, min_size=1, max_size=4), min_size=1, max_size=12)
ANSWERS = st.lists(
    st.sampled_from(
        [
            None,
            RetryLater("unreachable", "connection refused"),
            RetryLater("overloaded", "503", after=0.0),
            OperatorNeeded("unauthorized", "401"),
            RuntimeError("a bug"),
            "lost",
        ]
    ),
    max_size=12,
)
FAULTS = st.dictionaries(
    st.sampled_from(["read", "wait", "acknowledge"]), st.lists(st.just(OSError("disk")), max_size=2), max_size=2
)


class Case:
    """The records of devices, and the points that the database always refuses."""

    def __init__(self, sketches: list[list[Sketch]], data: st.DataObject) -> None:
        numbers = iter(range(10**6))
        self.commits = [
            [
                entry(device, *(line(device, next(numbers)) for _ in range(lines)), kind=kind, **counts(kind, *rest))
                for device, lines, kind, *rest in sketch
            ]
            for sketch in sketches
        ]
        points = points_of(each for commit in self.commits for each in commit)
        self.poison = data.draw(st.sets(st.sampled_from(points), max_size=4)) if points else set()

    def bench(self, data: st.DataObject, answers: list[Any], faults: dict[str, list[Exception]]) -> Bench:
        bench = Bench(
            *answers,
            partial=data.draw(st.booleans()),
            max_readings=data.draw(st.integers(1, 8)),
            max_in_flight=data.draw(st.integers(1, 3)),
        )
        bench.database.poison = self.poison
        bench.database.max_bytes = data.draw(st.sampled_from([90, 10_000]))
        bench.dead_letters.faults = data.draw(st.lists(st.just(OSError("disk full")), max_size=2))
        bench.source.faults = {method: list(errors) for method, errors in faults.items()}
        return bench

    def check(self, bench: Bench) -> None:
        """The invariants."""
        ends = bench.database.lines + bench.dead_letters.lines
        assert len(ends) == len(set(ends)), "a point has two ends"
        kept = [each for record in self._delivered(bench) for each in record]
        assert set(points_of(kept)) <= set(ends), "a point has no end"
        assert set(bench.dead_letters.lines) <= self.poison
        assert bench.source.acknowledged == sorted(bench.source.acknowledged)
        assert bench.source.differences == [], "the ledger has something else pending than the spool"
        for device in DEVICES:
            self._check_account(bench, device, [each for each in kept if each.device == device])

    def _delivered(self, bench: Bench) -> list[list[Entry]]:
        return [commit for number, commit in enumerate(self.commits, start=1) if number not in bench.source.dropped_ids]

    def _check_account(self, bench: Bench, device: str, kept: list[Entry]) -> None:
        sent = [each for commit in self.commits for each in commit if each.device == device]
        readings = points_of(each for each in kept if each.kind is Kind.READINGS)
        refused = set(readings) & self.poison
        account = bench.source.ledger.account(device)
        assert account.received == sum(each.received for each in sent)
        assert account.duplicate == sum(each.duplicate for each in sent)
        assert account.stored == len(readings) - len(refused)
        assert account.rejected == sum(each.rejected for each in sent) + len(refused)
        assert account.pending == 0


def counts(kind: Kind, rejected: int, duplicate: int) -> dict[str, int]:
    return {"rejected": rejected, "duplicate": duplicate} if kind is Kind.READINGS else {}


def points_of(entries: Iterable[Entry]) -> list[bytes]:
    return [point for each in entries for point in each.payload.splitlines(keepends=True)]


@settings(max_examples=80, deadline=None)
@given(data=st.data(), commits=COMMITS, answers=ANSWERS, faults=FAULTS)
def test_outages_refusals_and_disk_errors(
    data: st.DataObject, commits: list[list[Sketch]], answers: list[Any], faults: dict[str, list[Exception]]
) -> None:
    case = Case(commits, data)

    async def main() -> None:
        bench = case.bench(data, answers, faults)
        async with bench.running():
            for commit in case.commits:
                bench.source.append(*commit)
                await asyncio.sleep(0)
            await bench.source.emptied()
        case.check(bench)
        assert bench.witness.delivered_ids == list(range(1, len(case.commits) + 1))

    asyncio.run(main())


@settings(max_examples=40, deadline=None)
@given(data=st.data(), commits=COMMITS, answers=ANSWERS, drops=st.lists(st.integers(1, 12), min_size=1, max_size=3))
def test_records_dropped_at_any_moment(
    data: st.DataObject, commits: list[list[Sketch]], answers: list[Any], drops: list[int]
) -> None:
    case = Case(commits, data)

    async def main() -> None:
        bench = case.bench(data, answers, {})
        for commit in case.commits:
            bench.source.append(*commit)
        async with bench.running():
            for drop in drops:
                for _ in range(data.draw(st.integers(0, 3))):
                    await asyncio.sleep(0.0005)
                bench.source.drop_to(min(drop, len(case.commits)))
            await bench.source.emptied()
        case.check(bench)

    asyncio.run(main())


@settings(max_examples=40, deadline=None)
@given(data=st.data(), commits=COMMITS, answers=ANSWERS, faults=FAULTS, crashes=st.integers(1, 4))
def test_crashes_at_any_moment(
    data: st.DataObject,
    commits: list[list[Sketch]],
    answers: list[Any],
    faults: dict[str, list[Exception]],
    crashes: int,
) -> None:
    case = Case(commits, data)

    async def main() -> None:
        bench = case.bench(data, answers, faults)
        for commit in case.commits:
            bench.source.append(*commit)
        for _ in range(crashes):
            running = asyncio.create_task(bench.forwarder.run())
            for _ in range(data.draw(st.integers(0, 4))):
                await asyncio.sleep(0.0005)
            running.cancel()
            await asyncio.wait([running])
            bench.restart()
        async with bench.running():
            await bench.source.emptied()
        case.check(bench)

    asyncio.run(main())
