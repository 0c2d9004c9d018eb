from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ReadingError
from gateway.protocol.flatten import MAX_FIELDS, flatten, too_deep

TREES: Any = st.recursive(
    st.one_of(st.none(), st.integers(0, 9), st.lists(st.integers(), max_size=1)),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
)


def nested(levels: int) -> Any:
    return {"a": nested(levels - 1)} if levels else 1


def refused(values: dict[str, Any]) -> tuple[str, str | None]:
    with pytest.raises(ReadingError) as caught:
        flatten(values)
    return caught.value.code, caught.value.field


def test_objects_become_dotted_names_and_nulls_go() -> None:
    values = {"a": 1, "b": {"c": 2, "d": {"e": "x", "f": None}, "g": {}}, "h": None, "i": [1]}
    assert flatten(values) == {"a": 1, "b.c": 2, "b.d.e": "x", "i": [1]}


def test_three_levels_and_no_more() -> None:
    assert flatten(nested(3)) == {"a.a.a": 1}
    assert refused(nested(4)) == ("bad_message", "a.a.a")
    assert refused({"a": {"a": {"a": {}}}}) == ("bad_message", "a.a.a")


def test_two_ways_to_one_name() -> None:
    assert refused({"a.b": 1, "a": {"b": 2}}) == ("bad_name", "a.b")


def test_the_number_of_fields_is_counted_after_flattening_and_without_nulls() -> None:
    fields = {f"f{n}": {"x": n} for n in range(MAX_FIELDS)}
    assert len(flatten({**fields, **{f"n{n}": None for n in range(10_000)}})) == MAX_FIELDS
    assert refused({**fields, "one": 1}) == ("too_many_fields", None)


def test_a_long_path_is_refused_before_it_is_copied_a_thousand_times() -> None:
    """A message of 64 KiB must not become 64 MB."""
    long = {"x" * 30_000: {f"f{n}": n for n in range(5_000)}}
    start = time.perf_counter()
    assert refused(long) == ("bad_name", "x" * 80 + "…")
    assert time.perf_counter() - start < 0.05


@given(st.dictionaries(st.sampled_from("abc"), TREES, max_size=3))
def test_too_deep_is_what_flatten_refuses_as_bad_message(values: dict[str, Any]) -> None:
    if too_deep(values):
        assert refused(values)[0] in {"bad_message", "bad_name"}
        return
    with contextlib.suppress(ReadingError):  # two ways to one name
        assert not any(value is None or isinstance(value, dict) for value in flatten(values).values())


def test_depth_is_not_followed_further_than_needed() -> None:
    assert too_deep(nested(900))
    assert not too_deep({"a": [nested(900)]})
    assert not too_deep([nested(900)])
