from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.ledger import Account, Entry, Ledger, Sequence
from gateway.protocol.messages import MAX_SEQ, Authenticate, Send, all_of
from gateway.protocol.rate_limits import Allowance
from gateway.protocol.session import CloseReason, Session, SessionState
from gateway.protocol.subprotocols import CBOR, JSON, SENML, Subprotocol
from tests.support.sessions import NOW_NS, Bench, encoder, rates, terms


def kinds(effects: list[Any]) -> list[str]:
    """Each effect by its name, answers by their type."""
    return [effect["answers"]["type"] if "answers" in effect else next(iter(effect)) for effect in effects]


@pytest.mark.parametrize("subprotocol", [JSON, CBOR, SENML], ids=lambda known: known.name)
def test_a_new_device_is_approved_in_every_subprotocol(subprotocol: Subprotocol) -> None:
    bench = Bench(subprotocol=subprotocol, enrol=True)
    claim, secret = "ABCD-EFGH", "s" * 22
    assert bench.send({"type": "hello", "claim": claim, "secret": secret, "boot": "b7"}) == [
        {"enrols": {"claim": claim, "secret": secret}}
    ]
    assert bench.run(bench.session.enrolled("TOKEN")) == []  # it is not pending yet
    (pending,) = bench.run(bench.session.pending(claim, 900_000))
    assert pending == {"answers": {"type": "pending", "claim": claim, "expires_in_ms": 900_000}}
    assert bench.run(bench.session.pending(claim, 900_000)) == []
    assert bench.run(bench.session.enrolled("TOKEN")) == [{"answers": {"type": "token", "token": "TOKEN"}}]
    (welcome,) = bench.good()
    assert (welcome["answers"]["type"], welcome["answers"]["boot"]) == ("welcome", "b7")


ORDINARY = b'{"seq":%d,"ts":1700000000123,"values":{"a":%d}}'


def test_the_ordinary_case_is_one_entry_and_nothing_around_it() -> None:
    bench = Bench().ready()
    bench.session.receive(ORDINARY % (1, 1), NOW_NS)
    assert bench.session.receive(ORDINARY % (3, 2), NOW_NS) == Entry(
        "d1",
        "b1",
        3,
        1,
        gaps=1,
        payload=b"telemetry,device=d1 a=2 1700000000123000000\n",
        arrived_ns=NOW_NS,
        latest={"a": 2},
        time_ns=1_700_000_000_123_000_000,
    )


# No exponents: the two ways may write them differently, as the protocol allows.
NUMBERS = st.integers() | st.integers(-(10**9), 10**9).map(lambda thousandths: thousandths / 1000)
SCALARS = st.one_of(NUMBERS, st.booleans(), st.none(), st.text())
VALUES = st.dictionaries(
    st.sampled_from(["a", "b", "c d", "e:f", 'g"h', "{i}", "j\\\\k", "é", "time", "_x", ""]), SCALARS, max_size=3
)
NEARLY_ORDINARY = st.fixed_dictionaries(
    {"values": VALUES | SCALARS},
    optional={
        "seq": st.integers(-1, 9) | st.just(MAX_SEQ + 1) | SCALARS,
        "ts": st.integers(10**11 - 1, 10**12) | SCALARS,
        "m": st.just("n") | SCALARS,
        "tags": st.just({}) | SCALARS,
        "age_ms": st.integers(0, 9),
        "type": st.none() | st.just("time"),
        "readings": st.just([{"x": 1}]) | st.none(),
        "columns": st.just({"x": [1]}),
        "x": SCALARS,
    },
)


class LongWay(Session):
    """Takes no message for an ordinary one."""

    __slots__ = ()

    def _ordinary(self, value: dict[str, Any], size: int, now_ns: int) -> None:
        pass


@settings(max_examples=300)
@given(
    st.lists(st.tuples(NEARLY_ORDINARY, st.sampled_from(["none", "commit", "fail"])), max_size=12),
    st.sampled_from([{}, {"burst": 4}, {"message_burst": 5}, {"byte_burst": 300}]),
)
def test_the_short_way_of_an_ordinary_message_has_the_effects_of_the_long_way(
    script: list[tuple[Any, str]], quota: dict[str, float]
) -> None:
    short, long = Bench(max_unacked=3, quota=quota).ready(), Bench(max_unacked=3, quota=quota).ready()
    long.session.__class__ = LongWay
    for message, then in script:
        data = json.dumps(message).encode()
        assert short.send_bytes(data, after_ms=1) == long.send_bytes(data, after_ms=1)
        if then == "commit":
            assert short.commit() == long.commit()
        elif then == "fail":
            assert short.commit_fails() == long.commit_fails()
    assert short.queue == long.queue
    assert short.ledger.account("d1") == long.ledger.account("d1")


@pytest.mark.parametrize("limit", ["burst", "message_burst", "byte_burst"])
def test_ordinary_messages_use_up_every_limit(limit: str) -> None:
    most = {"burst": 5.0, "message_burst": 5.0, "byte_burst": 260.0}[limit]
    bench = Bench(quota={limit: most}).ready()
    answers = [bench.send({"seq": n, "ts": NOW_NS // 10**6 + n, "values": {"a": 1}}) for n in range(9)]
    throttles = [said["answers"]["limit"] for effects in answers for said in effects if "answers" in said]
    assert len(throttles) == 1
    assert throttles[0].startswith({"burst": "readings", "message_burst": "messages", "byte_burst": "bytes"}[limit])


# Transitions, as the module draws them.


def test_unknown_to_ready_by_credentials_given_before() -> None:
    bench = Bench()
    assert bench.session._state is SessionState.UNKNOWN
    assert kinds(bench.good()) == ["welcome"]
    assert bench.session._state is SessionState.READY


def test_unknown_to_ready_by_a_hello_with_a_token() -> None:
    session = Session("d1", "s1", terms())
    hello = b'{"type":"hello","token":"T","boot":"b7","ack":"stored","info":{"fw":1}}'
    assert session.receive(hello, NOW_NS) == (Authenticate("T"),)
    assert (session._state, session.boot, session.ack, session.info) == (
        SessionState.UNKNOWN,
        "b7",
        "stored",
        {"fw": 1},
    )
    [welcome] = session.welcome(Account(boots={"b7": Sequence(9, 9, 4)}), encoder(), Allowance(rates()), NOW_NS)
    assert isinstance(welcome, Send)
    answer = orjson.loads(welcome.data)
    assert (answer["boot"], answer["ack"], answer["last_seq"], answer["session"]) == ("b7", "stored", 4, "s1")
    assert session._state is SessionState.READY


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"\xff",
        b"[]",
        b'{"a":1}',
        b'{"type":"hello"}',
        b'{"type":"hello","token":5}',
        b'{"type":"time"}',
    ],
)
def test_unknown_to_closed_by_anything_else(data: bytes) -> None:
    bench = Bench()
    assert bench.send_bytes(data) == [{"closes": 4401}]
    assert not bench.ledger.accounts, "strangers leave nothing behind"


def test_an_unauthenticated_connection_cannot_make_the_gateway_read_much() -> None:
    assert Bench(max_message_bytes=100).send_bytes(b" " * 101) == [{"closes": 1009}]


def test_ready_stays_ready_at_a_second_welcome() -> None:
    bench = Bench().ready()
    assert bench.good() == []
    assert bench.session.boot == "b1"


def test_a_closed_session_sends_nothing() -> None:
    bench = Bench().ready()
    bench.session.close(CloseReason.REPLACED)
    assert bench.send({"a": 1}) == bench.send_bytes(b"{") == bench.send({"type": "hello", "token": "T"}) == []


# Acks that wait.


LATER = [{"acks": "later"}]


def test_an_ack_waits_for_the_delay_and_covers_later_messages() -> None:
    bench = Bench(ack_delay_ms=50).ready()
    for seq in (1, 2):
        bench.send({"seq": seq, "a": 1})
    assert bench.commit() == LATER
    bench.send({"seq": 3, "a": 1})
    assert bench.commit() == LATER
    assert bench.run(bench.session.acknowledge()) == [{"answers": {"type": "ack", "seq": 3}}]
    assert bench.run(bench.session.acknowledge()) == []


def test_a_device_that_waits_for_each_ack_gets_it_at_once() -> None:
    bench = Bench(ack_delay_ms=50).ready()
    for seq in range(3):
        bench.send({"seq": seq, "a": 1})
        assert bench.commit() == [{"answers": {"type": "ack", "seq": seq}}]


def test_an_ack_at_level_stored_waits_too() -> None:
    bench = Bench(ack_delay_ms=50).ready(ack="stored")
    for seq in (1, 2):
        bench.send({"seq": seq, "a": 1})
    assert bench.commit() == []
    assert bench.run(bench.session.acknowledge()) == []
    assert bench.deliver() == LATER
    assert bench.run(bench.session.acknowledge()) == [{"answers": {"type": "ack", "seq": 2}}]


def test_an_ack_does_not_wait_when_half_the_window_is_used() -> None:
    bench = Bench(ack_delay_ms=50, max_unacked=6).ready()
    for seq in (1, 2):
        bench.send({"seq": seq, "a": 1})
    assert bench.commit() == LATER
    bench.send({"seq": 3, "a": 1})
    assert bench.commit() == [{"answers": {"type": "ack", "seq": 3}}]


@pytest.mark.parametrize(
    "reason", [CloseReason.REPLACED, CloseReason.REVOKED, CloseReason.RESTARTING, CloseReason.ONLY_TEXT]
)
def test_an_ack_that_is_owed_goes_out_before_the_close(reason: CloseReason) -> None:
    bench = Bench(ack_delay_ms=50).ready()
    for seq in (1, 2):
        bench.send({"seq": seq, "a": 1})
    assert bench.commit() == LATER
    assert kinds(bench.run(bench.session.close(reason))) == ["ack", "closes"]
    assert bench.run(bench.session.acknowledge()) == []


def test_a_hello_ends_the_wait_of_an_ack() -> None:
    bench = Bench(ack_delay_ms=50).ready()
    for seq in (1, 2):
        bench.send({"seq": seq, "a": 1})
    assert bench.commit() == LATER
    assert bench.send({"type": "hello", "boot": "b2"})[0]["answers"]["ack_delay_ms"] == 50
    assert bench.run(bench.session.acknowledge()) == []


def test_a_device_that_is_not_read_gets_a_throttle_if_it_wants_acks() -> None:
    bench = Bench()
    assert bench.run(bench.session.kept_waiting()) == []
    bench.ready()
    assert bench.run(bench.session.kept_waiting()) == [], "it numbers nothing"
    bench.send({"seq": 4, "a": 1})
    [told] = bench.run(bench.session.kept_waiting())
    assert (told["answers"]["limit"], told["answers"]["from_seq"]) == ("commit_queue", 5)
    assert "duplicate" not in bench.send({"seq": 5, "a": 1})[0]["stores"]
    assert bench.send({"seq": 5, "a": 1})[0]["stores"]["duplicate"] == 1
    bench.send({"type": "hello", "ack": "none"})
    assert bench.run(bench.session.kept_waiting()) == [], "it sends nothing again"


# Numbers.


def test_the_greatest_number() -> None:
    bench = Bench().ready()
    bench.send({"seq": MAX_SEQ, "a": 1})
    assert bench.commit() == [{"answers": {"type": "ack", "seq": MAX_SEQ}}]


def test_without_a_boot_numbers_are_the_sessions_own() -> None:
    ledger = Ledger()
    for name in ("s1", "s2"):
        bench = Bench(ledger=ledger, name=name)
        [welcome] = bench.good()
        assert (welcome["answers"]["boot"], welcome["answers"]["last_seq"]) == (name, None)
        [stored] = bench.send({"seq": 0, "a": 1})
        assert "duplicate" not in stored["stores"]
        bench.commit()


def test_a_message_in_flight_on_an_older_connection_is_a_duplicate_on_a_newer_one() -> None:
    ledger = Ledger()
    older, newer = Bench(ledger=ledger).ready(), Bench(ledger=ledger, name="s2").ready()
    older.send({"seq": 1, "a": 1})
    older.session.close(CloseReason.REPLACED)
    [stored] = newer.send({"seq": 1, "a": 1})
    assert stored["stores"]["duplicate"] == 1
    assert older.commit() == []
    assert newer.commit() == [{"answers": {"type": "ack", "seq": 1}}]
    assert ledger.account("d1").sums()["pending"] == 1


def test_a_window_at_level_stored_is_told_from_one_at_level_durable() -> None:
    bench = Bench(max_unacked=1).ready(ack="stored")
    bench.send({"seq": 1, "a": 1})
    assert bench.commit() == []
    assert kinds(bench.send({"seq": 2, "a": 1})) == ["throttle"]
    assert bench.deliver() == [{"answers": {"type": "ack", "seq": 1}}]
    assert kinds(bench.send({"seq": 2, "a": 1}, after_ms=100)) == ["stores"]


def test_last_seq_at_level_stored_is_what_the_database_has() -> None:
    bench = Bench().ready()
    bench.send({"seq": 1, "a": 1})
    bench.commit()
    assert bench.send({"type": "hello", "ack": "stored"})[0]["answers"]["last_seq"] is None
    bench.deliver()
    assert bench.send({"type": "hello"})[0]["answers"]["last_seq"] == 1


@pytest.mark.parametrize("ack", ["stored", "none"])
def test_nothing_to_acknowledge(ack: str) -> None:
    bench = Bench().ready(ack=ack)
    bench.send({"seq": 1, "a": 1})
    assert bench.commit() == []
    assert bench.run(bench.session.stored(0)) == []


def test_a_delivery_before_anything_is_known_to_be_stored() -> None:
    bench = Bench().ready(ack="stored")
    assert bench.run(bench.session.stored(1)) == []


# FailedCredentials of the disk.


def test_a_failed_commit_of_duplicates_only_is_an_ack() -> None:
    """They are safe, whatever became of their count."""
    bench = Bench().ready()
    bench.send({"seq": 1, "a": 1})
    bench.commit()
    bench.send({"seq": 1, "a": 1})
    assert bench.commit_fails() == [{"answers": {"type": "ack", "seq": 1}}]


def test_a_failed_commit_at_level_stored_opens_the_window_again() -> None:
    bench = Bench(max_unacked=1).ready(ack="stored")
    bench.send({"seq": 1, "a": 1})
    assert kinds(bench.commit_fails()) == ["throttle"]
    assert kinds(bench.send({"seq": 1, "a": 1}, after_ms=1000)) == ["stores"]
    bench.commit()
    assert bench.deliver() == [{"answers": {"type": "ack", "seq": 1}}]


def test_a_failed_commit_with_readings_that_the_device_does_not_send_again() -> None:
    bench = Bench().ready(ack="none")
    bench.send({"seq": 1, "readings": [{"a": 1}, {"a": 2}]})
    bench.send({"a": 3})
    [error] = bench.commit_fails()
    assert error["answers"]["code"] == "spool_full"
    assert "3 readings" in error["answers"]["message"]
    assert kinds(bench.send({"seq": 2, "a": 1})) == ["stores"]


def test_a_failed_commit_of_an_earlier_boot() -> None:
    bench = Bench().ready()
    bench.send({"seq": 1, "a": 1})
    bench.send({"type": "hello", "boot": "b2"})
    bench.send({"seq": 0, "a": 1})
    error, throttle = bench.commit_fails()
    assert "1 readings" in error["answers"]["message"]
    assert throttle["answers"]["from_seq"] == 0


def test_a_failed_commit_without_readings_needs_no_answer() -> None:
    bench = Bench().ready()
    bench.send({"values": {"a": []}})
    assert bench.commit_fails() == []


def test_an_entry_that_the_spool_refused() -> None:
    """Nothing was rolled back then: what is queued before it stays taken."""
    bench = Bench().ready()
    bench.send({"seq": 1, "a": 1})
    refused = bench.session.receive(b'{"seq":2,"a":1}', NOW_NS)
    [throttle] = bench.run(bench.session.append_failed([e for e in all_of(refused) if isinstance(e, Entry)], 500))
    assert throttle["answers"]["from_seq"] == 2
    assert bench.commit() == [{"answers": {"type": "ack", "seq": 1}}]
    [stored] = bench.send({"seq": 2, "a": 1})
    assert "duplicate" not in stored["stores"]


# What is kept with an entry.


def test_verdicts_of_rejects_and_errors_are_kept() -> None:
    bench = Bench().ready()
    bench.send({"values": {"a": []}})
    bench.send({"seq": 1, "type": "what"})
    bench.send({"seq": 2, "a": 1}, room=False)
    bench.send([{"a": 1}], room=False)
    codes = [[fault["code"] for fault in orjson.loads(entry.verdicts)] for entry in bench.queue]
    assert codes == [["wrong_type"], ["unknown_type"], ["spool_full"]]
    assert all(entry.arrived_ns == NOW_NS for entry in bench.queue)


def test_entries_without_points_have_no_latest_values() -> None:
    bench = Bench().ready()
    bench.send({"seq": 1, "a": 1})
    bench.send({"seq": 1, "a": 1})
    bench.send([{"a": 1}], room=False)
    assert [entry.latest for entry in bench.queue] == [{"a": 1}, None, None]


# Types that fields keep.

TOO_DEEP = {"c": {"d": {"e": 1}}}
FORMS = {
    "one": {"a": "x"},
    "several": {"readings": [{"a": "x"}, {"a": "y"}]},
    "measurement": {"m": "n", "a": "x"},
    "block": {"t0": NOW_NS // 10**6, "dt": 1, "columns": {"a": ["x", "y"]}},
    "block of numbers": {"t0": NOW_NS // 10**6, "dt": 1, "columns": {"a": [1, 2]}},
}


def learned(bench: Bench) -> set[str]:
    """The fields whose types are known."""
    return {name for _, name in bench.encoder._book._types._types}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("why", ["throttle", "spool_full", "duplicate"])
def test_a_message_that_is_not_accepted_teaches_no_types(form: str, why: str) -> None:
    bench = Bench(quota={"burst": 2}).ready()
    bench.send({"seq": 1, "readings": [{"z": 1}, {"z": 2}]})
    if why == "throttle":
        assert kinds(bench.send({"seq": 2, **FORMS[form]})) == ["throttle"]
    elif why == "duplicate":
        assert "duplicate" in bench.send({"seq": 1, **FORMS[form]})[0]["stores"]
    else:
        assert kinds(bench.send(FORMS[form], room=False)) == ["stores", "reject"]
    assert learned(bench) == {"z"}
    assert kinds(bench.send({"seq": 2, **FORMS[form]}, after_ms=600_000)) == ["stores"]
    assert learned(bench) == {"z", "a"}


@pytest.mark.parametrize(
    "message",
    [
        {"readings": [{"a": "x"}, {"m": "n", "a": True}, {"b": {**TOO_DEEP}}]},
        {"t0": NOW_NS // 10**6, "dt": 1, "columns": {"a": ["x", "y"], "b": [1, TOO_DEEP]}},
    ],
)
def test_a_message_that_is_refused_whole_teaches_no_types(message: dict[str, Any]) -> None:
    bench = Bench().ready()
    assert kinds(bench.send({"seq": 1, **message})) == ["stores", "error"]
    assert learned(bench) == set()
    assert kinds(bench.send({"seq": 2, "readings": [{"a": 1}, {"m": "n", "a": 1}]})) == ["stores"]


def test_readings_are_judged_by_those_before_them_in_a_message_that_comes_again() -> None:
    bench = Bench(quota={"burst": 1}).ready()
    bench.send({"seq": 1, "z": 1})
    message = {"seq": 2, "readings": [{"a": 1}, {"a": "x"}, {"a": 2}]}
    assert kinds(bench.send(message)) == ["throttle"]
    (stored, rejected) = bench.send(message, after_ms=600_000)
    assert len(stored["stores"]["lines"]) == 2
    assert [fault["index"] for fault in rejected["answers"]["errors"]] == [1]


# Strikes.


def test_the_minute_slides() -> None:
    bench = Bench(strikes_per_minute=3).ready()
    for _ in range(20):
        for _ in range(3):
            assert kinds(bench.send_bytes(b"{")) == ["error"]
        bench.now_ns += 60 * 10**9
    for _ in range(3):
        bench.send_bytes(b"{")
    assert kinds(bench.send_bytes(b"{")) == ["error", "closes"]


def test_strikes_are_kept_for_a_minute_only() -> None:
    bench = Bench(strikes_per_minute=1000).ready()
    for _ in range(500):
        bench.send_bytes(b"{", after_ms=1000)
    assert bench.session._strikes is not None
    assert len(bench.session._strikes) <= 60


@given(st.binary(max_size=60))
def test_any_bytes_have_an_answer(data: bytes) -> None:
    for bench in (Bench(), Bench().ready()):
        bench.send_bytes(data)


class Device(RuleBasedStateMachine):
    """A device that may do anything, a disk that may fail, connections that may break: nothing is lost or doubled."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.sent: dict[int, int] = {}
        self.kept: dict[int, int] = {}
        self.connection = 0
        self.connect("durable")

    @rule(ack=st.sampled_from(["durable", "stored"]))
    def connect(self, ack: str) -> None:
        """The queue is the spool's: it outlives the connection."""
        old = getattr(self, "bench", None)
        self.connection += 1
        self.bench = Bench(ledger=self.ledger, name=f"s{self.connection}", max_unacked=3)
        if old is not None:
            old.session.close(CloseReason.REPLACED)
            self.bench.queue, self.bench.committed, self.bench.record = old.queue, old.committed, old.record
        self.bench.ready(ack=ack)

    @rule(seq=st.integers(0, 12), readings=st.integers(0, 3), bad=st.booleans(), room=st.booleans())
    def send(self, seq: int, readings: int, bad: bool, room: bool) -> None:
        readings = self.sent.setdefault(seq, readings)
        message: dict[str, Any] = {"seq": seq, "readings": [{"ts": 1 + n, f"f{seq}": 1} for n in range(readings)]}
        if readings == 1 and not bad:
            message = {"seq": seq, "ts": 10**12, "values": {"f": seq}}
        if bad:
            message["readings"] = [*message["readings"], {"a": []}]
        before = self.bench.session._flow.sequence.accepted if self.bench.session.open else 99
        effects = self.bench.send(message, room=room, after_ms=10)
        stored = [effect["stores"] for effect in effects if "stores" in effect]
        if seq <= before and self.bench.session.open:
            assert stored
        for entry in stored:
            assert entry["seq"] == seq
            assert ("lines" in entry) <= (seq > before)
            assert room or "lines" not in entry
        if not stored and self.bench.session.open:
            assert kinds(effects) in ([], ["throttle"])

    @rule()
    def commit(self) -> None:
        for entry in self.bench.queue:
            if entry.lines:
                assert entry.seq not in self.kept, "stored twice"
                self.kept[entry.seq] = entry.lines
        self.check_acks(self.bench.commit())

    @rule()
    def deliver(self) -> None:
        self.check_acks(self.bench.deliver())

    @precondition(lambda self: self.bench.queue)
    @rule()
    def fail(self) -> None:
        effects = self.bench.commit_fails()
        for effect in effects:
            if "answers" in effect and effect["answers"]["type"] == "throttle":
                assert effect["answers"]["from_seq"] > self.bench.session._flow.sequence.durable
        self.check_acks(effects)

    def check_acks(self, effects: list[Any]) -> None:
        sequence = self.ledger.account("d1").sequence("b1")
        for effect in effects:
            if "answers" in effect and effect["answers"]["type"] == "ack":
                level = sequence.stored if self.bench.session.ack == "stored" else sequence.durable
                assert effect["answers"]["seq"] == level

    @invariant()
    def accounts_are_in_balance(self) -> None:
        sums = self.ledger.account("d1").sums()
        assert sums["pending"] >= 0
        sequence = self.ledger.account("d1").sequence("b1")
        assert sequence.stored <= sequence.durable <= sequence.accepted
        waiting = {entry.seq for entry in self.bench.queue if entry.lines}
        assert all(seq <= sequence.accepted for seq in waiting)

    def teardown(self) -> None:
        """A device that resends in order gets everything acknowledged in the end, on a disk that works."""
        self.connect("durable")
        self.commit()
        welcome = self.bench.send({"type": "hello"})[0]["answers"]
        last = -1 if welcome["last_seq"] is None else welcome["last_seq"]
        for seq in range(last + 1, 14):
            assert kinds(self.bench.send({"seq": seq, "readings": [{"ts": 1, "z": 1}]})) == ["stores"]
            assert self.bench.commit() == [{"answers": {"type": "ack", "seq": seq}}]
        self.bench.deliver()
        sums = self.ledger.account("d1").sums()
        assert sums["pending"] == 0
        assert sums["received"] == sums["stored"] + sums["duplicate"] + sums["rejected"]


Device.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestDevice = Device.TestCase


def test_a_device_at_level_stored_is_told_what_a_full_spool_discarded() -> None:
    bench = Bench(max_unacked=2).ready(ack="stored")
    for seq in (1, 2):
        bench.send({"seq": seq, "a": 1})
    bench.commit()
    assert bench.send({"seq": 3, "a": 1})[0]["answers"]["limit"] == "max_unacked"
    dropped, bench.committed = bench.committed, []
    bench.ledger.dropped(bench.record, dropped)
    [heard] = bench.run(bench.session.dropped(2))
    assert heard["answers"]["code"] == "spool_full"
    bench.send({"seq": 3, "a": 1})
    bench.commit()
    assert bench.deliver() == [{"answers": {"type": "ack", "seq": 3}}]


def test_a_device_at_level_stored_is_told_what_the_database_refused_and_gets_the_ack() -> None:
    bench = Bench().ready(ack="stored")
    bench.send({"seq": 1, "a": 1})
    bench.commit()
    [heard] = bench.run(bench.session.refused(1))
    assert heard["answers"]["code"] == "wrong_type"
    assert "the database refused 1 readings" in heard["answers"]["message"]
    assert "seq" not in heard["answers"]
    assert bench.deliver() == [{"answers": {"type": "ack", "seq": 1}}]


def test_a_device_at_level_durable_is_told_nothing_of_the_database() -> None:
    bench = Bench().ready()
    bench.send({"seq": 1, "a": 1})
    assert bench.run(bench.session.dropped(1)) == bench.run(bench.session.refused(1)) == []


def test_a_live_session_is_acknowledged_though_its_boot_was_forgotten() -> None:
    bench = Bench().ready(boot="b1")
    bench.send({"seq": 1, "a": 1})
    for other in range(20):
        bench.ledger.account("d1").sequence(f"other-{other}")
    assert bench.commit() == [{"answers": {"type": "ack", "seq": 1}}]
    assert bench.ledger.account("d1").boots["b1"].durable == 1
