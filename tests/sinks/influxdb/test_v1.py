"""The v1 sink against InfluxDB 1.6.7."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any

import pytest

from gateway.delivery.sink import Bucket, Cancellation, SeriesName, SeriesQuery
from gateway.delivery.write_result import BatchTooLarge, OperatorNeeded, PointRefused, RetryLater, Stored
from gateway.errors import QueryError
from gateway.sinks.influxdb.v1 import InfluxV1Sink
from tests.support.gateway import wait_for
from tests.support.history import assert_same_buckets, expected_buckets
from tests.support.servers import Influxd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START = 1_700_000_000_000_000_000
SECOND = 1_000_000_000


@pytest.fixture
def sink(influxd: Influxd) -> Iterator[InfluxV1Sink]:
    sink = InfluxV1Sink(influxd.url, influxd.create_database())
    yield sink
    sink.close()


def stored(influxd: Influxd, sink: InfluxV1Sink, measurement: str = "m") -> list[dict[str, Any]]:
    return influxd.points(sink._database, measurement)


def test_every_type_comes_back_unchanged(influxd: Influxd, sink: InfluxV1Sink) -> None:
    line = f'm,device=d1,site=n f=0.1,g=-1e300,i=-9007199254740993i,t=true,u=false,s="a \\"b\\" \\\\ c" {START + 1}\n'
    assert sink.write(line.encode()) == Stored()
    assert stored(influxd, sink) == [
        {
            "time": START + 1, "device": "d1", "site": "n", "f": 0.1, "g": -1e300, "i": -9007199254740993,
            "t": True, "u": False, "s": 'a "b" \\ c',
        }
    ]  # fmt: skip


def test_newlines_in_strings_come_back(influxd: Influxd, sink: InfluxV1Sink) -> None:
    line = f'm,device=d1 s="one\ntwo\nevil,device=d2 x=1 5",x=1 {START}\nm,device=d1 x=2 {START + 1}\n'
    assert sink.write(line.encode()) == Stored()
    assert [(point["s"], point["x"]) for point in stored(influxd, sink)] == [
        ("one\ntwo\nevil,device=d2 x=1 5", 1),
        (None, 2),
    ]
    assert stored(influxd, sink, "evil") == []


def test_the_same_series_and_time_overwrites_field_by_field(influxd: Influxd, sink: InfluxV1Sink) -> None:
    for fields in ("x=1,y=1", "x=2"):
        assert sink.write(f"m,device=d1 {fields} {START}\n".encode()) == Stored()
    assert stored(influxd, sink) == [{"time": START, "device": "d1", "x": 2, "y": 1}]


def test_a_type_conflict_is_refused_with_the_text_of_the_database(influxd: Influxd, sink: InfluxV1Sink) -> None:
    assert sink.write(f"m,device=d1 x=1 {START}\n".encode()) == Stored()
    result = sink.write(f"m,device=d1 x=2i {START + 1}\nm,device=d1 x=3 {START + 2}\n".encode())
    assert isinstance(result, PointRefused)
    assert result.kind == "type_conflict"
    assert 'input field "x" on measurement "m" is type integer, already exists as type float' in result.reason
    assert [point["x"] for point in stored(influxd, sink)] == [1, 3], "the others of the batch are stored"


def test_a_malformed_line_is_refused(sink: InfluxV1Sink) -> None:
    assert sink.write(b"garbage\n") == PointRefused("malformed", "unable to parse 'garbage': missing fields")


def test_a_missing_database_needs_an_operator(influxd: Influxd) -> None:
    sink = InfluxV1Sink(influxd.url, "nowhere")
    assert sink.write(f"m x=1 {START}\n".encode()) == OperatorNeeded("not_found", 'database not found: "nowhere"')
    with pytest.raises(QueryError, match="database not found: nowhere"):
        sink.query(SeriesQuery("d1", "x", 0, 10, 1))
    sink.close()


def test_a_wrong_password_needs_an_operator_and_the_right_one_writes(influxd_with_auth: Influxd) -> None:
    server = influxd_with_auth
    database = server.create_database()
    line = f"m,device=d1 x=1 {START}\n".encode()
    for password, expected in (
        ("wrong", OperatorNeeded("unauthorized", "authorization failed")),
        (server.password, Stored()),
    ):
        sink = InfluxV1Sink(server.url, database, username=server.admin, password=password)
        assert sink.write(line) == expected
        sink.close()
    anonymous = InfluxV1Sink(server.url, database)
    assert isinstance(anonymous.write(line), OperatorNeeded)
    with pytest.raises(QueryError, match="unable to parse authentication credentials"):
        anonymous.query(SeriesQuery("d1", "x", 0, 10, 1))
    anonymous.close()
    assert len(server.points(database, "m")) == 1


def test_a_user_without_the_right_to_write_needs_an_operator(influxd_with_auth: Influxd) -> None:
    server = influxd_with_auth
    database = server.create_database()
    server.query("CREATE USER viewer WITH PASSWORD 'viewer'")
    server.query(f'GRANT READ ON "{database}" TO viewer')
    sink = InfluxV1Sink(server.url, database, username="viewer", password="viewer")
    result = sink.write(f"m x=1 {START}\n".encode())
    assert isinstance(result, OperatorNeeded)
    assert result.kind == "forbidden"
    assert "not authorized to write" in result.reason
    sink.close()


def test_a_body_over_the_servers_limit_is_too_large(sink: InfluxV1Sink) -> None:
    line = b"m,device=d1 x=1 1700000000000000000\n"
    assert sink.write(line * (26_000_000 // len(line))) == BatchTooLarge("too_large", "Request Entity Too Large")


def test_a_compressed_body_is_understood(influxd: Influxd) -> None:
    sink = InfluxV1Sink(influxd.url, influxd.create_database(), compress=True)
    assert sink.write(f'm,device=d1 s="{"long " * 1000}" {START}\n'.encode()) == Stored()
    assert stored(influxd, sink) == [{"time": START, "device": "d1", "s": "long " * 1000}]
    sink.close()


def test_a_stopped_server_is_retried_and_found_again_once_it_runs(tmp_path: Path) -> None:
    with Influxd(tmp_path) as server:
        sink = InfluxV1Sink(server.url, server.create_database("db"), timeout=5.0)
        line = f"m,device=d1 x=1 {START}\n".encode()
        assert sink.write(line) == Stored()
        server.stop()
        result = sink.write(line)
        assert isinstance(result, RetryLater)
        assert result.kind == "network"
        server.start()
        assert sink.write(line) == Stored()
        assert len(server.points("db", "m")) == 1
        sink.close()


def test_a_frozen_server_is_retried(tmp_path: Path) -> None:
    with Influxd(tmp_path) as server:
        sink = InfluxV1Sink(server.url, server.create_database("db"), timeout=0.3)
        server.suspend()
        result = sink.write(f"m x=1 {START}\n".encode())
        assert isinstance(result, RetryLater)
        assert result.kind == "timeout"
        server.resume()
        sink.close()


@pytest.mark.parametrize("buckets", [1, 7, 100, 10_000])
def test_buckets_equal_what_the_points_say(sink: InfluxV1Sink, buckets: int) -> None:
    source = random.Random(buckets)
    points = [(START + source.randrange(3600 * SECOND), source.uniform(-50, 50)) for _ in range(2000)]
    others = b"".join(b"m,device=d2 x=999 %d\n" % (time_ns + 1) for time_ns, _ in points[:50])
    lines = "".join(f"m,device=d1,site=s{index % 3} x={value!r} {at}\n" for index, (at, value) in enumerate(points))
    assert sink.write(lines.encode() + others) == Stored()
    query = SeriesQuery("d1", "x", START + 123_456_789, START + 3000 * SECOND + 1, buckets, measurement="m")
    found = sink.query(query).buckets
    assert len(found) <= buckets
    assert_same_buckets(found, expected_buckets(points, query))


def test_without_a_measurement_all_measurements_with_the_field_answer(sink: InfluxV1Sink) -> None:
    lines = (
        f'a,device=d1 x=1 {START}\nb,device=d1 x=9i {START}\nc,device=d1 x="text" {START}\nd,device=d1 y=5 {START}\n'
    )
    assert sink.write(lines.encode()) == Stored()
    query = SeriesQuery("d1", "x", START, START + 10, 1)
    assert sink.query(query).buckets == [Bucket(START, 1, 5, 9, 2)]
    assert sink.query(SeriesQuery("d1", "x", START, START + 10, 1, measurement="b")).buckets == [
        Bucket(START, 9, 9, 9, 1)
    ]
    assert sink.query(SeriesQuery("d1", "x", START, START + 10, 1, measurement="c")).buckets == []
    assert sink.query(SeriesQuery("d1", "unknown", START, START + 10, 1)).buckets == []


def test_booleans_are_0_and_1(sink: InfluxV1Sink) -> None:
    lines = "".join(
        f"m,device=d1 on={value} {START + at}\n" for at, value in enumerate(["true", "false", "false", "true", "true"])
    )
    assert sink.write(lines.encode()) == Stored()
    found = sink.query(SeriesQuery("d1", "on", START, START + 6, 3)).buckets
    assert found == [Bucket(START, 0, 0.5, 1, 2), Bucket(START + 2, 0, 0.5, 1, 2), Bucket(START + 4, 1, 1, 1, 1)]


def test_points_before_1970_are_found(sink: InfluxV1Sink) -> None:
    points = [(-5_000, 1.0), (-4_001, 2.0), (-1, 4.0), (7, 8.0), (10, 16.0)]  # the last is at the end, excluded
    assert sink.write("".join(f"m,device=d1 x={value} {at}\n" for at, value in points).encode()) == Stored()
    query = SeriesQuery("d1", "x", -5_001, 10, 6)
    assert_same_buckets(sink.query(query).buckets, expected_buckets(points, query))


def test_no_name_or_device_can_break_out_of_its_quotes(sink: InfluxV1Sink) -> None:
    wild = "a\"b' OR 1=1 ;DROP \\x"
    escaped = wild.replace(" ", "\\ ").replace("=", "\\=")
    assert sink.write(f"{wild.replace(' ', chr(92) + ' ')},device={escaped} {escaped}=5 {START}\n".encode()) == Stored()
    for measurement in (None, wild):
        assert sink.query(SeriesQuery(wild, wild, START, START + 1, 1, measurement)).buckets == [
            Bucket(START, 5, 5, 5, 1)
        ]
    for field in ('x" FROM m; DROP DATABASE db --', "x\n", "x\\", "x'", ""):
        assert sink.query(SeriesQuery(field, field, START, START + 1, 1, measurement=field)).buckets == []


def test_a_coarse_answer_is_a_sample(influxd: Influxd, sink: InfluxV1Sink) -> None:
    lines = "".join(
        f"m,device=d1 x={at % 10},on={'true' if at % 2 else 'false'} {START + at * SECOND}\n" for at in range(3000)
    )
    assert sink.write(lines.encode()) == Stored()
    for field, low, mean, high in (("x", 0, 3.75, 9), ("on", 0, 0.5, 1)):
        found = sink.query(SeriesQuery("d1", field, START, START + 3000 * SECOND, 800, coarse=True))
        assert found.interval_ns == 100 * SECOND
        assert found.buckets == [Bucket(START + at * 100 * SECOND, low, mean, high, 16) for at in range(30)]


def test_the_fields_of_a_devices_measurements_are_listed(influxd: Influxd, sink: InfluxV1Sink) -> None:
    assert sink.series("d1") == []
    lines = f'm,device=d\\ 1 x=1,s="t" {START}\nk,device=d\\ 1 i=5i,b=true {START}\nother,device=d2 x=1 {START}\n'
    assert sink.write(lines.encode()) == Stored()
    assert sink.series("d 1") == [
        SeriesName("k", "b", "boolean"),
        SeriesName("k", "i", "integer"),
        SeriesName("m", "s", "string"),
        SeriesName("m", "x", "float"),
    ]


def test_a_cancelled_query_ends_in_the_database(influxd: Influxd, sink: InfluxV1Sink) -> None:
    for first in range(0, 600_000, 50_000):
        lines = "".join(f"m,device=d1 x={at} {START + at * SECOND}\n" for at in range(first, first + 50_000))
        assert sink.write(lines.encode()) == Stored()
    cancellation = Cancellation()
    failed: list[QueryError] = []

    def ask() -> None:
        try:
            for _ in range(100):
                sink.query(SeriesQuery("d1", "x", START, START + 600_000 * SECOND, 10_000), cancellation)
        except QueryError as error:
            failed.append(error)

    def running() -> int:
        return sum("MEAN" in row[1].upper() for series in influxd.query("SHOW QUERIES") for row in series["values"])

    asking = threading.Thread(target=ask)
    asking.start()
    wait_for(running, "the database to be at it")
    cancellation.cancel()
    asking.join(5)
    assert "no answer" in str(failed[0]) or "nobody waits" in str(failed[0])
    wait_for(lambda: not running(), "the database to stop")
