from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from gateway.ledger import Entry
from gateway.live.changes import ALL, MAX_FIELDS, ChosenDevice, ChosenDevices, DeviceChange, WholeFleet

if TYPE_CHECKING:
    from collections.abc import Iterator

START = 1_000_000


def message(time_ns: int, **values: object) -> Entry:
    return Entry("a", lines=1, latest=values, time_ns=time_ns)


def named(changes: list[DeviceChange]) -> list[tuple[str, str]]:
    assert [change.number for change in changes] == sorted({change.number for change in changes})
    return [(change.device, "state" if change.is_state else "data") for change in changes]


def test_a_device_is_there_once_at_its_newest_change() -> None:
    fleet = WholeFleet(START)
    number = START
    for devices in (("a", "b"), ("c", "a"), ("a",)):
        fleet.fresh_data.update(dict.fromkeys(devices))
        number = fleet.fold(number)
    assert named(list(fleet.since(START, readings=True))) == [("b", "data"), ("c", "data"), ("a", "data")]
    after_b = next(iter(fleet.since(START, readings=True))).number
    assert named(list(fleet.since(after_b, readings=True))) == [("c", "data"), ("a", "data")]
    assert list(fleet.since(fleet.newest, readings=True)) == []
    assert fleet.fold(number) == number == fleet.newest


def test_states_and_data_are_in_one_order_and_data_can_be_left_out() -> None:
    fleet = WholeFleet(START)
    fleet.fresh_states["a"] = None
    number = fleet.fold(START)
    fleet.fresh_data.update({"a": None, "b": None})
    fleet.fresh_states["b"] = None
    fleet.fold(number)
    assert named(list(fleet.since(START, readings=True))) == [
        ("a", "state"),
        ("a", "data"),
        ("b", "data"),
        ("b", "state"),
    ]
    assert named(list(fleet.since(START, readings=False))) == [("a", "state"), ("b", "state")]


def test_who_has_seen_nothing_gets_what_did_not_change_and_can_stop_anywhere_in_it() -> None:
    fleet = WholeFleet(START)
    fleet.fresh_data["b"] = None
    fleet.fold(START)
    fleet.recall(["a", "b"])
    fleet.recall(["a", "b", "later"])
    everything = list(fleet.since(ALL, readings=True))
    assert named(everything) == [("a", "state"), ("a", "data"), ("b", "state"), ("b", "data")]
    for place, change in enumerate(everything, 1):
        assert list(fleet.since(change.number, readings=True)) == everything[place:]
    assert named(list(fleet.since(START, readings=True))) == [("b", "data")]


class Read(list[str]):
    """Devices that count how many of them were looked at."""

    count = 0

    def __iter__(self) -> Iterator[str]:
        for device in super().__iter__():
            self.count += 1
            yield device


def test_a_piece_of_a_large_fleet_costs_no_more_than_a_piece() -> None:
    fleet, devices = WholeFleet(START), Read(f"d{number}" for number in range(1000))
    fleet.recall(devices)
    begin = list(islice(fleet.since(ALL, readings=True), 10))
    assert named(begin)[-1] == ("d4", "data")
    assert devices.count == 5


def test_a_chosen_device_has_each_new_field_with_its_own_time() -> None:
    watch, other = ChosenDevice("a", 0), ChosenDevice("b", 1)
    source = ChosenDevices([watch, other], START)
    watch.data(message(50, temp=2, hum=40))
    watch.data(message(10, temp=1))
    number = watch.fold(other.fold(START))
    [change] = source.since(START, readings=True)
    assert change.fields == {"temp": (50, 2), "hum": (50, 40)}
    watch.data(message(60, hum=41))
    watch.state()
    watch.fold(number)
    state, change = source.since(number, readings=True)
    assert (state.is_state, change.fields) == (True, {"hum": (60, 41)})
    assert source.newest == change.number
    assert [change.is_state for change in source.since(number, readings=False)] == [True]
    both = list(source.since(START, readings=True))
    assert both[-1].fields == {"temp": (50, 2), "hum": (60, 41)}


def test_who_has_seen_nothing_of_chosen_devices_gets_them_whole() -> None:
    source = ChosenDevices([ChosenDevice("a", 0), ChosenDevice("b", 1)], START)
    assert named(list(source.since(ALL, readings=True))) == [
        ("a", "state"), ("a", "data"), ("b", "state"), ("b", "data")
    ]  # fmt: skip
    for seen in (ALL, source.since(ALL, readings=True)[1].number):
        assert all(change.fields is None for change in source.since(seen, readings=True)), "in every piece"
    assert list(source.since(START, readings=True)) == []


def test_the_fields_that_are_kept_are_bounded() -> None:
    watch = ChosenDevice("a", 0)
    number = START
    for batch in range(3):
        watch.data(message(batch, **{f"f{batch}-{field}": field for field in range(MAX_FIELDS // 2)}))
        number = watch.fold(number)
    [change] = watch.since(START, readings=True)
    assert change.fields is not None
    assert len(change.fields) == MAX_FIELDS
    assert "f0-0" not in change.fields
