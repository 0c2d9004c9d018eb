from __future__ import annotations

from gateway.config.sections import ProfileSection
from gateway.protocol.field_types import FieldTypes, declared_by


def test_the_first_type_counts_and_is_handed_out_once() -> None:
    types = FieldTypes()
    types.learn("m", [("a", "float"), ("b", "string")], 0)
    types.learn("m", [("a", "string")], 0)
    types.learn("n", [("a", "bool")], 0)
    assert (types.get("m", "a"), types.get("n", "a"), types.get("m", "c")) == ("float", "bool", None)
    assert types.take_changes() == ({("m", "a"): "float", ("m", "b"): "string", ("n", "a"): "bool"}, set())
    assert types.take_changes() == ({}, set())
    assert len(types) == 3


def test_declared_types_override_kept_ones_and_are_not_new() -> None:
    profiles = [
        ProfileSection.model_validate({"measurement": "kiln", "fields": {"n": {"type": "int"}, "t": {}}}),
        ProfileSection.model_validate({"measurement": "kiln", "fields": {"n": {"type": "float"}}}),
    ]
    types = FieldTypes(declared_by(profiles))
    types.replace({("kiln", "n"): "string", ("kiln", "x"): "bool"})
    assert (types.get("kiln", "n"), types.get("kiln", "t"), types.get("kiln", "x")) == ("int", "float", "bool")
    types.learn("kiln", [("n", "string")], 0)
    assert types.take_changes() == ({}, set())


def test_types_learned_meanwhile_survive_a_replacement_and_the_watchers_are_called() -> None:
    types, heard = FieldTypes(), []
    types.watch(lambda: heard.append(1))
    types.learn("m", [("old", "float")], 0)
    types.take_changes()
    types.learn("m", [("new", "bool")], 0)
    types.replace({})
    assert (types.get("m", "old"), types.get("m", "new")) == (None, "bool")
    assert heard == [1]


def test_types_of_a_message_that_is_not_accepted_are_forgotten_and_not_kept() -> None:
    types = FieldTypes({("kiln", "n"): "int"}, most=2)
    new = [("a", "float"), ("b", "float")]
    types.learn("m", new, 0)
    types.unlearn("m", new)
    assert (len(types), types.get("m", "a"), types.take_changes()) == (1, None, ({}, set()))


def test_refused_types_are_learned_anew_except_declared_ones() -> None:
    types, heard = FieldTypes({("m", "n"): "int"}), []
    types.watch(lambda: heard.append(1))
    types.learn("m", [("a", "string")], 0)
    types.take_changes()
    types.doubt("m", ["a", "n", "unheard"])
    assert (types.get("m", "a"), types.get("m", "n"), heard) == (None, "int", [1])
    types.replace({("m", "a"): "string"})
    assert types.get("m", "a") is None
    types.learn("m", [("a", "float")], 0)
    assert types.take_changes() == ({("m", "a"): "float"}, {("m", "a")})


def test_types_are_bounded_and_those_beyond_are_counted() -> None:
    types = FieldTypes(most=2)
    types.learn("m", [("a", "float"), ("b", "float"), ("c", "float")], 0)
    assert (len(types), types.ignored, types.get("m", "c")) == (2, 1, None)


def test_types_are_forgotten_only_if_their_message_did_not_reach_the_disk() -> None:
    types, heard = FieldTypes(), []
    types.watch(lambda: heard.append(1))
    for arrived_ns, field in enumerate("abcd", 1):
        types.learn("m", [(field, "float")], arrived_ns)
    types.settle(1)
    assert heard == []
    types.take_changes()
    types.take_back(3)
    assert [types.get("m", field) for field in "abcd"] == ["float", None, None, "float"]
    assert heard == [1]
    assert types.take_changes() == ({}, {("m", "b"), ("m", "c")}), "they may have been kept in the meantime"
    types.take_back(3)
    assert heard == [1]
    types.settle(4)
    assert not types.unsure


def test_a_type_that_a_profile_has_declared_since_is_not_taken_back() -> None:
    types = FieldTypes()
    types.learn("m", [("a", "float")], 1)
    types.declare({("m", "a"): "int"})
    types.take_back(1)
    assert types.get("m", "a") == "int"
