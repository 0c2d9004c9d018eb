from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.sections import ProfileSection
from gateway.errors import ReadingError
from gateway.protocol import field_rules
from gateway.protocol.field_rules import KNOWN_NAMES, MAX_FIELDS, Rulebook, Rules, flatten, too_deep
from gateway.protocol.field_types import FieldTypes
from tests.support.readings import NAMES, NUMBERS, SPECS, VALUES, outcome

PROFILES = st.dictionaries(NAMES, SPECS, max_size=4)


class Forgetful(dict[str, str]):
    """Names that never become known, so that every value meets `Field.write`."""

    def __setitem__(self, name: str, key: str) -> None:
        pass


def rules(profile: dict[str, Any] | None = None, *, strict: bool = False) -> Rules:
    return Rules(ProfileSection.model_validate({"fields": profile or {}, "strict": strict}), "m", FieldTypes())


@given(PROFILES, st.data())
def test_the_short_way_writes_what_the_complete_rules_write(profile: dict[str, Any], data: st.DataObject) -> None:
    names = st.one_of(NAMES, st.sampled_from(sorted(profile))) if profile else NAMES
    values = data.draw(st.dictionaries(names, st.one_of(VALUES, NUMBERS, st.none()), max_size=6))
    quick, complete = rules(profile), rules(profile)
    complete.plain = Forgetful()
    first = outcome(quick.write, values)
    if isinstance(first[1], dict):
        quick.learn(0)
    assert first == outcome(quick.write, values), "before and after names are known"
    assert first == outcome(complete.write, values)


def test_nesting_too_deep_is_said_before_anything_else() -> None:
    deep = {"x": [], "a": {"b": {"c": {"d": 1}}}}
    assert outcome(rules().write, deep)[0] == "bad_message"
    assert outcome(rules().write, {**deep, **{f"f{n}": n for n in range(300)}})[0] == "bad_message"
    assert outcome(rules().write, {"x": [], "a": {"b": {"c": 1}}})[0] == "wrong_type"


def test_fields_by_name_are_flat_and_without_nulls() -> None:
    values = {"a": 1, "b": 2.5}
    assert rules().write(values)[1] is values
    assert rules().write({"a": 1, "b": None, "c": {"d": True}}) == ("a=1,c.d=true", {"a": 1, "c.d": True})
    assert rules().write({"b": None, "c": {}}) == ("", {})


def test_256_fields_and_no_more() -> None:
    many = {f"f{n}": n for n in range(256)}
    assert rules().write(many)[0].count(",") == 255
    assert rules().write({**many, "none": None})[0].count(",") == 255
    assert outcome(rules().write, {**many, "one": 1})[0] == "too_many_fields"
    assert outcome(rules().write, {f"f{n}": n for n in range(10_000)})[0] == "too_many_fields"


def test_a_strict_profile_knows_only_its_fields() -> None:
    strict = rules({"a": {"type": "float"}}, strict=True)
    assert strict.write({"a": 1})[0] == "a=1"
    assert outcome(strict.write, {"b": 1})[:2] == ("unknown_field", "b")
    assert outcome(strict.write, {"time": 1})[:2] == ("bad_name", "time")


def test_known_names_are_bounded_and_declared_ones_stay() -> None:
    some = rules({"a": {"type": "float"}, "n": {"type": "int"}})
    for n in range(KNOWN_NAMES * 2 + 10):
        assert some.write({f"f{n}": 1})[0] == f"f{n}=1"
        some.learn(0)
    assert len(some._known) <= KNOWN_NAMES
    assert len(some.plain) <= KNOWN_NAMES
    assert some.write({"a": 1, "n": 2})[0] == "a=1,n=2i"


def test_a_very_long_name_is_not_repeated_in_full() -> None:
    assert outcome(rules().write, {"x" * 60_000: 1})[1] == "x" * 80 + "…"


def test_rules_are_made_once_for_a_profile_and_measurement_and_forgotten_in_the_end() -> None:
    book = Rulebook(FieldTypes())
    one, other = ProfileSection(), ProfileSection()
    assert book.rules(one, "m") is book.rules(one, "m")
    assert book.rules(one, "m") is not book.rules(other, "m")
    assert book.rules(one, "m") is not book.rules(one, "n")
    for _ in range(field_rules.KEPT_RULES * 2):
        book.rules(ProfileSection(), "m")
    assert len(book._all) <= field_rules.KEPT_RULES + 3


def test_a_field_keeps_the_type_of_the_first_reading_that_was_accepted() -> None:
    some = rules()
    assert some.write({"a": 1, "s": "on", "b": True})[0] == 'a=1,s="on",b=true'
    assert some.write({"a": "one"})[0] == 'a="one"', "nothing was accepted yet"
    some.write({"a": 1, "s": "on", "b": True})
    some.learn(0)
    assert outcome(some.write, {"a": "one"}) == ("wrong_type", "a", "expected float, got string")
    assert outcome(some.write, {"a": False}) == ("wrong_type", "a", "expected float, got bool")
    assert outcome(some.write, {"s": 1}) == ("wrong_type", "s", "expected string, got number")
    assert outcome(some.write, {"b": 1}) == ("wrong_type", "b", "expected bool, got number")
    assert some.write({"a": 2.5, "s": "off", "b": False, "n": None})[0] == 'a=2.5,s="off",b=false'


def test_types_are_those_of_the_measurement_whatever_the_profile() -> None:
    types = FieldTypes()
    book = Rulebook(types)
    counts = ProfileSection.model_validate({"measurement": "counts", "fields": {"n": {"type": "int"}}})
    plain = ProfileSection()
    first = book.rules(plain, "m")
    first.write({"n": 1.5})
    first.learn(0)
    text = "expected float, got int of the device's profile"
    assert outcome(book.rules(counts, "m").write, {"n": 1}) == ("wrong_type", "n", text)
    assert book.rules(counts, "counts").write({"n": 1})[0] == "n=1i"
    assert outcome(book.rules(plain, "m").write, {"n": "x"})[0] == "wrong_type"
    assert book.rules(plain, "other").write({"n": "x"})[0] == 'n="x"'


def test_a_forgotten_type_is_learned_anew_by_all_rules() -> None:
    types = FieldTypes()
    book = Rulebook(types)
    some = book.rules(ProfileSection(), "m")
    some.write({"a": 1})
    some.learn(0)
    assert types.take_changes() == ({("m", "a"): "float"}, set())
    types.replace({})
    assert some.write({"a": "one"})[0] == 'a="one"'
    some.learn(0)
    assert outcome(some.write, {"a": 1})[0] == "wrong_type"


def test_an_unlearned_field_is_new_in_every_way_of_writing() -> None:
    some = rules()
    some.write({"a": 1})
    fresh = some.fresh
    some.learn(0)
    assert some.write_known({"a": 1}) == b"a=1"
    some.unlearn(fresh)
    assert some.write_known({"a": 1}) == b""
    some.write({"a": "x"})
    some.learn(0)
    for write in (some.write, some.write_known):
        assert outcome(write, {"a": 1}) == ("wrong_type", "a", "expected string, got number")
    assert some.write_numbers([{"a": 1}]) is None


def test_columns_are_learned_as_numbers() -> None:
    some = rules({"n": {"type": "int"}})
    some.note(("a", "n"))
    some.learn(0)
    assert outcome(some.write, {"a": "x"})[2] == "expected float, got string"
    assert some._types.get("m", "n") == "int"


def test_where_there_is_no_room_to_learn_everything_is_accepted() -> None:
    types = FieldTypes(most=1)
    some = Rules(ProfileSection(), "m", types)
    for value in ("x", 1, True):
        assert outcome(some.write, {"a": 1, "b": value})[0].startswith("a=1,b=")
        some.learn(0)
    assert len(types) == 1
    assert types.ignored >= 1


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
    start = time.thread_time()
    assert refused(long) == ("bad_name", "x" * 80 + "…")
    assert time.thread_time() - start < 0.05


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
