from __future__ import annotations

from email.utils import formatdate

import pytest
import urllib3.connection
import urllib3.exceptions
from urllib3 import HTTPHeaderDict

from gateway.delivery.write_result import BatchTooLarge, OperatorNeeded, PointRefused, RetryLater, Stored
from gateway.sinks.influxdb import http_response
from gateway.sinks.influxdb.http_response import HEAD_LENGTH, TAIL_LENGTH, HttpResponse

NOW = 1_700_000_000.0


def answer(status: int, body: bytes = b"", **headers: str) -> HttpResponse:
    return HttpResponse(
        status, HTTPHeaderDict({name.replace("_", "-"): value for name, value in headers.items()}), body
    )


def test_only_204_is_stored() -> None:
    assert http_response.write_result(answer(204), NOW) == Stored()


@pytest.mark.parametrize("status", [200, 201, 202, 301, 307])
def test_other_successes_and_redirects_need_an_operator(status: int) -> None:
    result = http_response.write_result(answer(status, b"<html>Welcome</html>"), NOW)
    assert result == OperatorNeeded("unexpected_answer", "<html>Welcome</html>")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, PointRefused("refused", "no")),
        (422, PointRefused("refused", "no")),
        (413, BatchTooLarge("too_large", "no")),
        (401, OperatorNeeded("unauthorized", "no")),
        (403, OperatorNeeded("forbidden", "no")),
        (404, OperatorNeeded("not_found", "no")),
        (405, OperatorNeeded("unexpected_answer", "no")),
        (408, RetryLater("timeout", "no")),
        (429, RetryLater("rate_limited", "no")),
        (500, RetryLater("server_error", "no")),
        (502, RetryLater("server_error", "no")),
        (503, RetryLater("unavailable", "no")),
        (599, RetryLater("server_error", "no")),
    ],
)
def test_each_status_has_its_meaning(status: int, expected: object) -> None:
    assert http_response.write_result(answer(status, b'{"error":"no"}'), NOW) == expected


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('partial write: field type conflict: input field "x" ... dropped=1', "type_conflict"),
        ("invalid column type for column 'x', expected iox::column_type::field::float", "type_conflict"),
        ("unable to parse 'garbage': missing fields", "malformed"),
        ("partial write: points beyond retention policy dropped=1", "beyond_retention"),
        ("something new", "refused"),
    ],
)
def test_the_text_of_a_refusal_decides_its_kind(text: str, kind: str) -> None:
    assert http_response.write_result(answer(400, x_influxdb_error=text), NOW) == PointRefused(kind, text)


@pytest.mark.parametrize(
    "found",
    [
        answer(400, b'{"error":"no"}', x_influxdb_build="OSS", x_influxdb_error="no", x_influxdb_version="1.6.7~rc0"),
        answer(400, b"no", x_influxdb_version="1.8.0", x_server_hostname="vm"),  # VictoriaMetrics: a line too long
        answer(422, b'{"code":"unprocessable entity","message":"no"}'),
        answer(400, b'{"error":"no","data":null}'),  # 3.x
    ],
)
def test_the_database_is_recognised_by_its_headers_or_its_json(found: HttpResponse) -> None:
    assert http_response.write_result(found, NOW) == PointRefused("refused", "no")


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize(
    "body",
    [
        b"Client sent an HTTP request to an HTTPS server.\n",  # Go's net/http
        b"<html>\r\n<head><title>400 The plain HTTP request was sent to HTTPS port</title></head>\r\n</html>",  # nginx
        b'remoteAddr: "[::1]:9"; requestURI: /x/write; unsupported path requested: "/x/write"',  # VictoriaMetrics
        b'{"detail":"no such host"}',
        b"[1]",
        b"",
    ],
)
def test_only_the_database_can_refuse_a_point(status: int, body: bytes) -> None:
    found = answer(status, body, server="nginx", x_server_hostname="vm")
    assert http_response.write_result(found, NOW) == OperatorNeeded("unexpected_answer", http_response.message(found))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        (" 0 ", 0.0),
        (formatdate(NOW + 90, usegmt=True), 90.0),
        (formatdate(NOW - 90, usegmt=True), 0.0),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert http_response.retry_after(value, NOW) == seconds


def test_retry_after_reaches_the_result() -> None:
    assert http_response.write_result(answer(503, retry_after="7"), NOW) == RetryLater(
        "unavailable", "HTTP 503 Service Unavailable", 7.0
    )


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (answer(400, b'{"error":"1.x says"}', x_influxdb_error="header"), "1.x says"),
        (answer(400, b'{"code":"invalid","message":"2.x says"}'), "2.x says"),
        (
            answer(400, b'{"error":"partial write","data":[{"error_message":"why","line_number":1}]}'),
            "partial write: why",
        ),
        (answer(400, b'{"error":"parsing failed","data":{"error_message":"why"}}'), "parsing failed: why"),
        (answer(400, b'{"error":{"code":5},"data":[]}', x_influxdb_error="header"), "header"),
        (answer(400, b"[1]"), "[1]"),
        (answer(400, b"", x_influxdb_error="header"), "header"),
        (answer(502, b"<p>\r\n  caf\xe9 </p>"), "<p> caf\ufffd </p>"),
        (answer(404), "HTTP 404 Not Found"),
        (answer(599), "HTTP 599"),
    ],
)
def test_the_text_of_the_database_is_found(found: HttpResponse, text: str) -> None:
    assert http_response.message(found) == text


def test_a_long_text_keeps_its_beginning_and_its_reason() -> None:
    text = http_response.message(answer(400, b"unable to parse '" + b"x" * 100_000 + b"': missing fields"))
    assert text.startswith("unable to parse 'xxx")
    assert text.endswith("': missing fields")
    assert len(text) == HEAD_LENGTH + len(" [...] ") + TAIL_LENGTH


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (urllib3.exceptions.ReadTimeoutError(None, "/", "read timed out"), "timeout"),  # type: ignore[arg-type]
        (urllib3.exceptions.ConnectTimeoutError("connect timed out"), "timeout"),
        (urllib3.exceptions.NewConnectionError(urllib3.connection.HTTPConnection("h"), "refused"), "network"),
        (urllib3.exceptions.SSLError("certificate verify failed"), "tls"),
        (urllib3.exceptions.ProtocolError("connection reset"), "network"),
    ],
)
def test_a_write_without_a_response_is_retried(error: urllib3.exceptions.HTTPError, kind: str) -> None:
    result = http_response.no_response(error)
    assert result.kind == kind
    assert str(error) in result.reason
