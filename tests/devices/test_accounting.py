from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from gateway.delivery import write_log
from gateway.delivery.batch import Batch, Span
from gateway.delivery.dead_letters import DeadLetters
from gateway.delivery.write_log import WriteLog
from gateway.delivery.write_result import BatchTooLarge, OperatorNeeded, PointRefused, RetryLater, Stored
from gateway.devices.accounting import RETRY_AFTER_FAILED_COMMIT_MS, Accounting
from gateway.devices.acks import Acks
from gateway.devices.fleet import Fleet
from gateway.devices.presence import Presence
from gateway.ledger import Entry, Kind, Ledger
from gateway.metrics import Metrics
from gateway.protocol.field_types import FieldTypes
from gateway.spool.files import Files
from gateway.state import checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class EntryOwner:
    def __init__(self, session_id: str = "s") -> None:
        self.session_id = session_id
        self.remote, self.profile, self.info, self.last_byte_at = "::1", "default", {}, 0.0
        self.heard: list[Any] = []

    def durable(self, numbered: int) -> None:
        self.heard.append(("durable", numbered))

    def append_failed(self, entries: Sequence[Entry], retry_after_ms: int) -> None:
        self.heard.append(("failed", [e.seq for e in entries], retry_after_ms))

    def stored(self, boot: str, messages: int) -> None:
        self.heard.append(("stored", boot, messages))

    def refused(self, readings: int) -> None:
        self.heard.append(("refused", readings))

    def replace(self) -> None:
        self.heard.append("replaced")

    def revoke(self) -> None:
        self.heard.append("revoked")


class Desk:
    """A bookkeeper with everything it writes to in reach."""

    def __init__(self, directory: Path) -> None:
        self.ledger = Ledger()
        self.fleet = Fleet(self.ledger)
        self.metrics = Metrics()
        self.dead_letters = DeadLetters(directory / "dead_letters.db")
        self.path = directory / "ledger.json"
        self.writes = WriteLog(directory / "writes.log")
        self.types = FieldTypes()
        self.types.learn("m", [("a", "float")], 0)
        self.keeper = self.keeper_of(self.ledger)

    def keeper_of(self, ledger: Ledger) -> Accounting:
        return Accounting(
            ledger,
            self.fleet,
            self.metrics,
            self.dead_letters,
            self.writes,
            self.types,
            self.path,
            Files(),
            acks=Acks(0.0, self.metrics.ack.observe),
        )

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.dead_letters.close()


def test_a_commit_is_counted_shown_and_acknowledged_once_per_owner(desk: Desk) -> None:
    a, b = EntryOwner(), EntryOwner()
    items = [
        (Entry("a", "x", seq=1, lines=2, arrived_ns=5, latest={"t": 1}), a),
        (Entry("b", "y", seq=9, lines=1, duplicate=2, rejected=1, arrived_ns=6, latest={"t": 7}), b),
        (Entry("a", "x", seq=2, lines=1, arrived_ns=7, latest={"t": 2, "h": 3}, corrected=1), a),
        (Entry("a", "x", lines=1, arrived_ns=8, latest={"h": 4}), a),
        (Entry("c", lines=1, kind=Kind.PRESENCE), None),
    ]
    desk.keeper.committed(1, 1_000_000_006, items, 0.002)
    assert a.heard == [("durable", 2)]
    assert b.heard == [("durable", 1)]
    assert desk.fleet.view("a").latest == {"t": 2, "h": 4}
    assert desk.fleet.view("a").last_data_ns == 8
    assert desk.ledger.total.sums()["received"] == 8
    assert desk.value("gateway_messages_received_total") == 4
    assert desk.value("gateway_readings_total", outcome="accepted") == 5
    assert desk.value("gateway_readings_total", outcome="rejected") == 1
    assert desk.value("gateway_readings_total", outcome="duplicate") == 2
    assert desk.value("gateway_readings_corrected_total") == 1
    assert desk.value("gateway_commit_seconds_count") == 1


def test_the_ledger_knows_before_the_device_does(desk: Desk) -> None:
    class Nosy(EntryOwner):
        def durable(self, numbered: int) -> None:
            super().durable(desk.ledger.account("a").sequence("x").durable)

    owner = Nosy()
    desk.keeper.committed(1, 0, [(Entry("a", "x", seq=4, lines=1), owner)], 0.001)
    assert owner.heard == [("durable", 4)]


def test_a_failed_commit_reaches_everybody_in_it_and_takes_numbers_back(desk: Desk) -> None:
    owner = EntryOwner()
    sequence = desk.ledger.account("a").sequence("x")
    sequence.accepted, sequence.durable = 6, 4
    items = [(Entry("a", "x", seq=5, lines=1), owner), (Entry("a", "x", seq=6, lines=1), owner)]
    desk.keeper.append_failed(items, OSError(28, "No space left on device"))
    assert sequence.accepted == 4
    assert owner.heard == [("failed", [5, 6], RETRY_AFTER_FAILED_COMMIT_MS)]
    assert desk.value("gateway_commit_failures_total") == 1
    assert desk.ledger.total.received == 0


def test_a_type_holds_once_a_reading_with_it_is_on_the_disk_and_no_longer_than_that_can_be(desk: Desk) -> None:
    disk_full = OSError(28, "No space left on device")
    for arrived_ns, field in ((10, "first"), (20, "second"), (30, "third")):
        desk.types.learn("m", [(field, "string")], arrived_ns)
    desk.keeper.committed(1, 0, [(Entry("a", "x", seq=1, lines=1, arrived_ns=10), EntryOwner())], 0.001)
    desk.keeper.append_failed([(Entry("a", "x", seq=2, lines=1, arrived_ns=20), EntryOwner())], disk_full)
    assert [desk.types.get("m", field) for field in ("first", "second", "third")] == ["string", None, "string"]
    desk.keeper.append_failed([(Entry("a", kind=Kind.PRESENCE, arrived_ns=40), None)], disk_full)
    assert desk.types.get("m", "third") == "string", "a presence taught nothing"
    desk.keeper.committed(2, 0, [(Entry("a", "x", seq=3, lines=1, arrived_ns=30), EntryOwner())], 0.001)
    assert not desk.types.unsure


def test_delivery_reaches_the_ledger_the_metrics_and_the_device(desk: Desk) -> None:
    owner, other = EntryOwner(), EntryOwner()
    presence = Presence(desk.fleet, lambda _entry, _owner: None)
    presence.connected("a", owner, 1)
    presence.connected("b", other, 1)
    desk.fleet.awaiting.add("a")
    entries = [Entry("a", "x", seq=5, lines=2), Entry("a", "x", seq=6, lines=1), Entry("b", "y", seq=1, lines=1)]
    desk.keeper.committed(1, 0, [(entry, None) for entry in entries], 0.001)
    desk.keeper.delivered(1, entries, {"a": 1})
    assert owner.heard == [("refused", 1), ("stored", "x", 2)]
    assert other.heard == []
    assert desk.ledger.account("a").sums() | {"gaps": 0} == {
        "received": 3, "stored": 2, "duplicate": 0, "rejected": 1, "dropped": 0, "pending": 0, "gaps": 0,
    }  # fmt: skip
    assert desk.value("gateway_readings_stored_total") == 3


def test_what_the_spool_dropped_is_in_the_ledger_and_the_metrics(desk: Desk) -> None:
    entries = [Entry("a", lines=3), Entry("a", lines=1, kind=Kind.PRESENCE)]
    desk.keeper.committed(1, 0, [(entry, None) for entry in entries], 0.001)
    desk.keeper.dropped(1, entries)
    assert desk.ledger.account("a").dropped == 3
    assert desk.value("gateway_readings_total", outcome="dropped") == 3


def test_what_pends_beyond_what_the_spool_holds_was_damaged(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    for record_id, device in ((1, "a"), (2, "b"), (3, "a")):
        desk.keeper.committed(record_id, 0, [(Entry(device, lines=2), None)], 0.001)
    desk.keeper.left(6, lambda: pytest.fail("all is there"))
    desk.keeper.left(4, lambda: {"a": 2, "b": 2})
    assert desk.ledger.account("a").sums()["dropped"] == desk.ledger.total.dropped == 2
    assert desk.value("gateway_readings_total", outcome="dropped") == 2
    assert "2 readings were in damaged places" in caplog.text
    desk.keeper.left(6, lambda: {"a": 4, "b": 2})
    assert desk.ledger.total.dropped == 0
    assert desk.value("gateway_readings_total", outcome="dropped") == 2, "a counter does not go back"


def test_recovery_counts_what_the_checkpoint_has_not(desk: Desk) -> None:
    first, second, third = ([Entry("a", "x", seq=n, lines=1)] for n in (1, 2, 3))
    desk.keeper.committed(1, 0, [(first[0], None)], 0.001)
    desk.keeper.delivered(1, first, {})
    desk.keeper.checkpoint()()
    again = Desk(desk.path.parent)
    again.ledger = checkpoint.load(desk.path)
    again.keeper = again.keeper_of(again.ledger)
    for record_id, entries, delivered in ((1, first, True), (2, second, True), (3, third, False)):
        again.keeper.recovered(record_id, 0, entries, delivered)
    again.dead_letters.close()
    sums = again.ledger.account("a").sums()
    assert (sums["received"], sums["stored"], sums["pending"]) == (3, 2, 1)
    assert again.ledger.account("a").sequence("x").durable == 3


def test_a_damaged_checkpoint_is_told_and_counted_again_from_the_spool(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "ledger.json"
    for damage in (b"{", b"[]", b'{"accounts":{"a":1}}', json.dumps({"accounts": {}}).encode()):
        path.write_bytes(damage)
        assert checkpoint.load(path).accounts == {}
        assert str(path) in caplog.text
        caplog.clear()


def test_answers_of_the_database_are_counted_by_kind(desk: Desk) -> None:
    for outcome in (
        Stored(),
        RetryLater("timeout", "t"),
        OperatorNeeded("unauthorized", "u"),
        PointRefused("x", "y"),
        BatchTooLarge("z", "w"),
    ):
        desk.keeper.wrote(Batch(b"m v=1 1\n", 1, (Span(7, 0, 1),)), 0.1, outcome)
    desk.writes.flush()
    assert [write.first for write in write_log.read(desk.path.with_name("writes.log"))] == [(7, 0)]
    desk.keeper.dead_letter("malformed", b"m a=1 1\n")
    assert desk.types.get("m", "a") == "float"
    desk.keeper.dead_letter("type_conflict", b"m a=1 1\n")
    desk.keeper.dead_letter("type_conflict", b"nonsense\n")
    assert desk.types.get("m", "a") is None, "the next reading decides"
    assert desk.value("gateway_write_seconds_count") == 5
    assert desk.value("gateway_write_errors_total", kind="timeout") == 1
    assert desk.value("gateway_dead_letters_total", reason="type_conflict") == 2
