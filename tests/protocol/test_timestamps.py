from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ReadingError
from gateway.protocol.timestamps import MAX_NS, MIN_NS, aged, asked_moment, from_ms, is_number, moment

FORMS = "expected a time with its zone such as (.*), or ms since 1970 such as (.*), got"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOMENTS = st.datetimes(
    datetime(1678, 1, 1),  # noqa: DTZ001 - hypothesis adds the time zone
    datetime(2262, 1, 1),  # noqa: DTZ001
    timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)


def refused(value: Any) -> str:
    with pytest.raises(ReadingError) as caught:
        moment(value)
    assert caught.value.field == "ts"
    return caught.value.code


def test_the_time_of_a_query_has_the_forms_of_ts() -> None:
    for text, ts in (("1700000000", 1700000000), ("-5", -5), ("2023-11-14T22:13:20+01:00",) * 2):
        assert asked_moment(text) == moment(ts)
    for text in (str(10**20 - 1), "9999-12-31T23:59:59Z"):
        with pytest.raises(ReadingError, match="expected a time from 1677-09-21 to 2262-04-11"):
            asked_moment(text)


@pytest.mark.parametrize("text", ["yesterday", "", "--5", "5-", "1.5", "2023-11-14", "9" * 5000])
def test_the_examples_of_times_in_an_error_are_valid(text: str) -> None:
    with pytest.raises(ReadingError) as caught:
        asked_moment(text)
    found = re.match(FORMS, caught.value.message)
    assert found is not None
    assert [asked_moment(each) for each in found.groups()] == [1_700_000_000_500_000_000] * 2


@given(MOMENTS)
def test_every_rfc_3339_time_is_the_moment_it_names(when: datetime) -> None:
    microseconds = (when - EPOCH) // timedelta(microseconds=1)
    assert moment(when.isoformat()) == microseconds * 1_000
    assert moment(when.isoformat(" ").replace("+00:00", "z")) == microseconds * 1_000


@pytest.mark.parametrize(
    ("value", "ns"),
    [
        (99_999_999_999 // 20, 99_999_999_999 // 20 * 10**9),
        (10**11, 10**11 * 10**6),
        (10**14 - 1, None),
        (10**14, 10**14 * 10**3),
        (10**17, 10**17),
        (-(10**17) + 1, None),
        (-(10**14), -(10**14) * 10**3),
        (0.1, 100_000_000),
        (1e11, 10**11 * 10**6),
        (1e17, 10**17),
        (1e-7, 0),
        (-0.0, 0),
        (MAX_NS, MAX_NS),
        (MIN_NS, MIN_NS),
        (MAX_NS + 1, None),
        (MIN_NS - 1, None),
        (1e308, None),
        ("1677-09-21T00:12:43.145224194Z", MIN_NS),
        ("1677-09-21T00:12:43.145224193Z", None),
        ("2262-04-11T23:47:16.854775806Z", MAX_NS),
        ("2262-04-11T23:47:16.854775807Z", None),
        ("9999-12-31T23:59:59Z", None),
        ("0001-01-01T00:00:00+23:59", None),
    ],
)
def test_magnitude_tells_the_unit_and_the_range_is_the_databases(value: Any, ns: int | None) -> None:
    if ns is None:
        assert refused(value) == "timestamp_out_of_range"
    else:
        assert moment(value) == ns


@given(st.integers(-(10**20), 10**20))
def test_an_integer_is_never_rounded(value: int) -> None:
    unit = next(
        unit for limit, unit in ((10**11, 10**9), (10**14, 10**6), (10**17, 10**3), (10**99, 1)) if abs(value) < limit
    )
    if MIN_NS <= value * unit <= MAX_NS:
        assert moment(value) == value * unit
    else:
        assert refused(value) == "timestamp_out_of_range"


@given(st.floats(0, 9_000_000_000))
def test_seconds_with_a_fraction_are_within_a_microsecond(value: float) -> None:
    found = moment(value)
    assert found % 1_000 == 0
    assert abs(Fraction(found, 10**9) - Fraction(value)) <= Fraction(1, 10**6)


@pytest.mark.parametrize(
    "value",
    [
        True,
        None,
        [],
        {},
        "",
        "now",
        "2023-11-14",
        "2023-11-14T22:13Z",
        "2023-11-14T22:13:20",
        "2023-11-14T22:13:20.Z",
        "2023-11-14T22:13:61Z",
        "2023-11-14T22:60:00Z",
        "2023-11-14T22:13:20+24:00",
        "2023-11-14T22:13:20+0100",
        "2023-13-01T00:00:00Z",
        "2023-02-30T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2023-11-14T22:13:20Z\n",
        " 2023-11-14T22:13:20Z",
        "x" * 10_000,
    ],
)
def test_values_that_are_not_times_are_refused(value: Any) -> None:
    assert refused(value) == "bad_timestamp"


def test_the_error_quotes_the_beginning_of_the_value() -> None:
    with pytest.raises(ReadingError, match=r'got "x{40}…"$'):
        moment("x" * 10_000)


@pytest.mark.parametrize(
    ("age", "ns"), [(0, 0), (1, 1_000_000), (0.0005, 500), (-0.0, 0), (86_400_000, 86_400 * 10**9), (1e11, 10**17)]
)
def test_an_age_counts_back_from_now(age: float, ns: int) -> None:
    now = 1_700_000_000_000_000_123
    assert aged(now, age) == now - ns


@pytest.mark.parametrize(
    ("age", "code"),
    [
        (-1, "bad_timestamp"),
        (-0.5, "bad_timestamp"),
        ("1", "bad_timestamp"),
        (True, "bad_timestamp"),
        ({}, "bad_timestamp"),
        (1e308, "timestamp_out_of_range"),
        (2**64, "timestamp_out_of_range"),
    ],
)
def test_values_that_are_not_ages_are_refused(age: Any, code: str) -> None:
    with pytest.raises(ReadingError) as caught:
        aged(1_700_000_000_000_000_000, age)
    assert (caught.value.code, caught.value.field) == (code, "age_ms")


@pytest.mark.parametrize(
    ("ms", "ns"),
    [
        (1, 10**6),
        (0.03125, 31_250),
        (-0.5, -500_000),
        (1_700_000_000_000.0003, 1_700_000_000_000_000_000),
        (1_700_000_000_000.5, 1_700_000_000_000_500_000),
    ],
)
def test_milliseconds_as_nanoseconds(ms: float, ns: int) -> None:
    assert from_ms(ms) == ns


@pytest.mark.parametrize("ms", [float("inf"), 1e308, 2**64])
def test_milliseconds_beyond_the_database_are_out_of_range(ms: float) -> None:
    assert from_ms(ms) > MAX_NS
    assert from_ms(-ms) < MIN_NS


def test_a_boolean_is_not_a_number() -> None:
    assert [is_number(value) for value in (1, 1.5, True, "1", None)] == [True, True, False, False, False]
