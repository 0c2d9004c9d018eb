from __future__ import annotations

import tracemalloc
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.devices.device_view import MAX_LATEST, DeviceView
from gateway.ledger import Account, Entry

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


def connection() -> Any:
    return SimpleNamespace(paused=False)


def fed(*seconds: float) -> DeviceView:
    """A connected device with messages at these times."""
    view = DeviceView("a", Account())
    view.connection, view.changed_ns, view.reason = connection(), START, "connected"
    feed(view, *seconds)
    return view


def feed(view: DeviceView, *seconds: float) -> None:
    for moment in seconds:
        view.show(Entry("a", lines=1, arrived_ns=at(moment)))


def at(seconds: float) -> int:
    return START + round(seconds * SECOND)


def state(view: DeviceView, seconds: float) -> str:
    return view.state_at(at(seconds))[0]


def test_a_device_is_late_and_stale_by_its_own_rhythm() -> None:
    quick, slow = fed(*range(1, 21)), fed(*range(60, 1260, 60))
    assert (quick.rhythm_ns, slow.rhythm_ns) == (SECOND, 60 * SECOND)
    assert [state(quick, 20 + silent) for silent in (2.9, 3, 9.9, 10)] == ["live", "late", "late", "stale"]
    assert [state(slow, 1200 + silent) for silent in (120, 121, 304, 305)] == ["live", "late", "late", "stale"]
    assert quick.state_at(at(25)) == ("late", at(23))
    assert quick.state_at(at(99)) == ("stale", at(30))
    assert (quick.reason_at(at(21)), quick.reason_at(at(25))) == ("connected", "silent")


def test_a_device_that_the_gateway_does_not_read_is_not_late() -> None:
    view = fed(1, 2, 3)
    assert view.connection is not None
    view.connection.paused = True
    assert state(view, 100) == "live"
    view.connection.paused = False
    assert state(view, 100) == "stale"


def test_data_that_came_without_a_socket_came_by_request() -> None:
    view = DeviceView("a", Account())
    assert not view.by_request, "it never sent"
    feed(view, 1)
    assert (view.by_request, state(view, 1)) == (True, "offline")
    view.connection, view.changed_ns = connection(), at(2)
    feed(view, 3)
    assert not view.by_request
    view.connection, view.changed_ns = None, at(4)
    assert not view.by_request, "its data is that of its socket"
    feed(view, 3.9)
    assert not view.by_request, "what the socket brought became durable when it had gone"
    feed(view, 5)
    assert view.by_request


def test_until_its_rhythm_is_known_a_device_has_minutes() -> None:
    for view in (fed(), fed(0.5)):
        assert view.rhythm_ns == 0
        assert [state(view, seconds) for seconds in (100, 130)] == ["live", "late"]


def test_a_device_that_wakes_once_a_minute_for_a_burst_is_not_late_in_between() -> None:
    wakes = [60.0 * minute + 0.2 * message for minute in range(1, 31) for message in range(5)]
    view = fed(*wakes)
    assert 40 * SECOND < view.rhythm_ns < 70 * SECOND
    assert state(view, wakes[-1] + 59) == "live"


def test_an_outage_or_a_backlog_does_not_make_another_rhythm_of_it() -> None:
    moments = [*range(1, 21), *range(5000, 5100)]
    view = fed(*moments)
    assert 0.9 * SECOND < view.rhythm_ns < 1.5 * SECOND
    assert view.state_at(at(5100)) == ("live", at(5000)), "since the data came again"
    backlog = fed(*range(1, 21), *(30 + n / 1000 for n in range(500)), *range(31, 41))
    assert state(backlog, 42) == "live"


def test_the_time_between_two_connections_is_no_rhythm() -> None:
    view = fed(1)
    view.changed_ns = at(1000)
    feed(view, 1001)
    assert view.rhythm_ns == 0


def test_a_clock_that_is_set_back_is_no_rhythm_either() -> None:
    view = fed(1, 2, 3, 2000, 1000, 1001)
    view.changed_ns = 0
    assert view.rhythm_ns > 0
    assert state(view, 1002) == "live"


def test_the_rate_is_that_of_messages_and_fades_with_silence() -> None:
    view = fed(*(n / 50 for n in range(1, 1501)))
    assert view.rate_at(at(30)) == pytest.approx(50, rel=0.1)
    assert view.rate_at(at(130)) == 0.01
    assert fed(1).rate_at(at(2)) == 0


def test_the_newest_values_are_shown_whatever_comes_late() -> None:
    view = DeviceView("a", Account())
    view.show(Entry("a", lines=1, arrived_ns=1, latest={"temp": 2, "hum": 40}, time_ns=50))
    view.show(Entry("a", lines=1, arrived_ns=2, latest={"temp": 1, "old": True}, time_ns=10))
    view.show(Entry("a", lines=0, rejected=1, arrived_ns=3))
    assert view.latest == {"temp": 2, "hum": 40, "old": True}
    assert view.last_data_ns == 3


def test_latest_values_are_bounded() -> None:
    view = DeviceView("a", Account())
    for number in range(3):
        values = {f"f{number}-{field}": field for field in range(MAX_LATEST // 2)}
        view.show(Entry("a", lines=1, latest=values, time_ns=number))
    assert len(view.latest) == MAX_LATEST
    assert "f0-0" not in view.latest
    assert f"f2-{MAX_LATEST // 2 - 1}" in view.latest


def test_a_device_takes_little_memory() -> None:
    """Some 200,000 may be known: what is kept of each has to be a few numbers."""
    accounts = {f"device-{n}": Account() for n in range(2000)}
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    views = [DeviceView(device, account) for device, account in accounts.items()]
    for n, view in enumerate(views):
        for message in range(3):
            view.show(Entry(view.id, lines=1, arrived_ns=START + n + message * SECOND))
    taken = (tracemalloc.get_traced_memory()[0] - before) / len(views)
    tracemalloc.stop()
    assert taken < 450
