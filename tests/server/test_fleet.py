from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import pytest

from gateway.ledger import Account, Entry, Kind, Ledger
from gateway.reading import parse_line
from gateway.server.fleet import MOST_LATEST, MOST_TAKEOVERS, DeviceView, Fleet

if TYPE_CHECKING:
    from collections.abc import Iterator


class Connection:
    session_id, remote, profile, last_byte_at, paused = "s", "127.0.0.1", "default", 0.0, False

    def __init__(self) -> None:
        self.info: dict[str, str] = {}
        self.told: list[str] = []

    def replace(self) -> None:
        self.told.append("replaced")

    def dropped(self, boot: str, messages: int) -> None:
        self.told.append(f"dropped {boot} {messages}")

    def revoke(self) -> None:
        self.told.append("revoked")

    def refused(self, readings: int) -> None:
        self.told.append(f"refused {readings}")

    def stored(self, boot: str, messages: int) -> None:
        self.told.append(f"stored {boot} {messages}")


def presence(entries: list[Entry]) -> list[tuple[object, object, int]]:
    """(connected, reason, time) of each point, which must be one of the device's."""
    found: list[tuple[object, object, int]] = []
    for entry in entries:
        measurement, tags, fields, time_ns = parse_line(entry.payload)
        assert (measurement, tags, entry.kind, entry.lines) == ("device_status", {"device": "a"}, Kind.PRESENCE, 1)
        found.append((fields["connected"], fields["reason"], time_ns))
    return found


def test_connect_and_disconnect_are_data() -> None:
    recorded: list[Entry] = []
    fleet, connection = Fleet(Ledger(), recorded.append), Connection()
    view = fleet.connected("a", connection, 5)
    assert (*view.state_at(6), view.reason) == ("live", 5, "connected")
    fleet.disconnected("a", connection, "keepalive", 9)
    assert (*view.state_at(9), view.reason) == ("offline", 9, "keepalive")
    assert presence(recorded) == [(True, "connected", 5), (False, "keepalive", 9)]


def test_the_newest_connection_wins_and_the_record_ends_connected() -> None:
    recorded: list[Entry] = []
    fleet, older, newer = Fleet(Ledger(), recorded.append), Connection(), Connection()
    fleet.connected("a", older, 1)
    view = fleet.connected("a", newer, 20)
    fleet.disconnected("a", older, "closed", 30)
    assert older.told == ["replaced"]
    assert view.connection is newer
    assert presence(recorded) == [(True, "connected", 1), (False, "replaced", 19), (True, "connected", 20)]


def test_devices_of_an_earlier_run_are_known() -> None:
    ledger = Ledger()
    ledger.account("before")
    fleet = Fleet(ledger, list[Entry]().append)
    fleet.view("now")
    assert fleet.known() == {"before", "now"}


def test_the_newest_values_are_shown_whatever_comes_late() -> None:
    view = Fleet(Ledger(), list[Entry]().append).view("a")
    view.show(Entry("a", lines=1, arrived_ns=1, latest={"temp": 2, "hum": 40}, time_ns=50))
    view.show(Entry("a", lines=1, arrived_ns=2, latest={"temp": 1, "old": True}, time_ns=10))
    view.show(Entry("a", lines=0, rejected=1, arrived_ns=3))
    assert view.latest == {"temp": 2, "hum": 40, "old": True}
    assert view.last_data_ns == 3


def test_latest_values_are_bounded() -> None:
    view = Fleet(Ledger(), list[Entry]().append).view("a")
    for number in range(3):
        values = {f"f{number}-{field}": field for field in range(MOST_LATEST // 2)}
        view.show(Entry("a", lines=1, latest=values, time_ns=number))
    assert len(view.latest) == MOST_LATEST
    assert "f0-0" not in view.latest
    assert f"f2-{MOST_LATEST // 2 - 1}" in view.latest


def test_an_id_that_two_devices_fight_over_rests_for_a_minute() -> None:
    fleet, second = Fleet(Ledger(), list[Entry]().append), 1_000_000_000
    for number in range(MOST_TAKEOVERS + 1):
        assert fleet.busy("a", number * second) is None
        fleet.connected("a", Connection(), number * second)
    last = MOST_TAKEOVERS * second
    assert "taking over" in (fleet.busy("a", last + 59 * second) or "")
    assert fleet.busy("a", last + 60 * second) is None
    assert fleet.busy("b", last) is None


def test_a_device_that_reconnects_now_and_then_never_rests() -> None:
    fleet, second = Fleet(Ledger(), list[Entry]().append), 1_000_000_000
    for number in range(100):
        assert fleet.busy("a", number * 5 * second) is None
        fleet.connected("a", Connection(), number * 5 * second)


def test_there_is_an_end_to_how_many_devices_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.server.fleet.MOST_DEVICES", 2)
    fleet = Fleet(Ledger(), list[Entry]().append)
    for device in ("a", "b"):
        fleet.connected(device, Connection(), 1)
    assert fleet.busy("a", 2) is None
    assert fleet.busy("c", 2) == "too many devices are known"


def test_a_look_makes_no_device_known() -> None:
    ledger = Ledger()
    fleet = Fleet(ledger, lambda _: None)
    ledger.account("before").received = 3
    assert fleet.look("before").account.received == 3
    assert fleet.look("never").account.received == 0
    assert (list(fleet.known()), fleet.views) == (["before"], {})
    assert fleet.look("before").state_at(1) == ("offline", 0)
    assert fleet.view("before") is fleet.look("before")


SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


def fed(*seconds: float) -> DeviceView:
    """A connected device with messages at these times."""
    fleet = Fleet(Ledger(), list[Entry]().append)
    view = fleet.connected("a", Connection(), START)
    for moment in seconds:
        fleet.show(Entry("a", lines=1, arrived_ns=at(moment)))
    return view


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
    fleet, connection = Fleet(Ledger(), list[Entry]().append), Connection()
    fleet.connected("a", connection, START)
    fleet.show(Entry("a", lines=1, arrived_ns=at(1)))
    fleet.disconnected("a", connection, "peer", at(2))
    fleet.connected("a", Connection(), at(1000))
    fleet.show(Entry("a", lines=1, arrived_ns=at(1001)))
    assert fleet.views["a"].rhythm_ns == 0


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


def test_a_census_counts_every_known_device_and_tells_where_the_state_is_news() -> None:
    ledger = Ledger()
    fleet = Fleet(ledger, list[Entry]().append)
    ledger.account("never here since the start")
    for device in ("a", "b", "c"):
        fleet.connected(device, Connection(), START)
    fleet.disconnected("c", fleet.views["c"].connection or Connection(), "peer", START)
    fleet.views["a"].told = "live"
    news: list[tuple[str, str]] = []

    def count() -> Iterator[dict[str, int]]:
        yield (yield from fleet.census(START, lambda view, now: news.append((view.id, now))))

    assert [counts for counts in count() if counts] == [{"live": 2, "late": 0, "stale": 0, "offline": 2}]
    assert news == [("b", "live"), ("c", "offline")]


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
