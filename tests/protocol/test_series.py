from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from gateway.config.sections import ProfileSection
from gateway.errors import ReadingError
from gateway.line_protocol import Series, parse_line
from gateway.protocol.series import MAX_KEPT_SERIES, DeviceSeries
from gateway.protocol.series_budgets import Budgets
from tests.support.readings import MEASUREMENTS, NAMES, TAG_VALUES

NOW = 1_700_000_000_000_000_000


def series(profile: dict[str, Any] | None = None, **tags: str) -> DeviceSeries:
    return DeviceSeries("d1", ProfileSection.model_validate(profile or {}), tags, Budgets())


def refused(measurement: Any, tags: Any, **profile: Any) -> tuple[str, str | None]:
    found = series(profile)
    for _ in range(2):  # nothing refused is ever remembered
        with pytest.raises(ReadingError) as caught:
            found.prefix(measurement, tags, NOW)
    return caught.value.code, caught.value.field


def test_the_default_is_the_profiles_with_the_tags_of_profile_and_registry() -> None:
    assert series().default == "telemetry,device=d1 "
    profile = {"measurement": "m", "tags": {"a": "1", "b": "1"}}
    assert series(profile, b="2", c="2", device="other").default == "m,a=1,b=2,c=2,device=d1 "


def test_a_reading_may_change_what_is_allowed() -> None:
    some = series({"tags": {"a": "1"}, "allowed_tags": ["a", "b"]})
    assert some.prefix(None, None, NOW) == some.default
    assert some.prefix("x", None, NOW) == "x,a=1,device=d1 "
    assert some.prefix(None, {"b": "2", "a": None}, NOW) == "telemetry,a=1,b=2,device=d1 "
    assert some.prefix("x", {"a": "2"}, NOW) == "x,a=2,device=d1 "


@given(MEASUREMENTS, NAMES.filter(lambda name: name != "device"), TAG_VALUES)
def test_every_good_name_is_escaped_so_that_it_reads_back(measurement: str, tag: str, value: str) -> None:
    prefix = series({"allowed_tags": [tag]}).prefix(measurement, {tag: value}, NOW)
    assert parse_line(f"{prefix}a=1 1".encode())[:2] == (measurement, {tag: value, "device": "d1"})
    assert prefix == Series(measurement, {tag: value, "device": "d1"}).prefix


@pytest.mark.parametrize(
    ("measurement", "code"),
    [
        ("", "bad_name"),
        ("#x", "bad_name"),
        ("x" * 65, "bad_name"),
        ("a\nb", "bad_name"),
        (5, "wrong_type"),
        ([], "wrong_type"),
        (True, "wrong_type"),
    ],
)
def test_bad_measurements_are_refused(measurement: Any, code: str) -> None:
    assert refused(measurement, None) == (code, "m")


@pytest.mark.parametrize(
    ("tags", "code", "field"),
    [
        ({"b": "x"}, "unknown_tag", "b"),
        ({"x" * 100: "x"}, "unknown_tag", "x" * 80 + "…"),
        ({"a": 1}, "wrong_type", "a"),
        ({"a": True}, "wrong_type", "a"),
        ({"a": ["x"]}, "wrong_type", "a"),
        ({"a": {"b": "c"}}, "wrong_type", "a"),
        ({"a": ""}, "bad_name", "a"),
        ({"a": "x\\"}, "bad_name", "a"),
        ({"a": "x\x00"}, "bad_name", "a"),
        ({"a": "x" * 257}, "too_long", "a"),
        (["a"], "wrong_type", "tags"),
        ("a", "wrong_type", "tags"),
    ],
)
def test_bad_tags_are_refused(tags: Any, code: str, field: str) -> None:
    assert refused(None, tags, allowed_tags=["a"]) == (code, field)


def test_the_device_tag_is_the_gateways_even_if_a_profile_allows_it() -> None:
    assert refused(None, {"device": "d2"}, allowed_tags=["device"]) == ("bad_name", "device")
    assert refused(None, {"device": "d2"}) == ("unknown_tag", "device")


def test_what_is_remembered_is_bounded() -> None:
    some = series()
    for n in range(MAX_KEPT_SERIES * 3):
        assert some.prefix(f"m{n}", None, NOW) == f"m{n},device=d1 "
    assert len(some._kept) <= MAX_KEPT_SERIES
