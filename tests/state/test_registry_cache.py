from __future__ import annotations

import hmac
import statistics
import time
from dataclasses import replace

import pytest

from gateway.errors import UnknownDevice
from gateway.state.registered_device import NO_TOKEN, Device, DeviceRow, hashed
from gateway.state.registry_cache import RegistryCache

HOUR_NS = 3600 * 10**9


def device(name: str, token: str = "own", old: str | None = None, until_ns: int = 0) -> DeviceRow:
    own = hashed(token)
    return DeviceRow(Device(name, old_until_ns=until_ns, proof=own), own, NO_TOKEN if old is None else hashed(old))


def revoked(name: str) -> DeviceRow:
    return DeviceRow(Device(name, revoked=True), NO_TOKEN, NO_TOKEN)


def knowing(*devices: DeviceRow) -> RegistryCache:
    known = RegistryCache()
    known.take_in(devices)
    return known


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The time in ns, to be set."""
    now = [time.time_ns()]
    monkeypatch.setattr(time, "time_ns", lambda: now[0])
    return now


def test_a_device_is_let_in_by_its_own_token_only() -> None:
    known = knowing(device("kiln-1", "own"), device("kiln-2", "others"), revoked("kiln-3"))
    assert known.authenticate("kiln-1", "own") == known.show("kiln-1") == known.lookup("kiln-1")
    for wrong in ("others", "", "ow", "own ", "OWN", "ü" * 43, "\ud800"):
        assert known.authenticate("kiln-1", wrong) is None
    for name in ("kiln-3", "kiln-4", "KILN-1"):
        assert known.authenticate(name, "own") is None
    assert [found.id for found in known.list()] == ["kiln-1", "kiln-2", "kiln-3"]
    assert known.lookup("kiln-4") is None
    with pytest.raises(UnknownDevice, match="no device kiln-4"):
        known.show("kiln-4")


def test_every_comparison_is_constant_in_time_and_takes_place(monkeypatch: pytest.MonkeyPatch) -> None:
    known = knowing(device("known"), revoked("revoked"))
    compared: list[tuple[int, int]] = []
    original = hmac.compare_digest

    def watched(one: bytes, two: bytes) -> bool:
        compared.append((len(one), len(two)))
        return original(one, two)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    for name in ("known", "unknown", "revoked"):
        known.authenticate(name, "own")
    assert compared == [(32, 32)] * 6


def test_an_unknown_device_costs_what_a_wrong_token_costs() -> None:
    known = knowing(device("known"))

    def cost(name: str) -> float:
        begin = time.process_time()
        for _ in range(2000):
            known.authenticate(name, "x" * 43)
        return time.process_time() - begin

    rounds = [(cost("known"), cost("unknown")) for _ in range(15)]
    of_known, of_unknown = (statistics.median(costs) for costs in zip(*rounds, strict=True))
    assert 0.5 < of_known / of_unknown < 2


def test_a_certificate_holds_as_long_as_its_device_is_not_revoked() -> None:
    known = knowing(device("kiln-1"))
    shown = replace(known.show("kiln-1"), proof=b"")
    known.take_in([device("kiln-1", "new")])
    assert known.holds(shown)
    known.take_in([revoked("kiln-1")])
    assert not known.holds(shown)


def test_an_old_token_counts_until_its_time_and_is_over_then(clock: list[int]) -> None:
    known = knowing(device("kiln-1", "new", "old", clock[0] + HOUR_NS))
    by_old = known.authenticate("kiln-1", "old")
    assert by_old is not None
    assert known.holds(by_old)
    assert known.over(clock[0]) == []
    clock[0] += HOUR_NS
    assert known.authenticate("kiln-1", "old") is None
    assert not known.holds(by_old)
    assert known.over(clock[0]) == [("kiln-1", hashed("new"))]
    known.take_in([device("kiln-1", "new")])
    assert known.over(clock[0]) == []


def test_an_old_token_is_over_with_the_first_use_of_the_new_one_and_until_that_is_written_down(
    clock: list[int],
) -> None:
    known = knowing(device("kiln-1", "new", "old", clock[0] + HOUR_NS))
    assert known.authenticate("kiln-1", "new") is not None
    assert known.authenticate("kiln-1", "old") is None
    over = known.over(clock[0])
    assert over == known.over(clock[0]) == [("kiln-1", hashed("new"))]
    known.take_in([device("kiln-1", "new")])
    known.written_down(over)
    assert known.over(clock[0]) == []


def test_what_was_taken_in_is_told_with_what_was_known_before_and_ended_tokens_once(clock: list[int]) -> None:
    first, second = device("a", "first"), device("a", "second", "first", clock[0] + HOUR_NS)
    known = knowing(first)
    assert known.take_in([second, device("b")]) == [(first, second), (None, device("b"))]
    assert known.take_ended() == frozenset()
    known.take_in([device("a", "second"), revoked("b")])
    assert known.take_ended() == {"a", "b"}
    assert known.take_ended() == frozenset()


def test_what_a_reader_holds_does_not_change_under_it() -> None:
    known = knowing(device("a"))
    ids = known.ids()
    known.take_in([device("b")])
    assert list(ids) == ["a"]
    assert list(known.ids()) == ["a", "b"]
