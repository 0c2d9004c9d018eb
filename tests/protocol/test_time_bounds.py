from __future__ import annotations

from typing import Any

import pytest

from gateway.config.sections import ProfileSection, TimestampsSection
from gateway.errors import ReadingError
from gateway.protocol.device_clock import DeviceClock, Sample
from gateway.protocol.field_rules import Rulebook
from gateway.protocol.field_types import FieldTypes
from gateway.protocol.subprotocols import CBOR, SENML
from gateway.protocol.time_bounds import DEVICE_TIME, Vetting, bounds_of
from gateway.protocol.timestamps import MAX_NS, MIN_NS
from tests.support.sessions import NOW_NS, Bench

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
CORRECTS = {"timestamps": {"max_future": "1m", "max_age": "1h", "when_outside": "correct"}}
NOW_S = NOW_NS // SECOND


def clock(low_ns: int, high_ns: int) -> DeviceClock:
    made = DeviceClock("b1")
    made.note(Sample(NOW_NS, low_ns, high_ns, exchanged=True))
    return made


def vetting(known: DeviceClock | None = None, **section: Any) -> Vetting:
    bounds = bounds_of(TimestampsSection(**{"when_outside": "correct", "max_future": "1m", "max_age": "1h"} | section))
    assert bounds is not None
    return Vetting(bounds, known, NOW_NS)


def refused(vet: Vetting, time_ns: int, *, by_clock: bool = True) -> str:
    with pytest.raises(ReadingError) as caught:
        vet.settle(time_ns, "x", "ts", by_clock=by_clock)
    assert (caught.value.code, caught.value.field) == ("timestamp_out_of_range", "ts")
    return caught.value.message


def test_a_profile_that_keeps_has_no_bounds() -> None:
    assert bounds_of(TimestampsSection()) is None


@pytest.mark.parametrize("off_ns", [-HOUR, -1, 0, 60 * SECOND])
def test_a_time_within_the_bounds_stays_whatever_is_known_of_the_clock(off_ns: int) -> None:
    assert vetting(clock(HOUR, HOUR + 2)).settle(NOW_NS + off_ns, "x", "ts", by_clock=True) == (NOW_NS + off_ns, 0)


@pytest.mark.parametrize("off_ns", [-HOUR - 1, 60 * SECOND + 1])
def test_a_time_outside_is_refused_with_the_bounds_in_the_message(off_ns: int) -> None:
    wanted = 'expected a time at most 1h before and 1m after its arrival, got "x"'
    assert refused(vetting(when_outside="refuse"), NOW_NS + off_ns) == wanted
    assert refused(vetting(), NOW_NS + off_ns) == f"{wanted}, and the clock is not known to be wrong"
    assert refused(vetting(clock(-HOUR, HOUR)), NOW_NS + off_ns) == f"{wanted}, and the clock is not known to be wrong"
    assert refused(vetting(clock(-HOUR, -HOUR), when_outside="refuse"), NOW_NS + off_ns) == wanted
    other = refused(vetting(clock(-5 * HOUR, -5 * HOUR)), NOW_NS + off_ns)
    assert other == f"{wanted}, which is no such time when corrected by -18000.000 s either"


def test_without_a_greatest_age_a_time_still_has_to_be_one_that_a_database_holds() -> None:
    assert refused(vetting(max_age=None), NOW_NS + HOUR).startswith("expected a time at most 1m after its arrival, got")
    assert vetting(max_age=None).settle(MIN_NS, "x", "ts", by_clock=True) == (MIN_NS, 0)
    assert "corrected by" in refused(vetting(clock(-(10**20), -(10**20)), max_age=None), MAX_NS)


def test_an_age_is_not_corrected_by_the_clock() -> None:
    ahead = vetting(clock(2 * HOUR, 2 * HOUR))
    assert ahead.settle(NOW_NS - 2 * HOUR, 1, "ts", by_clock=True) == (NOW_NS, 2 * HOUR)
    refused(ahead, NOW_NS - 2 * HOUR, by_clock=False)


@pytest.mark.parametrize(("known", "text"), [(None, "=5i"), ("int", "=5i"), ("float", "=5.0"), ("string", None)])
def test_the_devices_own_time_has_the_type_that_the_field_has(known: Any, text: str | None) -> None:
    types = FieldTypes()
    if known is not None:
        types.learn("m", [(DEVICE_TIME, known)], 0)
    rules = Rulebook(types).rules(ProfileSection(strict=True, fields={"a": {}}), "m")  # type: ignore[dict-item]
    if text is None:
        with pytest.raises(ReadingError, match="expected string"):
            rules.device_time(5, {"a": 1})
    else:
        assert rules.device_time(5, {"a": 1}) == f",{DEVICE_TIME}{text}"
        assert types.get("m", DEVICE_TIME) == known, "nothing was accepted yet"
        rules.learn(0)
        assert types.get("m", DEVICE_TIME) == (known or "int")


def ready(**options: Any) -> Bench:
    """A device whose clock is an hour ahead, and that has asked for the time."""
    bench = Bench(profile=CORRECTS, **options).ready()
    bench.send({"type": "time", "t0": NOW_S * 1000 + 3_600_000})
    return bench


def test_the_devices_own_time_of_a_message_refused_whole_is_not_known() -> None:
    bench = ready()
    wrong, deep = {"ts": NOW_S + 3600.25, "a": 1}, {"a": {"b": {"c": {"d": 1}}}}
    assert bench.send([wrong, deep])[-1]["answers"]["code"] == "bad_message"
    types = bench.encoder._book._types
    assert types.get("telemetry", DEVICE_TIME) is None
    bench.send([wrong])
    assert types.get("telemetry", DEVICE_TIME) == "int"


def test_cbor_is_corrected_as_json_is() -> None:
    message = {"seq": 1, "readings": [{"ts": NOW_S + 3600.25, "a": 1}, {"ts": NOW_S + 9999, "a": 2}]}
    (stored, rejected) = ready(subprotocol=CBOR).send(message)
    assert stored["stores"]["lines"] == [f"telemetry,device=d1 a=1,device_time_ms={NOW_S + 3600}250i {NOW_S}250000000"]
    assert [error["index"] for error in rejected["answers"]["errors"]] == [1]


def test_senml_is_corrected_record_by_record_and_ages_are_not() -> None:
    bench = Bench(profile=CORRECTS, subprotocol=SENML)
    bench.good()
    bench.send({"type": "time", "t0": NOW_S * 1000 + 3_600_000})
    pack = [
        {"bn": "d1:", "bt": NOW_S + 3600, "n": "a", "v": 1},
        {"n": "b", "v": 2, "t": -1},
        {"n": "c", "v": 3, "t": 7200},
    ]
    (stored, rejected) = bench.send(pack)
    assert stored["stores"]["lines"] == [
        f"telemetry,device=d1 a=1,device_time_ms={NOW_S + 3600}000i {NOW_S}000000000",
        f"telemetry,device=d1 b=2,device_time_ms={NOW_S + 3599}000i {NOW_S - 1}000000000",
    ]
    assert [(error["index"], error["field"]) for error in rejected["answers"]["errors"]] == [(2, "t")]
    (stored, rejected) = bench.send(
        [{"n": "a", "v": 1, "t": -3601}, {"n": "a", "v": 2, "t": -3600}, {"n": "b", "v": 3}]
    )
    assert len(stored["stores"]["lines"]) == 2
    assert "not known to be wrong" in rejected["answers"]["errors"][0]["message"]


def test_a_message_that_is_ordinary_but_for_its_time_is_corrected_too() -> None:
    bench = ready()
    for seq in range(3):
        bench.send({"seq": seq, "ts": NOW_S * 1000 - 5, "values": {"a": 1}})
    (stored,) = bench.send({"seq": 3, "ts": NOW_S * 1000 + 3_600_000, "values": {"a": 1}})
    assert stored["stores"]["lines"] == [f"telemetry,device=d1 a=1,device_time_ms={NOW_S + 3600}000i {NOW_S}000000000"]


def test_a_device_that_asks_and_then_sets_its_clock_is_stored_as_sent() -> None:
    """The gateway does not know yet that the clock is right now."""
    (stored,) = ready().send({"seq": 1, "ts": NOW_S, "values": {"a": 1}})
    assert stored["stores"]["lines"] == [f"telemetry,device=d1 a=1 {NOW_S}000000000"]


def test_the_time_of_arrival_is_always_within_the_bounds() -> None:
    """Times of arrival do not go back with a clock that was set back, and are not the device's fault."""
    bench = Bench(profile=CORRECTS).ready()
    bench.send({"a": 1})
    bench.now_ns -= 2 * HOUR
    (stored,) = bench.send({"a": 1})
    assert stored["stores"]["lines"] == [f"telemetry,device=d1 a=1 {NOW_NS + 1}"]


def test_after_a_hello_with_another_boot_nothing_is_known() -> None:
    bench = ready()
    bench.send({"type": "hello", "boot": "b2"})
    (_, rejected) = bench.send({"seq": 1, "ts": NOW_S + 3600, "a": 1})
    assert rejected["answers"]["errors"][0]["code"] == "timestamp_out_of_range"


def test_the_ledger_counts_what_was_refused() -> None:
    bench = ready()
    bench.send({"seq": 1, "readings": [{"ts": NOW_S + 3600, "a": 1}, {"ts": NOW_S + 9999, "a": 2}]})
    bench.commit()
    bench.deliver()
    account = bench.ledger.account("d1")
    assert (account.received, account.stored, account.rejected, account.pending) == (2, 1, 1, 0)


def slow(least_s: int, most_s: int) -> Bench:
    """A device whose clock is so far behind the gateway's."""
    bench = Bench(profile=CORRECTS).ready()
    bench.encoder.clock = clock(least_s * SECOND, most_s * SECOND)
    return bench


def times(effects: list[Any]) -> list[int]:
    """Seconds before the arrival at which readings of a message were stored."""
    return [NOW_S - int(line.split()[-1]) // SECOND for line in effects[0]["stores"]["lines"]]


def test_a_message_that_reaches_over_the_bound_is_corrected_whole() -> None:
    """A clock that is 59 minutes slow, readings a minute apart: they stay a minute apart, each with its own time."""
    bench = Bench(profile=CORRECTS).ready()
    bench.encoder.clock = clock(59 * 60 * SECOND - 20_000_000, 59 * 60 * SECOND + 20_000_000)
    (stored,) = bench.send([{"ts": NOW_S - 3540 - 60 * n, "a": n} for n in range(4)])
    assert times([stored]) == [0, 60, 120, 180]
    assert all("device_time_ms=" in line for line in stored["stores"]["lines"])


def test_senml_that_reaches_over_the_bound_is_corrected_whole() -> None:
    bench = Bench(profile=CORRECTS, subprotocol=SENML)
    bench.good()
    bench.encoder.clock = clock(3540 * SECOND, 3540 * SECOND)
    pack = [{"n": "a", "v": n, "t": NOW_S - 3540 - 60 * n} for n in range(4)]
    assert times(bench.send([*pack, {"n": "a", "v": 4, "t": 1e18}, {"n": "a", "v": 5, "t": -7}])) == [
        0,
        60,
        120,
        180,
        7,
    ]


def test_a_time_that_would_be_after_its_arrival_was_told_by_a_clock_that_was_set() -> None:
    (stored,) = slow(3540, 3540).send(
        [{"ts": NOW_S - 3601, "a": 1}, {"ts": NOW_S - 5, "a": 2}, {"age_ms": 1000, "a": 3}]
    )
    assert times([stored]) == [61, 5, 1]


@pytest.mark.parametrize(("least_s", "most_s"), [(0, 1), (10, 40), (-1, 0), (-40, -10)])
def test_a_clock_that_is_hardly_wrong_corrects_only_times_that_would_be_refused(least_s: int, most_s: int) -> None:
    outside = -3601 if least_s >= 0 else 61
    (stored, *_) = slow(least_s, most_s).send([{"ts": NOW_S - 600, "a": 1}, {"ts": NOW_S + outside, "a": 2}])
    assert times([stored])[0] == 600


def test_a_time_that_the_common_correction_moves_outside_is_refused() -> None:
    (stored, rejected) = slow(-3540, -3540).send([{"ts": NOW_S + 3540, "a": 1}, {"ts": NOW_S - 100, "a": 2}])
    assert times([stored]) == [0]
    assert "when corrected by -3540.000 s" in rejected["answers"]["errors"][0]["message"]


def test_a_time_that_cannot_be_read_does_not_keep_the_others_from_being_corrected() -> None:
    (stored, rejected) = slow(3540, 3540).send([{"ts": "noon", "a": 1}, 5, {"ts": NOW_S - 3601, "a": 2}])
    assert times([stored]) == [61]
    assert [error["index"] for error in rejected["answers"]["errors"]] == [0, 1]


@pytest.mark.parametrize(
    ("message", "corrected"),
    [
        ({"readings": [{"ts": NOW_S - 3540 - 60 * n, "a": n} for n in range(4)] + [{"a": 5}]}, 4),
        ({"t0": (NOW_S - 3700) * 1000, "dt": 60_000, "columns": {"a": [1, 2, None]}}, 2),
        ({"ts": NOW_S - 30, "a": 1}, 0),
    ],
)
def test_a_corrected_reading_is_counted_once(message: dict[str, Any], corrected: int) -> None:
    bench = slow(3540, 3540)
    bench.send({"seq": 1, **message})
    bench.send({"seq": 1, **message})
    assert [entry.corrected for entry in bench.queue] == [corrected, 0]
