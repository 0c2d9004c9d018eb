from __future__ import annotations

from collections import Counter

from gateway.ledger import Entry
from gateway.spool.backlog import Backlog
from gateway.spool.record import Record, decode_run, encode


def record(number: int, readings: int = 2) -> Record:
    [found], _ = decode_run(encode(number, number * 10, [Entry("d", lines=readings, payload=b"x" * readings)]), 0, 0)
    return found


RECORDS = [record(number) for number in range(1, 6)]
SIZE = RECORDS[0].size


def backlog() -> Backlog:
    found = Backlog()
    for one in RECORDS:
        found.add(one.id, one.size, one.readings, one.committed_ns)
    return found


def sums(found: Backlog) -> tuple[int, int, int, int | None]:
    return found.cursor, found.bytes, found.readings, found.oldest_ns


def test_a_new_backlog_is_empty() -> None:
    assert sums(Backlog(7)) == (7, 0, 0, None)


def test_a_durable_record_counts_until_it_is_acknowledged() -> None:
    found = backlog()
    assert sums(found) == (0, 5 * SIZE, 10, 10)
    found.read(RECORDS[:3])
    found.acknowledge(2)
    assert sums(found) == (2, 3 * SIZE, 6, 30)
    found.read(RECORDS[3:])
    found.acknowledge(5)
    assert sums(found) == (5, 0, 0, None)
    found.add(6, SIZE, 2, 60)
    assert sums(found) == (5, SIZE, 2, 60)


def test_acknowledging_and_reading_again_changes_nothing() -> None:
    found = backlog()
    found.read(RECORDS[:3])
    found.acknowledge(2)
    found.read(RECORDS[1:3])
    found.acknowledge(2)
    found.acknowledge(1)
    assert sums(found) == (2, 3 * SIZE, 6, 30)
    found.acknowledge(3)
    assert sums(found)[:3] == (3, 2 * SIZE, 4)


def test_a_dropped_record_is_subtracted_once_read_or_not() -> None:
    for read in RECORDS[:0], RECORDS[:1], RECORDS[:3]:
        found = backlog()
        found.read(read)
        found.drop(RECORDS[0])
        found.drop(RECORDS[1])
        assert sums(found)[:3] == (2, 3 * SIZE, 6)
        found.read(RECORDS[:4])
        found.acknowledge(1)
        assert sums(found) == (2, 3 * SIZE, 6, 30)
        found.acknowledge(4)
        assert sums(found)[:3] == (4, SIZE, 2)


def test_a_damaged_record_leaves_nothing_pending() -> None:
    found = backlog()
    found.read([RECORDS[0], RECORDS[4]])
    found.acknowledge(5)
    assert sums(found) == (5, 0, 0, None)
    found = backlog()
    found.skip(5)
    assert sums(found) == (5, 0, 0, None)


class Told:
    """A backlog of five records of two readings each, and what it told of what is left."""

    def __init__(self) -> None:
        self.left: list[tuple[int, dict[str, int]]] = []
        self.backlog = Backlog(0, lambda readings, by_device: self.left.append((readings, +Counter(by_device()))))
        for one in RECORDS:
            self.commit(one)

    def commit(self, *records: Record) -> None:
        for one in records:
            self.backlog.add(one.id, one.size, one.readings, one.committed_ns, one.entries)

    def deliver(self, *records: Record) -> None:
        self.backlog.read(records)
        self.backlog.acknowledge(records[-1].id)


def test_after_a_gap_the_exact_rest_is_reported_when_all_older_records_are_done() -> None:
    told = Told()
    told.deliver(RECORDS[0], RECORDS[2])
    told.commit(record(6, 3), record(7, 4))
    told.deliver(RECORDS[3])
    assert told.left == []
    told.deliver(RECORDS[4])
    assert told.left == [(7, {"d": 7})]
    assert sums(told.backlog)[1:3] == (record(6, 3).size + record(7, 4).size, 7)
    told.deliver(record(6, 3), record(7, 4))
    assert told.left == [(7, {"d": 7})]
    assert sums(told.backlog) == (7, 0, 0, None)


def test_a_record_that_came_after_the_gap_and_is_done_is_not_in_the_rest() -> None:
    told = Told()
    told.deliver(RECORDS[0], RECORDS[2])
    told.commit(record(6, 3), record(7, 4))
    told.deliver(RECORDS[3], RECORDS[4], record(6, 3))
    assert told.left == [(4, {"d": 4})]
    assert sums(told.backlog)[1:3] == (record(7, 4).size, 4)


def test_a_second_gap_delays_the_report_until_the_newest_record_of_that_moment_is_done() -> None:
    told = Told()
    told.deliver(RECORDS[1])
    told.commit(record(6), record(7))
    told.deliver(RECORDS[3])
    told.deliver(RECORDS[4], record(6))
    assert told.left == []
    told.deliver(record(7))
    assert told.left == [(0, {})]


def test_a_gap_at_the_end_of_a_dropped_segment_counts_too() -> None:
    told = Told()
    for one in RECORDS[:2]:
        told.backlog.drop(one)
    told.backlog.skip(3)
    assert told.left == []
    told.backlog.drop(RECORDS[3])
    told.backlog.drop(RECORDS[4])
    assert told.left == [(0, {})]
    assert sums(told.backlog) == (5, 0, 0, None)


def test_a_record_that_only_the_reader_can_read_is_not_subtracted() -> None:
    told = Told()
    told.commit(record(8))
    told.deliver(*RECORDS, record(7))
    assert sums(told.backlog)[1:3] == (SIZE, 2)
    assert told.left == []
    told.deliver(record(8))
    assert told.left == [(0, {})]
    assert sums(told.backlog) == (8, 0, 0, None)
    told.deliver(record(9))
    assert told.left == [(0, {}), (0, {})]
    assert sums(told.backlog) == (9, 0, 0, None)


def test_without_a_gap_nothing_is_reported() -> None:
    told = Told()
    told.backlog.drop(RECORDS[0])
    told.deliver(*RECORDS[1:])
    assert told.left == []
