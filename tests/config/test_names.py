from __future__ import annotations

import pytest

from gateway.config.names import check_device_id, check_measurement, check_name, check_tag


@pytest.mark.parametrize("name", ["temp", "a", "x" * 64, "a b,c=d", "°C", "a\\b", "times", "a_"])
def test_possible_names(name: str) -> None:
    assert check_name(name) == name
    assert check_measurement(name) == name


@pytest.mark.parametrize(
    "name", ["", "x" * 65, "time", "_x", "a\n", "a\x00", "a\x7f", "a\x85", "a\\", "a\\,b", "a\\ b", "a\\=b", "\udc80"]
)
def test_impossible_names(name: str) -> None:
    for check in (check_name, check_measurement):
        with pytest.raises(ValueError, match=r"."):
            check(name)


def test_a_measurement_is_no_comment() -> None:
    assert check_name("#1") == "#1"
    with pytest.raises(ValueError, match="comment"):
        check_measurement("#1")


def test_a_tag_has_a_name_and_a_value_and_is_not_the_gateways() -> None:
    check_tag("site", "north side, hall=2")
    check_tag("site", "x" * 256)
    check_tag("time_zone", "_x")
    for name, value in (("device", "x"), ("time", "x"), ("site", ""), ("site", "x" * 257), ("site", "a\tb")):
        with pytest.raises(ValueError, match=r"."):
            check_tag(name, value)


def test_a_device_id() -> None:
    assert check_device_id("a.B_9:-" + "x" * 121)
    for wrong in ("", "x" * 129, "a b", "a/b", "é", "a\n"):
        with pytest.raises(ValueError, match="a device id is 1 to 128"):
            check_device_id(wrong)


@pytest.mark.parametrize("name", ["...", "..a", ".a", "a..", "a.b:c-d_E9", "x" * 128])
def test_possible_device_ids(name: str) -> None:
    assert check_device_id(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "..\n", "a\x00", "ä", "x" * 129, "a b", "%2e%2e"])
def test_impossible_device_ids(name: str) -> None:
    with pytest.raises(ValueError, match="device id"):
        check_device_id(name)
