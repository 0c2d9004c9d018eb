from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.config.units import (
    DURATION_PATTERN,
    LISTEN_PATTERN,
    SIZE_PATTERN,
    ListenAddress,
    format_duration,
    format_size,
    parse_duration,
    parse_listen,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5ms", 0.005),
        ("500 ms", 0.5),
        ("20s", 20.0),
        ("1.5m", 90.0),
        ("1h", 3600.0),
        ("30d", 2592000.0),
        ("0s", 0.0),
        ("0.1s", 0.1),
    ],
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "value", ["20", 20, 0.5, "", "s", "1h30m", "-5s", "5S", "1 000s", "1e3s", ".5s", "٣s", None, True, ["5s"], "5s\n"]
)
def test_what_is_no_duration_is_refused_with_examples(value: object) -> None:
    with pytest.raises(ValueError, match="expected a duration such as 500ms, 20s"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("text", "size"),
    [("64KiB", 65536), ("1.5MiB", 1572864), ("1 GiB", 2**30), ("2TiB", 2**41), ("512B", 512), ("7", 7), (7, 7)],
)
def test_sizes_are_bytes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("value", ["64KB", "64kib", "-1", -1, True, None, "GiB", "", "1e6", "1GiB\n"])
def test_what_is_no_size_is_refused_with_examples(value: object) -> None:
    with pytest.raises(ValueError, match="expected a size such as 512B, 64KiB"):
        parse_size(value)


@given(st.integers(0, 10**11).map(lambda ms: ms / 1000))
@example(86400.0)
@example(0.005)
def test_a_formatted_duration_reads_back_the_same(seconds: float) -> None:
    text = format_duration(seconds)
    assert re.match(DURATION_PATTERN, text)
    assert parse_duration(text) == seconds


@given(st.integers(0, 2**50))
@example(65536)
def test_a_formatted_size_reads_back_the_same(size: int) -> None:
    text = format_size(size)
    assert re.match(SIZE_PATTERN, text)
    assert parse_size(text) == size


def test_formatting_takes_the_largest_whole_unit() -> None:
    assert [format_duration(s) for s in (0, 0.005, 1.5, 20, 90, 120, 3600, 2592000)] == [
        "0s", "5ms", "1500ms", "20s", "90s", "2m", "1h", "30d",
    ]  # fmt: skip
    assert [format_size(s) for s in (0, 1000, 1024, 2**26, 2**30)] == ["0B", "1000B", "1KiB", "64MiB", "1GiB"]


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("[::1]:0", "::1", 0),
        ("0.0.0.0:65535", "0.0.0.0", 65535),
        ("gateway.example:443", "gateway.example", 443),
    ],
)
def test_an_address_reads_back_the_same(text: str, host: str, port: int) -> None:
    address = parse_listen(text)
    assert address == ListenAddress(host, port)
    assert str(address) == text
    assert re.match(LISTEN_PATTERN, text)


@pytest.mark.parametrize(
    "value", ["8080", ":8080", "127.0.0.1", "127.0.0.1:65536", "::1:8080", "http://x:1", "a b:1", 8080, None, "x:-1"]
)
def test_what_is_no_address_is_refused_with_examples(value: object) -> None:
    with pytest.raises(ValueError, match=r"expected host:port such as 127\.0\.0\.1:8080"):
        parse_listen(value)


def test_loopback_is_this_machine_only() -> None:
    assert all(ListenAddress(host, 1).loopback for host in ("127.0.0.1", "127.8.9.1", "::1", "localhost"))
    assert not any(ListenAddress(host, 1).loopback for host in ("0.0.0.0", "::", "192.168.0.1", "gateway.example"))
