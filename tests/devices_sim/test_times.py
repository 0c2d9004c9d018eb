from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from devices_sim.times import is_calendar_time, parse_time, wire_time
from tests.support.meaning import time_ns

DAY = 1_325_376_000 * 10**9


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("2012-01-01", DAY),
        ("2012/01/01", DAY),
        ("2012/1/1", DAY),
        ("2012/01/01 00:00", DAY),
        ("2012-01-01T00:00:01Z", DAY + 10**9),
        ("2012-01-01 00:00:00.5", DAY + 5 * 10**8),
        ("2012-01-01T00:00:00.123456789Z", DAY + 123_456_789),
        ("2012-01-01T02:00:00+02:00", DAY),
        ("2011-12-31T19:00:00-0500", DAY),
        (" 2012-01-01T00:00:00z ", DAY),
        ("1325376000", DAY),
        ("1325376000.25", DAY + 25 * 10**7),
        ("1325376000123", DAY + 123 * 10**6),
        ("1325376000123.5", DAY + 123_500_000),
        ("1325376000123456", DAY + 123_456_000),
        ("1325376000123456789", DAY + 123_456_789),
        ("-1", -(10**9)),
        ("1969-12-31T23:59:59.5Z", -5 * 10**8),
    ],
)
def test_the_ways_data_sets_write_a_time(text: str, nanoseconds: int) -> None:
    assert parse_time(text) == nanoseconds


@pytest.mark.parametrize(
    "text", ["", "noon", "2012-13-01", "2012-01/01", "12/31/2012", "1e9", "2012-01-01T25:00", "nan", "2012-01-01Tx"]
)
def test_what_is_no_time_says_so(text: str) -> None:
    with pytest.raises(ValueError, match=r"time|month|hour|not"):
        parse_time(text)


def test_a_pattern_reads_what_else_there_is() -> None:
    assert parse_time("Jan 1 2012", "%b %d %Y") == DAY
    assert parse_time("01.01.2012 01:00 +0100", "%d.%m.%Y %H:%M %z") == DAY


def test_a_number_could_be_anything_a_date_could_not() -> None:
    assert is_calendar_time("2012/01/01")
    assert not is_calendar_time("1325376000")
    assert not is_calendar_time("drizzle")


@pytest.mark.parametrize(
    ("nanoseconds", "wire"),
    [
        (DAY + 5 * 10**6, 1_325_376_000_005),
        (DAY + 1, DAY + 1),
        (0, "1970-01-01T00:00:00Z"),
        (86_400 * 10**9 + 1, "1970-01-02T00:00:00.000000001Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
    ],
)
def test_the_wire_form_is_the_shortest_that_is_exact(nanoseconds: int, wire: int | str) -> None:
    assert wire_time(nanoseconds) == wire


SINCE_YEAR_1678 = st.integers(-(2**63) + 2, 2**63 - 2)


@given(SINCE_YEAR_1678)
@example(10**17)
@example(10**17 - 1)
@example(-(10**17))
def test_every_moment_survives_the_wire(nanoseconds: int) -> None:
    wire = wire_time(nanoseconds)
    assert time_ns(wire) == nanoseconds
    if isinstance(wire, int):
        assert abs(wire) < 2**63


@given(st.datetimes(datetime(1678, 1, 1), datetime(2262, 1, 1)))  # noqa: DTZ001 - hypothesis wants them so
def test_iso_times_mean_what_python_means(moment: datetime) -> None:
    exact = moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    assert parse_time(moment.isoformat()) == ((exact.days * 86400 + exact.seconds) * 10**6 + exact.microseconds) * 1000
