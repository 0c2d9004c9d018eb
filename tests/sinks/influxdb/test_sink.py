"""What both InfluxDB sinks do alike, against a server that says what is asked of it."""

from __future__ import annotations

import gzip
import socket
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.delivery.sink import SeriesQuery
from gateway.delivery.write_result import OperatorNeeded, PointRefused, RetryLater, Stored
from gateway.errors import QueryError
from gateway.sinks.influxdb.v1 import InfluxV1Sink
from gateway.sinks.influxdb.v2 import InfluxV2Sink
from tests.support.scripted import Reply, ScriptedServer
from tests.support.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.sinks.influxdb.sink import InfluxSink

LINES = b"m,device=d1 x=1 1700000000000000000\n" * 3
BROKEN = b'm,device=d1 s="one\ntwo",x=1 1700000000000000000\nm,device=d1 s="plain" 1700000000000000001\n'
QUERY = SeriesQuery("d1", "x", 0, 1000, 10)


class MakeSink(Protocol):
    def __call__(self, url: str, *, compress: bool = False, timeout: float = 5.0) -> InfluxSink: ...


@pytest.fixture(params=["v1", "v2"])
def make_sink(request: pytest.FixtureRequest) -> Iterator[MakeSink]:
    made: list[InfluxSink] = []

    def make(url: str, *, compress: bool = False, timeout: float = 5.0) -> InfluxSink:
        if request.param == "v1":
            made.append(InfluxV1Sink(url, "db", username="ü", password="sécret:", compress=compress, timeout=timeout))
        else:
            made.append(InfluxV2Sink(url, "db", org="o", token="secret", compress=compress, timeout=timeout))
        return made[-1]

    yield make
    for sink in made:
        sink.close()


def test_points_are_sent_unchanged(make_sink: MakeSink) -> None:
    with ScriptedServer(Reply(204)) as server:
        sink = make_sink(server.url)
        assert sink.write(LINES) == Stored()
        sink.close()
    (request,) = server.requests
    path, query = urlsplit(request.path).path, parse_qs(urlsplit(request.path).query)
    assert request.method == "POST"
    assert request.body == LINES
    assert request.headers["Content-Type"].startswith("text/plain")
    assert "Content-Encoding" not in request.headers
    if isinstance(sink, InfluxV1Sink):
        assert (path, query) == ("/write", {"db": ["db"], "precision": ["ns"]})
        assert request.headers["Authorization"] == "Basic w7w6c8OpY3JldDo="
    else:
        assert (path, query) == ("/api/v2/write", {"org": ["o"], "bucket": ["db"], "precision": ["ns"]})
        assert request.headers["Authorization"] == "Token secret"


def test_a_path_before_the_api_is_kept(make_sink: MakeSink) -> None:
    with ScriptedServer(Reply(204)) as server:
        sink = make_sink(server.url + "/behind/proxy")
        assert sink.write(LINES) == Stored()
        sink.close()
    assert server.requests[0].path.startswith("/behind/proxy/")


def test_points_are_compressed_if_configured(make_sink: MakeSink) -> None:
    with ScriptedServer(Reply(204)) as server:
        sink = make_sink(server.url, compress=True)
        assert sink.write(LINES) == Stored()
        sink.close()
    (request,) = server.requests
    assert request.headers["Content-Encoding"] == "gzip"
    assert request.body[8] == 4, "RFC 1952's mark of the fastest algorithm: level 1"
    assert gzip.decompress(request.body) == LINES


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(429, {"Retry-After": "3"}), RetryLater("rate_limited", "HTTP 429 Too Many Requests", 3.0)),
        (Reply(503, {"Retry-After": "0"}, b'{"message":"busy"}'), RetryLater("unavailable", "busy", 0.0)),
        (Reply(500, body=b'{"error":"timeout"}'), RetryLater("server_error", "timeout")),
        (Reply(502, body=b"caf\xe9"), RetryLater("server_error", "caf\ufffd")),
        (Reply(422, body=b'{"message":"field type conflict"}'), PointRefused("type_conflict", "field type conflict")),
        (Reply(400, {"X-Influxdb-Error": "in the header"}), PointRefused("refused", "in the header")),
        (Reply(400, {"X-Influxdb-Version": "1.8.0"}, b"too long line"), PointRefused("refused", "too long line")),
        (Reply(400, body=b"sent to HTTPS port"), OperatorNeeded("unexpected_answer", "sent to HTTPS port")),
        (Reply(404, body=b'{"message":"bucket not found"}'), OperatorNeeded("not_found", "bucket not found")),
        (Reply(200, body=b"Welcome to nginx"), OperatorNeeded("unexpected_answer", "Welcome to nginx")),
        (
            Reply(307, {"Location": "http://127.0.0.1:1/"}),
            OperatorNeeded("unexpected_answer", "HTTP 307 Temporary Redirect"),
        ),
    ],
)  # fmt: skip
def test_a_response_becomes_a_result_after_one_request(make_sink: MakeSink, reply: Reply, expected: object) -> None:
    with ScriptedServer(reply) as server:
        sink = make_sink(server.url)
        assert sink.write(LINES) == expected
        sink.close()
    assert len(server.requests) == 1


def test_retry_after_may_be_a_date(make_sink: MakeSink) -> None:
    with ScriptedServer(Reply(503, {"Retry-After": formatdate(time.time() + 100, usegmt=True)})) as server:
        sink = make_sink(server.url)
        result = sink.write(LINES)
        sink.close()
    assert isinstance(result, RetryLater)
    assert result.after is not None
    assert 90 < result.after <= 100


def test_a_server_that_hangs_is_given_up_after_the_timeout(make_sink: MakeSink) -> None:
    with ScriptedServer(Reply(hang=True)) as server:
        sink = make_sink(server.url, timeout=0.2)
        result = sink.write(LINES)
        sink.close()
    assert isinstance(result, RetryLater)
    assert result.kind == "timeout"
    assert len(server.requests) == 1


def test_a_cut_connection_is_not_retried_by_the_sink(make_sink: MakeSink) -> None:
    with ScriptedServer(Reply(cut=True), Reply(204)) as server:
        sink = make_sink(server.url)
        result = sink.write(LINES)
        assert isinstance(result, RetryLater)
        assert result.kind == "network"
        assert len(server.requests) == 1
        assert sink.write(LINES) == Stored()
        sink.close()


def test_a_refused_connection_is_retried(make_sink: MakeSink) -> None:
    result = make_sink(f"http://127.0.0.1:{free_port()}").write(LINES)
    assert isinstance(result, RetryLater)
    assert result.kind == "network"
    assert "refused" in result.reason


def test_a_server_without_tls_is_told_apart(make_sink: MakeSink) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, ScriptedServer(Reply(204)) as server:
        del listening
        result = make_sink(server.url.replace("http:", "https:")).write(LINES)
    assert isinstance(result, RetryLater)
    assert result.kind == "tls"


def test_newlines_in_strings_reach_a_server_that_reads_quotes(make_sink: MakeSink) -> None:
    with ScriptedServer(Reply(204, {"X-Influxdb-Build": "OSS"})) as server:
        sink = make_sink(server.url)
        assert sink.write(BROKEN) == Stored()
        sink.close()
    ping, *writes = server.requests
    assert (ping.method, urlsplit(ping.path).path) == ("GET", "/ping")
    assert {write.body for write in writes} == {BROKEN}


def test_newlines_in_strings_do_not_reach_any_other_server(
    make_sink: MakeSink, caplog: pytest.LogCaptureFixture
) -> None:
    with ScriptedServer(Reply(204)) as server:
        sink = make_sink(server.url)
        assert sink.write(BROKEN) == Stored()
        assert sink.write(BROKEN) == Stored()
        sink.close()
    assert server.requests[1].body == BROKEN.replace(b"one\ntwo", b"one two")
    assert len([record for record in caplog.records if "written as spaces" in record.message]) == 1


def test_strings_without_newlines_need_no_ping(make_sink: MakeSink) -> None:
    lines = b'm,device=d1 s="one two" 1700000000000000000\n'
    with ScriptedServer(Reply(204)) as server:
        sink = make_sink(server.url)
        assert sink.write(lines) == Stored()
        sink.close()
    assert [request.body for request in server.requests] == [lines]


def test_a_server_that_does_not_answer_the_ping_gets_no_points(make_sink: MakeSink) -> None:
    with ScriptedServer(Reply(cut=True)) as server:
        sink = make_sink(server.url)
        assert isinstance(sink.write(BROKEN), RetryLater)
        sink.close()
    assert [request.method for request in server.requests] == ["GET"]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_the_response_of_a_proxy_changes_no_string(make_sink: MakeSink, status: int) -> None:
    influxdb = {"X-Influxdb-Build": "OSS"}
    with ScriptedServer(Reply(status, {"Retry-After": "3"}), Reply(204, influxdb)) as server:
        sink = make_sink(server.url)
        assert isinstance(sink.write(BROKEN), RetryLater)
        assert sink.write(BROKEN) == Stored()
        sink.close()
    pings, writes = server.requests[:2], server.requests[2:]
    assert {ping.method for ping in pings} == {"GET"}
    assert {write.body for write in writes} == {BROKEN}


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (Reply(401, body=b'{"error":"authorization failed"}'), "authorization failed"),
        (Reply(400, body=b'{"error":"error parsing query"}'), "error parsing query"),
        (Reply(200, body=b'{"results":[{"error":"database not found: db"}]}'), "database not found: db"),
        (Reply(200, body=b"<html>"), "not an InfluxQL result"),
        (Reply(cut=True), "no answer"),
    ],
)
def test_a_failed_query_says_why(make_sink: MakeSink, reply: Reply, text: str) -> None:
    with ScriptedServer(reply) as server:
        sink = make_sink(server.url)
        with pytest.raises(QueryError, match=text):
            sink.query(QUERY)
        sink.close()


def test_queries_carry_credentials_and_the_database(make_sink: MakeSink) -> None:
    with ScriptedServer(Reply(200, body=b'{"results":[{}]}')) as server:
        sink = make_sink(server.url)
        assert sink.query(QUERY).buckets == []
        sink.close()
    (request,) = server.requests
    fields = parse_qs(urlsplit(request.path).query)
    assert fields == {"db": ["db"], "q": ["SHOW FIELD KEYS"], "epoch": ["ns"]}
    assert "Authorization" in request.headers
    assert "cret" not in request.path


def test_an_empty_interval_has_no_buckets(make_sink: MakeSink) -> None:
    assert make_sink(f"http://127.0.0.1:{free_port()}").query(SeriesQuery("d1", "x", 5, 5, 10)).buckets == []
