from __future__ import annotations

from gateway.config.sections import ProfileSection
from gateway.protocol.types import FieldTypes, declared_by


def test_the_first_type_counts_and_is_handed_out_once() -> None:
    types = FieldTypes()
    types.learn("m", [("a", "float"), ("b", "string")])
    types.learn("m", [("a", "string")])
    types.learn("n", [("a", "bool")])
    assert (types.get("m", "a"), types.get("n", "a"), types.get("m", "c")) == ("float", "bool", None)
    assert types.take_changes() == ({("m", "a"): "float", ("m", "b"): "string", ("n", "a"): "bool"}, set())
    assert types.take_changes() == ({}, set())
    assert len(types) == 3


def test_what_profiles_declare_overrides_what_was_kept_and_is_not_new() -> None:
    profiles = [
        ProfileSection.model_validate({"measurement": "kiln", "fields": {"n": {"type": "int"}, "t": {}}}),
        ProfileSection.model_validate({"measurement": "kiln", "fields": {"n": {"type": "float"}}}),
    ]
    types = FieldTypes(declared_by(profiles))
    types.replace({("kiln", "n"): "string", ("kiln", "x"): "bool"})
    assert (types.get("kiln", "n"), types.get("kiln", "t"), types.get("kiln", "x")) == ("int", "float", "bool")
    types.learn("kiln", [("n", "string")])
    assert types.take_changes() == ({}, set())


def test_what_was_learned_meanwhile_survives_a_replacement_and_the_watchers_hear_of_it() -> None:
    types, heard = FieldTypes(), []
    types.watch(lambda: heard.append(1))
    types.learn("m", [("old", "float")])
    types.take_changes()
    types.learn("m", [("new", "bool")])
    types.replace({})
    assert (types.get("m", "old"), types.get("m", "new")) == (None, "bool")
    assert heard == [1]


def test_what_was_not_accepted_after_all_is_unknown_again_and_never_handed_out() -> None:
    types = FieldTypes({("kiln", "n"): "int"}, most=2)
    new = [("a", "float"), ("b", "float")]
    types.learn("m", new)
    types.unlearn("m", new)
    assert (len(types), types.get("m", "a"), types.take_changes()) == (1, None, ({}, set()))


def test_what_the_database_refused_is_learned_anew_but_never_what_a_profile_declares() -> None:
    types, heard = FieldTypes({("m", "n"): "int"}), []
    types.watch(lambda: heard.append(1))
    types.learn("m", [("a", "string")])
    types.take_changes()
    types.doubt("m", ["a", "n", "unheard"])
    assert (types.get("m", "a"), types.get("m", "n"), heard) == (None, "int", [1])
    types.replace({("m", "a"): "string"})
    assert types.get("m", "a") is None
    types.learn("m", [("a", "float")])
    assert types.take_changes() == ({("m", "a"): "float"}, {("m", "a")})


def test_there_is_a_bound_and_what_is_beyond_it_is_counted() -> None:
    types = FieldTypes(most=2)
    types.learn("m", [("a", "float"), ("b", "float"), ("c", "float")])
    assert (len(types), types.ignored, types.get("m", "c")) == (2, 1, None)
