from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.delivery.sink import SeriesQuery
from gateway.delivery.write_result import PointRefused, Stored
from gateway.sinks.sqlite import SqliteSink, rollups
from gateway.sinks.sqlite.schema import HOUR_NS, MINUTE_NS
from tests.support.sqlite_file import Clock
from tests.support.sqlite_truth import assert_history_is_true, count

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

START = 1_700_000_000_000_000_000 // HOUR_NS * HOUR_NS
SECOND = 1_000_000_000
RETENTION = 6 * 3600

TIMES = st.builds(
    lambda hour, second: START + hour * HOUR_NS + second * SECOND,
    st.integers(-3, 8),
    st.sampled_from([0, 1, 59, 60, 3599]),
)
POINTS = st.tuples(
    st.sampled_from(["m,device=d1", "m,device=d1,site=a", "n,device=d1", "m,device=d2"]),
    st.dictionaries(st.sampled_from("xyz"), st.integers(-9, 9), min_size=1),
    TIMES,
)
ACTIONS = st.one_of(
    st.tuples(st.just("write"), st.lists(POINTS, min_size=1, max_size=6)),
    st.tuples(st.just("write during the rollups"), st.lists(POINTS, min_size=1, max_size=3)),
    st.tuples(st.sampled_from(["summarise", "expire", "restart"]), st.just([])),
    st.tuples(st.just("later"), st.integers(1, 4)),
)
QUERIES = [
    SeriesQuery("d1", "x", START - 5 * HOUR_NS, START + 20 * HOUR_NS, 5),  # in hours
    SeriesQuery(
        "d1", "x", START - HOUR_NS + 30 * SECOND, START + 5 * HOUR_NS + 7 * SECOND, 40
    ),  # in minutes, edges inside
    SeriesQuery("d1", "y", START + 1, START + 3 * HOUR_NS, 45, "m"),
    SeriesQuery("d2", "z", START - 7 * MINUTE_NS, START + 50 * HOUR_NS, 1),
]


def line(point: tuple[str, dict[str, int], int]) -> bytes:
    head, fields, time_ns = point
    pairs = ",".join(f"{name}={value}" for name, value in sorted(fields.items()))
    return f"{head} {pairs} {time_ns}\n".encode()


class World:
    """A sink, its file, its clock, and the events that may happen to them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock(START + 4 * HOUR_NS)
        self.sink = self.open()
        self.write([("m,device=d1", {"x": 0}, START)])

    def open(self) -> SqliteSink:
        return SqliteSink(self.path, retention=RETENTION, clock_ns=self.clock)

    def write(self, points: list[tuple[str, dict[str, int], int]]) -> None:
        assert self.sink.write(b"".join(map(line, points))) == Stored()

    def do(self, action: str, argument: Any) -> None:
        if action == "write":
            self.write(argument)
        elif action == "write during the rollups":
            self.meddle(argument)
        elif action == "later":
            self.clock.now_ns += argument * HOUR_NS
        elif action == "expire":
            self.sink.expire()
        elif action == "restart":
            self.sink.close()
            self.sink = self.open()
        else:
            while self.sink.roll_up():
                pass

    def meddle(self, points: list[tuple[str, dict[str, int], int]]) -> None:
        """Write between the read of some hours and the storage of their rollups."""
        real = rollups.compute

        def compute(*arguments: Any) -> Any:
            found = real(*arguments)
            self.write(points)
            return found

        rollups.compute = compute
        try:
            self.sink.roll_up()
        finally:
            rollups.compute = real

    def check(self) -> None:
        for query in QUERIES:
            assert_history_is_true(self.sink, self.path, query)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(ACTIONS, min_size=1, max_size=10))
def test_history_matches_the_values_after_any_sequence_of_events(
    tmp_path: Path, actions: list[tuple[str, Any]]
) -> None:
    world = World(tmp_path / f"{uuid.uuid4()}.db")
    for action, argument in actions:
        world.do(action, argument)
        world.check()
    world.do("summarise", [])
    world.check()
    world.sink.close()


def settled(sink: SqliteSink) -> None:
    while sink.roll_up():
        pass


def written(sink: SqliteSink, values: dict[int, str]) -> None:
    lines = "".join(f"m,device=d1 {fields} {time_ns}\n" for time_ns, fields in values.items())
    assert sink.write(lines.encode()) == Stored()


def test_an_hour_is_rolled_up_when_it_has_ended(open_sink: Callable[..., SqliteSink], path: Path) -> None:
    clock = Clock(START + HOUR_NS - 1)
    sink = open_sink(clock_ns=clock)
    written(sink, {START + at * MINUTE_NS: f"x={at}" for at in range(60)})
    settled(sink)
    assert (count(path, "rollups"), count(path, "stale")) == (0, 1)
    clock.now_ns += 1
    settled(sink)
    assert (count(path, "rollups"), count(path, "stale")) == (61, 0)


def test_upkeep_rolls_up_by_itself(
    open_sink: Callable[..., SqliteSink], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.sinks.sqlite.sink.IDLE_PAUSE", 0.02)
    written(open_sink(), {START: "x=1"})
    deadline = time.monotonic() + 10
    while count(path, "stale"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert count(path, "rollups") == 2


def test_only_numbers_are_rolled_up_and_keep_their_type(sink: SqliteSink, path: Path) -> None:
    largest = 2**63 - 1
    written(sink, {START: f'i={largest}i,b=true,s="text"', START + 1: f'i={largest - 1}i,b=false,s="more"'})
    settled(sink)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        found = connection.execute(
            "SELECT field, low, high, count FROM rollups JOIN fields USING (series, slot) WHERE step_ns = ? ORDER BY 1",
            (MINUTE_NS,),
        ).fetchall()
    assert found == [("b", 0, 1, 2), ("i", largest - 1, largest, 2)]


def test_rollups_are_read_where_no_hour_is_stale(sink: SqliteSink, path: Path) -> None:
    written(sink, {START + at * MINUTE_NS: "x=5" for at in range(180)})
    settled(sink)
    written(sink, {START + HOUR_NS + 1: "x=7"})
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE rollups SET high = 99 WHERE time_ns < ?", (START + 2 * HOUR_NS,))
        connection.commit()
    found = sink.query(SeriesQuery("d1", "x", START, START + 3 * HOUR_NS, 3)).buckets
    assert [bucket.high for bucket in found] == [99, 7, 5], "a summary, the points of a stale hour, a summary"


def test_a_mark_that_was_rolled_back_is_made_again(sink: SqliteSink, path: Path) -> None:
    written(sink, {START + at * SECOND: "x=1" for at in range(10)})
    settled(sink)
    good, bad = f"m,device=d1 x=9 {START}\n".encode(), f"m,device=d1 x=1i {START}\n".encode()
    assert isinstance(sink.write(good + bad), PointRefused)
    assert sink.write(good) == Stored()
    assert count(path, "stale") == 1
    assert_history_is_true(sink, path, SeriesQuery("d1", "x", START, START + 4 * HOUR_NS, 1))


def test_every_deleted_hour_loses_its_rollups(open_sink: Callable[..., SqliteSink], path: Path) -> None:
    clock = Clock(START + HOUR_NS)
    sink = open_sink(retention=3600.0, clock_ns=clock)
    written(sink, {START + at * SECOND: "x=1" for at in range(1500)})
    settled(sink)
    assert count(path, "rollups") == 26
    clock.now_ns += 1440 * SECOND
    sink.expire()
    settled(sink)
    assert count(path, "points") == 60
    assert count(path, "rollups") == 2
    clock.now_ns += HOUR_NS
    sink.expire()
    assert [count(path, table) for table in ("series", "fields", "points", "rollups", "stale")] == [0] * 5


def test_after_a_kill_every_rollup_is_exact(path: Path) -> None:
    program = (
        "import pathlib, sys, threading\n"
        "from gateway.sinks.sqlite import SqliteSink\n"
        f"sink = SqliteSink(pathlib.Path(sys.argv[1]), clock_ns=lambda: {START + 100 * HOUR_NS})\n"
        "def roll():\n"
        "    while True: sink.roll_up()\n"
        "sink.write(b'm,device=d1 x=1 5\\n')\n"
        "threading.Thread(target=roll, daemon=True).start()\n"
        "for number in range(10**9):\n"
        f"    lines = [f'm,device=d1 x={{number % 50}} {{{START} + (number * 7 + at) % 900 * {MINUTE_NS}}}\\n'"
        " for at in range(20)]\n"
        "    sink.write(''.join(lines).encode())\n"
        "    if number == 50: print('ready', flush=True)\n"
    )
    for _ in range(2):
        with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGKILL)
        sink = SqliteSink(path, clock_ns=Clock(START + 100 * HOUR_NS))
        for _ in range(2):
            assert assert_history_is_true(sink, path, SeriesQuery("d1", "x", START, START + 15 * HOUR_NS, 3)) > 50
            settled(sink)
        sink.close()
