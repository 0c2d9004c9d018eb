from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.devices.device_view import MAX_TAKEOVERS
from gateway.devices.fleet import Fleet
from gateway.devices.presence import Presence
from gateway.ledger import Entry, Kind, Ledger
from gateway.line_protocol import parse_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


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


def points(entries: list[Entry]) -> list[tuple[object, object, int]]:
    """(connected, reason, time) of each point, which must be one of the device's."""
    found: list[tuple[object, object, int]] = []
    for entry in entries:
        measurement, tags, fields, time_ns = parse_line(entry.payload)
        assert (measurement, tags, entry.kind, entry.lines) == ("device_status", {"device": "a"}, Kind.PRESENCE, 1)
        found.append((fields["connected"], fields["reason"], time_ns))
    return found


def presence_in(fleet: Fleet) -> Presence:
    return Presence(fleet, lambda _entry, _owner: None)


def test_connect_and_disconnect_are_data() -> None:
    recorded: list[Entry] = []
    fleet, connection = Fleet(Ledger()), Connection()
    presence = Presence(fleet, lambda entry, _owner: recorded.append(entry))
    view = presence.connected("a", connection, 5)
    assert (*view.state_at(6), view.reason) == ("live", 5, "connected")
    presence.disconnected("a", connection, "keepalive", 9)
    assert (*view.state_at(9), view.reason) == ("offline", 9, "keepalive")
    assert points(recorded) == [(True, "connected", 5), (False, "keepalive", 9)]


def test_the_newest_connection_wins_and_the_record_ends_connected() -> None:
    recorded: list[Entry] = []
    fleet, older, newer = Fleet(Ledger()), Connection(), Connection()
    presence = Presence(fleet, lambda entry, _owner: recorded.append(entry))
    presence.connected("a", older, 1)
    view = presence.connected("a", newer, 20)
    presence.disconnected("a", older, "closed", 30)
    assert older.told == ["replaced"]
    assert view.connection is newer
    assert points(recorded) == [(True, "connected", 1), (False, "replaced", 19), (True, "connected", 20)]


def test_devices_of_an_earlier_run_are_known() -> None:
    ledger = Ledger()
    ledger.account("before")
    fleet = Fleet(ledger)
    fleet.view("now")
    assert fleet.known() == {"before", "now"}


def test_an_id_that_two_devices_fight_over_rests_for_a_minute() -> None:
    fleet, second = Fleet(Ledger()), 1_000_000_000
    for number in range(MAX_TAKEOVERS + 1):
        assert fleet.busy("a", number * second) is None
        presence_in(fleet).connected("a", Connection(), number * second)
    last = MAX_TAKEOVERS * second
    assert "taking over" in (fleet.busy("a", last + 59 * second) or "")
    assert fleet.busy("a", last + 60 * second) is None
    assert fleet.busy("b", last) is None


def test_a_device_that_reconnects_now_and_then_never_rests() -> None:
    fleet, second = Fleet(Ledger()), 1_000_000_000
    for number in range(100):
        assert fleet.busy("a", number * 5 * second) is None
        presence_in(fleet).connected("a", Connection(), number * 5 * second)


def test_there_is_an_end_to_how_many_devices_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.devices.fleet.MAX_DEVICES", 2)
    fleet = Fleet(Ledger())
    for device in ("a", "b"):
        presence_in(fleet).connected(device, Connection(), 1)
    assert fleet.busy("a", 2) is None
    assert fleet.busy("c", 2) == "too many devices are known"


def test_a_look_makes_no_device_known() -> None:
    ledger = Ledger()
    fleet = Fleet(ledger)
    ledger.account("before").received = 3
    assert fleet.look("before").account.received == 3
    assert fleet.look("never").account.received == 0
    assert (list(fleet.known()), fleet.views) == (["before"], {})
    assert fleet.look("before").state_at(1) == ("offline", 0)
    assert fleet.view("before") is fleet.look("before")


START = 1_700_000_000_000_000_000


def test_a_census_counts_every_known_device_and_tells_where_the_state_is_news() -> None:
    ledger = Ledger()
    fleet = Fleet(ledger)
    ledger.account("never here since the start")
    for device in ("a", "b", "c"):
        presence_in(fleet).connected(device, Connection(), START)
    presence_in(fleet).disconnected("c", fleet.views["c"].connection or Connection(), "peer", START)
    fleet.views["a"].told = "live"
    news: list[tuple[str, str]] = []

    def count() -> Iterator[dict[str, int]]:
        yield (yield from fleet.census(START, lambda view, now: news.append((view.id, now))))

    assert [counts for counts in count() if counts] == [{"live": 2, "late": 0, "stale": 0, "offline": 2}]
    assert news == [("b", "live"), ("c", "offline")]
