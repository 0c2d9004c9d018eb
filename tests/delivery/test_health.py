"""The state for /readyz and the lines in the log."""

from __future__ import annotations

import logging

import pytest

from gateway.delivery.health import LOG_INTERVAL, RELAPSE_INTERVAL, DatabaseState, Health
from gateway.delivery.write_result import OperatorNeeded, RetryLater

DOWN = RetryLater("unreachable", "connection refused")
BUSY = RetryLater("unavailable", "503 busy")
UNAUTHORIZED = OperatorNeeded("unauthorized", "authorization failed")


class Bench:
    """A `Health` at a clock set by hand."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, logger="gateway.delivery")
        self.now = 0.0
        self.waiting = 0
        self._caplog = caplog
        self.health = Health(lambda: self.waiting, wall=lambda: 1e9 + self.now, monotonic=lambda: self.now)

    def lines(self) -> list[str]:
        found = [record.getMessage() for record in self._caplog.records]
        self._caplog.clear()
        return found


@pytest.fixture
def bench(caplog: pytest.LogCaptureFixture) -> Bench:
    return Bench(caplog)


def test_an_outage_has_a_first_line_few_more_and_a_last(bench: Bench) -> None:
    bench.waiting = 10
    bench.health.failing(DOWN, 0.5)
    assert bench.lines() == [
        "delivery fails (unreachable): connection refused; next try in 0.5 s, failing for 0 s, 10 readings wait"
    ]
    for second in range(1, 150):
        bench.now, bench.waiting = float(second), 10 * second
        bench.health.failing(DOWN, 1.0)
    assert [line.rpartition("next try")[2] for line in bench.lines()] == [
        " in 1.0 s, failing for 60 s, 600 readings wait",
        " in 1.0 s, failing for 120 s, 1200 readings wait",
    ]
    bench.now = 150.0
    bench.health.recovered()
    assert bench.lines() == ["delivery works again after 150.0 s, 1490 readings waited"]
    bench.health.recovered()
    assert bench.lines() == []


def test_another_kind_of_failure_is_logged_at_once_but_not_at_each_alternation(bench: Bench) -> None:
    for _ in range(20):
        bench.health.failing(DOWN, 1.0)
        bench.health.failing(BUSY, 1.0)
        bench.now += 1.0
    lines = bench.lines()
    assert len(lines) == 2
    assert "503 busy" in lines[1]


def test_failures_that_come_and_go_do_not_fill_the_log(bench: Bench) -> None:
    for _ in range(100):
        bench.health.failing(DOWN, 0.1)
        bench.now += 0.1
        bench.health.recovered()
    assert len(bench.lines()) == 2
    bench.now += RELAPSE_INTERVAL
    bench.health.failing(DOWN, 0.1)
    bench.now += 1.0
    bench.health.recovered()
    first, last = bench.lines()
    assert "failing for 0 s" in first
    assert "again after 1.0 s" in last


def test_the_state_shows_the_failure_and_its_start(bench: Bench) -> None:
    assert bench.health.state == DatabaseState("delivering", "", "", 1e9)
    bench.now = 5.0
    bench.health.failing(DOWN, 1.0)
    bench.now = 6.0
    bench.health.failing(BUSY, 1.0)
    assert bench.health.state == DatabaseState("retrying", "unavailable", "503 busy", 1e9 + 5)
    bench.now = 7.0
    bench.health.failing(UNAUTHORIZED, 15.0)
    assert bench.health.state == DatabaseState("held", "unauthorized", "authorization failed", 1e9 + 7)
    assert "fails until an operator acts (unauthorized)" in bench.lines()[-1]
    bench.now = 8.0
    bench.health.recovered()
    assert bench.health.state == DatabaseState("delivering", "", "", 1e9 + 8)


def test_dead_letters_are_logged_in_sums(bench: Bench) -> None:
    for number in range(300):
        bench.health.dead_letter("pump-1", "bad_request", f"conflict {number}")
    assert bench.lines() == [
        "points refused by the database and kept as dead letters: 1; the last one of device pump-1: bad_request"
    ]
    bench.now = LOG_INTERVAL
    bench.health.dead_letter("pump-2", "bad_request", "conflict")
    (line,) = bench.lines()
    assert "dead letters: 300;" in line
    assert "pump-2" in line
