"""Merge patches by the examples of RFC 7396, appendix A, and what they leave over."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.merge_patch import MAX_DEPTH, check_value, difference, merged
from gateway.protocol.value_text import Foreign


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_the_examples_of_the_rfc_whose_patch_is_an_object(target: Any, patch: Any, result: Any) -> None:
    assert merged(target, patch) == result


SETTINGS = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
    lambda below: st.dictionaries(st.sampled_from("abc"), below, max_size=3),
    max_leaves=8,
).filter(lambda value: isinstance(value, dict))


@given(SETTINGS, SETTINGS)
def test_nothing_is_changed_in_place_and_merging_the_difference_ends_it(desired: Any, reported: Any) -> None:
    before = repr((desired, reported))
    patched = merged(reported, difference(desired, reported))
    assert repr((desired, reported)) == before
    assert difference(desired, patched) == {}
    assert difference(desired, desired) == {}


@pytest.mark.parametrize(
    ("desired", "reported", "missing"),
    [
        ({"a": 1}, {}, {"a": 1}),
        ({"a": 1}, {"a": True}, {"a": 1}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}, "own": 5}, {"a": {"c": 2}}),
        ({"a": {"b": 1}}, {"a": 1}, {"a": {"b": 1}}),
        ({"a": {}}, {"a": {"b": 1}}, {}),
    ],
)
def test_the_difference_is_what_is_desired_and_not_reported(desired: Any, reported: Any, missing: Any) -> None:
    assert difference(desired, reported) == missing


def test_values_that_may_be_kept() -> None:
    deep: Any = 1
    for _ in range(MAX_DEPTH):
        deep = {"a": deep}
    check_value(deep)
    with pytest.raises(ValueError, match="at most 8 deep"):
        check_value([deep])
    with pytest.raises(ValueError, match="JSON knows no NaN"):
        check_value({"a": [Foreign("NaN")]})
