from __future__ import annotations

from gateway.ledger import Entry, Kind, Ledger
from gateway.reading import parse_line
from gateway.server.fleet import Fleet


class Connection:
    session_id, remote, profile, last_byte_at = "s", "127.0.0.1", "default", 0.0

    def __init__(self) -> None:
        self.info: dict[str, str] = {}
        self.told: list[str] = []

    def replace(self) -> None:
        self.told.append("replaced")

    def revoke(self) -> None:
        self.told.append("revoked")

    def stored(self, boot: str, messages: int) -> None:
        self.told.append(f"stored {boot} {messages}")


def presence(entries: list[Entry]) -> list[tuple[object, object, int]]:
    """(connected, reason, time) of each point, which must be one of the device's."""
    found = []
    for entry in entries:
        measurement, tags, fields, time_ns = parse_line(entry.payload)
        assert (measurement, tags, entry.kind, entry.lines) == ("device_status", {"device": "a"}, Kind.PRESENCE, 1)
        found.append((fields["connected"], fields["reason"], time_ns))
    return found


def test_connect_and_disconnect_are_data() -> None:
    recorded: list[Entry] = []
    fleet, connection = Fleet(Ledger(), recorded.append), Connection()
    view = fleet.connected("a", connection, 5)
    assert (view.state, view.changed_ns) == ("online", 5)
    fleet.disconnected("a", connection, "keepalive", 9)
    assert (view.state, view.changed_ns) == ("offline", 9)
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
