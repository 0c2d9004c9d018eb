from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.devices.problems import MAX_PROBLEMS, MAX_TEXT, Problems

if TYPE_CHECKING:
    import pytest

MS = 1_000_000


def fault(code: str = "wrong_type", field: str | None = "temp", message: str = "expected float") -> dict[str, Any]:
    return {"index": 0, "code": code, "message": message} | ({} if field is None else {"field": field})


def test_what_repeats_is_one_problem_with_a_count_and_its_last_words() -> None:
    problems = Problems()
    problems.told("a", [fault(message="expected float, got string"), fault("bad_message", None)], 3, 5 * MS)
    problems.told("a", [fault(message="expected float, got bool")], None, 9 * MS)
    assert problems.of("a") == [
        {
            "at": 9,
            "code": "wrong_type",
            "field": "temp",
            "message": "expected float, got bool",
            "seq": None,
            "count": 2,
        },
        {"at": 5, "code": "bad_message", "field": None, "message": "expected float", "seq": 3, "count": 1},
    ]
    assert problems.of("b") == []


def test_a_device_keeps_its_last_problems_only_and_a_repeated_one_stays() -> None:
    problems = Problems()
    for number in range(2 * MAX_PROBLEMS):
        problems.told("a", [fault(field=f"f{number}"), fault(field="always")], number, number * MS)
    kept = problems.of("a")
    assert len(kept) == MAX_PROBLEMS
    assert (kept[0]["field"], kept[0]["count"]) == ("always", 2 * MAX_PROBLEMS)
    assert {problem["field"] for problem in kept} - {"always"} == {
        f"f{number}" for number in range(MAX_PROBLEMS + 1, 2 * MAX_PROBLEMS)
    }


def test_the_devices_that_had_none_for_longest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.devices.problems.MAX_DEVICES", 2)
    problems = Problems()
    for device in ("a", "b", "a", "c"):
        problems.told(device, [fault()], None, MS)
    assert [bool(problems.of(device)) for device in "abc"] == [True, False, True]


def test_long_texts_are_cut() -> None:
    problems = Problems()
    problems.told("a", [fault(field="f" * 1000, message="m" * 10_000)], None, MS)
    assert len(problems.of("a")[0]["field"]) == len(problems.of("a")[0]["message"]) == MAX_TEXT
