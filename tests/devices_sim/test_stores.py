from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from devices_sim.stores import (
    InfluxStore,
    Question,
    SqliteStore,
    Store,
    StoreError,
    VictoriaMetricsStore,
    answer_lines,
    open_store,
)
from tests.support.scripted import Reply, ScriptedServer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.servers import Influxd, VictoriaMetrics

START = 1_700_000_000_000_000_000
LINES = f"""\
telemetry,device=stores.a,site=north temp=21.5,pos.lat=-0.25 {START}
telemetry,device=stores.a,site=north temp=22 {START + 1_000_000}
vib\\ x,device=stores-b temp=3,wet_temp=4 {START}
telemetry,device=storesXa temp=9 {START}
telemetry,device=stores-c temp=9 {START}
telemetry,device=stores-b temp=1 {START - 1_000_000}
telemetry,device=stores-b temp=1 {START + 2_000_000}
device_status,device=stores-b connected=true {START}
"""
ROWS = {
    ("stores.a", "telemetry", "temp", START, 21.5),
    ("stores.a", "telemetry", "pos.lat", START, -0.25),
    ("stores.a", "telemetry", "temp", START + 1_000_000, 22.0),
    ("stores-b", "vib x", "temp", START, 3.0),
    ("stores-b", "vib x", "wet_temp", START, 4.0),
}
QUESTION = Question(["stores.a", "stores-b"], START, START + 1_000_000, frozenset({"temp", "pos.lat", "wet_temp"}))


def found(store: Store, question: Question = QUESTION) -> set[tuple[object, ...]]:
    rows = list(store.rows(question))
    assert len({(row.device, row.measurement, row.field, row.time_ns) for row in rows}) == len(rows)
    assert all(row.tags.get("site") == ("north" if row.device == "stores.a" else None) for row in rows)
    return {(row.device, row.measurement, row.field, row.time_ns, row.value) for row in rows}


def test_influxdb(influxd: Influxd) -> None:
    database = influxd.create_database()
    influxd.write(database, LINES.encode())
    assert found(InfluxStore(influxd.url, database, None, None, None)) == ROWS


def test_influxdb_keeps_every_type(influxd: Influxd) -> None:
    database = influxd.create_database()
    influxd.write(database, f'm,device=d f=0.1,b=true,s="a \\"text\\"\nof two lines" {START}\n'.encode())
    rows = InfluxStore(influxd.url, database, None, None, None).rows(Question(["d"], START, START, frozenset()))
    assert {row.field: row.value for row in rows} == {"f": 0.1, "b": True, "s": 'a "text"\nof two lines'}


def test_influxdb_answers_more_rows_than_one_chunk(influxd: Influxd) -> None:
    database = influxd.create_database()
    lines = "".join(f"m,device=d v={n} {START + n}\n" for n in range(25_000))
    influxd.write(database, lines.encode())
    rows = list(
        InfluxStore(influxd.url, database, None, None, None).rows(Question(["d"], START, START + 10**6, frozenset()))
    )
    assert sorted((row.time_ns, row.value) for row in rows) == [(START + n, n) for n in range(25_000)]


def test_influxdb_without_the_database_says_so(influxd: Influxd) -> None:
    with pytest.raises(StoreError, match="database not found"):
        list(InfluxStore(influxd.url, "nowhere", None, None, None).rows(QUESTION))


def test_victoria_metrics(victoria_metrics: VictoriaMetrics) -> None:
    response = victoria_metrics.http.request("POST", f"{victoria_metrics.url}/write", body=LINES.encode())
    assert response.status == 204
    assert found(VictoriaMetricsStore(victoria_metrics.url)) == ROWS


def test_credentials_are_sent_as_each_influxdb_wants_them() -> None:
    with ScriptedServer(Reply(200, body=b'{"results":[{"statement_id":0}]}\n')) as server:
        assert list(InfluxStore(server.url, "db", "me", "pass", None).rows(QUESTION)) == []
        assert list(InfluxStore(server.url, "db", None, None, "tok").rows(QUESTION)) == []
    assert [request.headers["Authorization"] for request in server.requests] == ["Basic bWU6cGFzcw==", "Token tok"]


@pytest.mark.parametrize(
    "reply", [Reply(401, body=b'{"error":"unauthorized"}'), Reply(200, body=b"<html>"), Reply(cut=True)]
)
def test_an_answer_that_is_none_is_an_error(reply: Reply) -> None:
    with ScriptedServer(reply) as server, pytest.raises(StoreError, match="/query"):
        list(InfluxStore(server.url, "db", None, None, None).rows(QUESTION))


def test_lines_cut_anywhere_are_whole_lines() -> None:
    text = b"one\ntwo\n\nthree"
    for size in range(1, len(text)):
        chunks = (text[n : n + size] for n in range(0, len(text), size))
        assert list(answer_lines(chunks)) == [b"one", b"two", b"three"]


def sqlite_file(tmp_path: Path) -> Path:
    path = tmp_path / "a file?.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE readings (device, measurement, field, tags, time_ns, value)")
        connection.executemany(
            "INSERT INTO readings VALUES (?, ?, ?, ?, ?, ?)",
            [
                ("stores.a", "telemetry", "temp", '{"site":"north"}', START, 21.5),
                ("stores.a", "telemetry", "pos.lat", '{"site":"north"}', START, -0.25),
                ("stores.a", "telemetry", "temp", '{"site":"north"}', START + 1_000_000, 22.0),
                ("stores-b", "vib x", "temp", "{}", START, 3.0),
                ("stores-b", "vib x", "wet_temp", "{}", START, 4.0),
                ("stores-b", "vib x", "temp", "{}", START - 1, 3.0),
                ("stores-b", "vib x", "temp", "{}", START + 1_000_001, 3.0),
                ("c", "telemetry", "temp", "{}", START, 3.0),
                ("stores-b", "device_status", "connected", "{}", START, 1),
            ],
        )
    connection.close()
    return path


def test_sqlite(tmp_path: Path) -> None:
    assert found(SqliteStore(sqlite_file(tmp_path))) == ROWS


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="unable to open"):
        list(SqliteStore(tmp_path / "none.db").rows(QUESTION))
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize(
    ("database", "db", "kind"),
    [
        ("sqlite:data/telemetry.db", None, SqliteStore),
        ("http://127.0.0.1:8086", "telemetry", InfluxStore),
        ("http://127.0.0.1:8428", None, VictoriaMetricsStore),
        ("victoria-metrics:http://127.0.0.1:8428", None, VictoriaMetricsStore),
    ],
)
def test_how_a_database_is_named(database: str, db: str | None, kind: type) -> None:
    assert type(open_store(database, db=db, user=None, password=None, token=None)) is kind


@pytest.mark.parametrize("database", ["", "sqlite:", "telemetry.db", "victoria-metrics:127.0.0.1", "ftp://h"])
def test_how_it_is_not(database: str) -> None:
    with pytest.raises(ValueError, match="not sqlite:PATH"):
        open_store(database, db=None, user=None, password=None, token=None)


def test_an_influxdb_without_the_name_of_its_database_is_told_of_it() -> None:
    reply = Reply(404, body=b"404 page not found\n")
    with ScriptedServer(reply) as server:
        store = open_store(server.url, db=None, user=None, password=None, token=None)
        with pytest.raises(StoreError, match=r"404 page not found; if this is an InfluxDB, --db names its database$"):
            list(store.rows(QUESTION))
