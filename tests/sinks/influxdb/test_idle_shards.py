"""Points that InfluxDB acknowledges and then loses, because it frees the cache of their shard, are written again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.delivery.write_result import PointRefused, RetryLater, Stored
from gateway.line_protocol import Series
from gateway.sinks.influxdb import idle_shards
from gateway.sinks.influxdb.idle_shards import MAX_HOURS, WARM_SECONDS, RecentHours, hours_of
from gateway.sinks.influxdb.v1 import InfluxV1Sink
from gateway.sinks.influxdb.v2 import InfluxV2Sink
from tests.support.readings import FLOATS, TIMES
from tests.support.scripted import Reply, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.sinks.influxdb.sink import InfluxSink
    from tests.support.scripted import Request

TAKEN = Reply(204, {"X-Influxdb-Build": "OSS"})
HOUR = 3600 * 10**9
START = 1_384_732_800 * 10**9
"""A Monday, 00:00: the start of a shard of one week."""
WEEK = 168 * HOUR


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def at(*times: int) -> bytes:
    return b"".join(b"m,device=d1 x=1 %d\n" % time for time in times)


def kept_by_one_that_forgets(requests: Iterable[Request]) -> set[bytes]:
    """The points in an InfluxDB that loses the first write to every shard; a shard is a week, from Monday."""
    shards: dict[int, set[bytes]] = {}
    for request in requests:
        lines = request.body.splitlines()
        touched = {(int(line.rsplit(b" ", 1)[1]) - START) // WEEK for line in lines}
        for line in lines:
            shard = (int(line.rsplit(b" ", 1)[1]) - START) // WEEK
            if shard in shards:
                shards[shard].add(line)
        for shard in touched:
            shards.setdefault(shard, set())
    return set().union(*shards.values())


@pytest.mark.parametrize("compress", [False, True])
def test_nothing_is_lost_with_the_first_write_to_a_shard(compress: bool) -> None:
    days = [START + n * 24 * HOUR for n in range(-500, 500)]
    with ScriptedServer(TAKEN) as server:
        sink = InfluxV1Sink(server.url, "db", compress=False)
        assert sink.write(at(*days)) == Stored()
        assert sink.write(at(*(day + 1 for day in days))) == Stored()
        sink.close()
        assert kept_by_one_that_forgets(server.requests) == set(at(*days, *(day + 1 for day in days)).splitlines())
        packed = InfluxV1Sink(server.url, "db", compress=compress)
        del server.requests[:]
        assert packed.write(at(START)) == Stored()
        packed.close()
    first, second = server.requests
    assert (second.body, second.headers["Content-Encoding"]) == (first.body, "gzip" if compress else None)


@pytest.mark.parametrize("kind", [InfluxV1Sink, InfluxV2Sink])
def test_only_points_that_may_be_lost_are_written_twice(kind: type[InfluxSink]) -> None:
    with ScriptedServer(TAKEN) as server:
        sink = kind(server.url, "db")  # type: ignore[call-arg]
        assert sink.write(at(START)) == Stored()
        assert sink.write(at(START + 5)) == Stored()
        assert sink.write(at(START + 6, START - HOUR, START + 7, START - WEEK)) == Stored()
        sink.close()
    assert [request.body for request in server.requests] == [
        at(START),
        at(START),
        at(START + 5),
        at(START + 6, START - HOUR, START + 7, START - WEEK),
        at(START - HOUR, START - WEEK),
    ]


def test_other_databases_are_written_to_once() -> None:
    with ScriptedServer(Reply(204)) as server:
        sink = InfluxV1Sink(server.url, "db")
        assert sink.write(at(START)) == Stored()
        sink.close()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("reply", "result"),
    [(Reply(500), RetryLater), (Reply(400, {"X-Influxdb-Error": "no"}), PointRefused), (Reply(cut=True), RetryLater)],
)
def test_a_batch_is_stored_only_after_its_second_write(reply: Reply, result: type) -> None:
    with ScriptedServer(TAKEN, reply, TAKEN) as server:
        sink = InfluxV1Sink(server.url, "db")
        assert isinstance(sink.write(at(START)), result)
        assert sink.write(at(START)) == Stored()
        sink.close()
    assert len(server.requests) == 4


def test_the_second_write_comes_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(TAKEN) as server:
        sink = InfluxV1Sink(server.url, "db")
        seen: list[tuple[int, float]] = []
        monkeypatch.setattr("gateway.sinks.influxdb.sink.time.sleep", lambda s: seen.append((len(server.requests), s)))
        assert sink.write(at(START)) == Stored()
        sink.close()
    assert seen == [(1, idle_shards.PAUSE_SECONDS)]


def test_an_hour_is_warm_for_a_while() -> None:
    clock = Clock()
    hours = RecentHours(clock)
    assert hours.cold(at(START), hours_of(at(START))) == at(START)
    hours.wrote(hours_of(at(START)))
    clock.now += WARM_SECONDS - 1
    assert hours.cold(at(START + HOUR - 1), hours_of(at(START + HOUR - 1))) == b""
    hours.wrote(hours_of(at(START)))
    clock.now += WARM_SECONDS - 1
    assert hours.cold(at(START), hours_of(at(START))) == b""
    clock.now += 1
    assert hours.cold(at(START), hours_of(at(START))) == at(START)


def test_a_newline_in_a_string_cuts_no_point() -> None:
    hours = RecentHours(Clock())
    lines = b'm,device=d1 s="one\ntwo 5000000000000000000\nthree" %d\n' % START + at(START + HOUR)
    assert hours.cold(lines, hours_of(lines)) == lines
    hours.wrote(hours_of(at(START + HOUR)))
    assert hours.cold(lines, hours_of(lines)) == lines[: -len(at(START + HOUR))]


def test_the_remembered_hours_have_a_bound() -> None:
    hours = RecentHours(Clock())
    for n in range(0, 2 * MAX_HOURS, 5000):
        hours.wrote(set(range(n, n + 5000)))
    assert len(hours._written) <= MAX_HOURS + 5000


@given(
    st.lists(st.tuples(st.sampled_from(["m", "1", "-1234567890", "m" * 30]), FLOATS | st.integers(), TIMES), min_size=1)
)
@example([("m", 1234567890, 123456789), ("m", 5, 999_999_999 * 10**9)])
@example([("m", 1, -1795424606 * 10**9), ("m", 1, 9 * 10**18)])
def test_the_hour_of_every_point_is_found(points: list[tuple[str, float, int]]) -> None:
    lines = b"".join(Series(measurement, {}).line({"v": value}, time) for measurement, value, time in points)
    first_second = {time for _, _, time in points if abs(time) < 10**9}
    truncated = {int(str(time)[:-9]) // 3600 for _, _, time in points if time not in first_second}
    assert truncated <= hours_of(lines)
    if not first_second:
        assert truncated == hours_of(lines)
