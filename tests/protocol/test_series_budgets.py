from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.config.sections import ProfileSection
from gateway.errors import MessageError, ReadingError
from gateway.protocol import codec, series
from gateway.protocol.encoder import MAX_OTHERS, Encoder
from gateway.protocol.field_rules import Rulebook
from gateway.protocol.field_types import FieldTypes
from gateway.protocol.series_budgets import ASSURED, MAX_SHARED, PER_DAY, Budgets
from gateway.time_units import NS_PER_DAY as DAY_NS

NOW = 1_700_000_000_000_000_000
TS = NOW // 1_000_000


def refusal(budgets: Budgets, device: str, measurement: str | None, now_ns: int = NOW, **tags: str) -> str | None:
    """The tag that is named, None if the series is taken."""
    refused = budgets.refused
    try:
        budgets.begin_series(device, measurement, tags, now_ns)
    except ReadingError as error:
        return error.field if (error.code, budgets.refused) == ("too_many_series", refused + 1) else "wrong"
    return None


def test_a_series_counts_once_a_day_and_the_refusal_names_the_tag_that_changes() -> None:
    budgets = Budgets(3)
    for _ in range(2):
        for batch in "123":
            assert refusal(budgets, "d", None, site="north", batch=batch) is None
    assert refusal(budgets, "d", None, site="north", batch="4") == "batch"
    assert refusal(budgets, "d", None, site="south", batch="1") == "batch"
    assert refusal(budgets, "d", "other") == "m"
    assert refusal(budgets, "d", None, site="north", batch="2") is None, "what is in use goes on"
    assert budgets.refused == 3


def test_another_device_has_a_budget_of_its_own() -> None:
    budgets = Budgets(1)
    assert refusal(budgets, "a", "m1") is None
    assert refusal(budgets, "a", "m2") == "m"
    assert refusal(budgets, "b", "m2") is None


def test_the_order_of_tags_makes_no_series() -> None:
    budgets = Budgets(1)
    budgets.begin_series("d", None, {"a": "1", "b": "2"}, NOW)
    budgets.begin_series("d", None, {"b": "2", "a": "1"}, NOW)
    assert len(budgets) == 1


@pytest.mark.parametrize("later", [NOW + DAY_NS, NOW - 1])
def test_a_day_later_or_after_a_clock_was_set_back_it_begins_anew(later: int) -> None:
    budgets = Budgets(1)
    assert refusal(budgets, "d", "m1") is None
    assert refusal(budgets, "d", "m2", NOW + DAY_NS - 1) == "m"
    assert refusal(budgets, "d", "m2", later) is None
    assert len(budgets) == 1


def test_a_limit_that_was_raised_counts_at_once() -> None:
    budgets = Budgets(1)
    assert refusal(budgets, "d", "m1") is None
    budgets.per_day = 2
    assert refusal(budgets, "d", "m2") is None


def begun(budgets: Budgets, device: str, tries: int, now_ns: int = NOW) -> int:
    """How many of so many series that begin a device gets."""
    return sum(refusal(budgets, device, f"m{n}", now_ns) is None for n in range(tries))


def test_a_fleet_of_any_size_has_its_ordinary_series() -> None:
    budgets = Budgets()
    devices = MAX_SHARED // 30 + 100
    assert all(begun(budgets, f"d{n}", 30) == 30 for n in range(devices))
    assert len(budgets) == 30 * devices > MAX_SHARED


def test_the_largest_users_are_refused_first_and_told_which_bound_it_was() -> None:
    """Five that went mad use up what all share: the others have as large a part of as much."""
    budgets = Budgets(1000, shared=3000)
    mad = [begun(budgets, f"mad{n}", 1000) for n in range(5)]
    assert mad[:3] == [1000] * 3, "three use all but 300 of it"
    assert min(mad) == mad[-1] == ASSURED + 3000 // 5
    assert begun(budgets, "good", 300) == 300
    assert budgets.refused == budgets.refused_shared == 5000 - sum(mad)
    for device, said in [("mad0", "1000 series, as many as it may"), ("mad4", "all devices .* has used up 700, and")]:
        with pytest.raises(ReadingError, match=said):
            budgets.begin_series(device, "one more", {}, NOW)
    assert budgets.refused == budgets.refused_shared + 1


def test_the_shared_budget_is_bounded_and_each_device_still_has_its_hundred() -> None:
    budgets = Budgets(1000, shared=300)
    for device in range(40):
        assert begun(budgets, f"bad{device}", 400) >= ASSURED
    assert len(budgets) == 40 * ASSURED + 2 * 300
    assert begun(budgets, "good", 200) == ASSURED


@pytest.mark.parametrize("each", [ASSURED, PER_DAY])
def test_series_of_a_day_ago_make_room(each: int) -> None:
    budgets = Budgets(PER_DAY, shared=PER_DAY)
    for device in range(12):
        begun(budgets, f"gone{device}", each)
    assert begun(budgets, "good", PER_DAY, NOW + DAY_NS) == PER_DAY
    assert len(budgets) == PER_DAY


def encoder(budgets: Budgets, device: str = "d1", types: FieldTypes | None = None) -> Encoder:
    profile = ProfileSection(allowed_tags=("batch",))
    return Encoder(device, profile, {}, Rulebook(FieldTypes() if types is None else types, budgets))


def errors(encoder: Encoder, message: bytes) -> list[tuple[int, str, str | None]]:
    encoded = encoder.encode(codec.decode(message), NOW)  # type: ignore[arg-type]
    return [(fault["index"], fault["code"], fault.get("field")) for fault in encoded.rejects]


def test_a_bomb_of_tags_is_refused_reading_by_reading_and_the_ordinary_ones_go_on() -> None:
    some = encoder(Budgets(5))
    readings = ",".join(f'{{"ts":{TS + n},"tags":{{"batch":"{n}"}},"values":{{"a":1}}}}' for n in range(8))
    found = errors(some, f'{{"seq":1,"readings":[{readings},{{"a":2}}]}}'.encode())
    # one of the five is the field that is new
    assert found == [(n, "too_many_series", "batch") for n in (4, 5, 6, 7)]


def test_a_reconnect_brings_no_new_budget() -> None:
    budgets = Budgets(2)
    for n in range(4):
        found = errors(encoder(budgets), b'{"m":"m%d","values":{"a":1}}' % n)
        assert (found == []) is (n == 0), "the first is a measurement and a field"


@pytest.mark.parametrize(
    "bomb",
    [
        b'{"values":{"f%d":1}}',
        b'{"t0":1700000000000,"dt":1,"columns":{"f%d":[1,2]}}',
        b'{"t0":1700000000000,"dt":1,"columns":{"f%d":["x","y"]}}',
    ],
)
def test_a_bomb_of_fields_leaves_room_for_those_of_others(bomb: bytes) -> None:
    types = FieldTypes()
    budgets = Budgets(10)
    some = encoder(budgets, types=types)
    refused = [n for n in range(50) if errors(some, bomb % n)]
    assert refused == list(range(10, 50))
    assert len(types) == 10
    assert errors(encoder(budgets, "d2", types), b'{"values":{"temp":1}}') == []
    assert errors(some, b'{"values":{"f1":"x" }}' if b"x" in bomb else b'{"values":{"f1":1}}') == []


@pytest.mark.parametrize(
    "message",
    [
        {"seq": 7, "m": "x" * 64, "tags": {"batch": "y" * 256}, "readings": [{"a": 1}] * 5000},
        {"seq": 7, "t0": TS, "dt": 1, "columns": {f"{n:064}": [n] * 100 for n in range(256)}},
    ],
)
def test_names_and_tags_that_all_points_repeat_are_bounded(
    message: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series, "MAX_REPEATED", 1024**2)
    data = orjson.dumps(message)
    assert len(data) < 128 * 1024
    with pytest.raises(MessageError) as caught:
        encoder(Budgets()).encode(codec.decode(data), NOW)  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.seq) == ("bad_message", 7)
    assert caught.value.readings in {5000, 100}


def test_a_session_holds_the_rules_of_few_measurements() -> None:
    some = encoder(Budgets())
    for n in range(5 * MAX_OTHERS):
        assert errors(some, b'{"m":"m%d","values":{"a":1}}' % n) == []
        assert len(some._others) <= MAX_OTHERS
