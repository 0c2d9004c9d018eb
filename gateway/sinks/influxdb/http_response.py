"""The meaning of an HTTP response to a write: a `WriteResult`.

Rules that hold here:

* Only 204 means stored. Any other success comes from something that is not an InfluxDB, such as the login page of a
  proxy or a wrong path. To take it for success would lose readings.
* Every response that is not named below, a redirect too, is `OperatorNeeded`: something has to be set right.
* Only the database can refuse a point. A 400 without a mark of the database (`MARKS`, or JSON such as it sends) comes
  from something else, which would refuse every point: plain HTTP sent to a TLS port, a load balancer that does not know
  the host, a wrong path.
* The database's text is kept for the person who reads it. A long text loses its middle, because a parser quotes the
  line first and gives the reason last.

=============  ==============  ======================================================================
status         result          source
=============  ==============  ======================================================================
204            Stored          all versions
400, 422       PointRefused    1.x: malformed or type conflict, the other points are stored;
                               2.x: none or some points are stored; 3.x: some points are stored
400, 422       OperatorNeeded  the response does not come from the database
413            BatchTooLarge   1.x: over ``max-body-size``; 2.x and 3.x likewise
408, 429, 5xx  RetryLater      429 and 503 with Retry-After
others         OperatorNeeded  401, 403, 404: credentials, rights, or no such database, bucket or path
=============  ==============  ======================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson
from urllib3.exceptions import NewConnectionError, SSLError
from urllib3.exceptions import TimeoutError as HTTPTimeout

from gateway.delivery.write_result import TYPE_CONFLICT, BatchTooLarge, OperatorNeeded, PointRefused, RetryLater, Stored

if TYPE_CHECKING:
    from collections.abc import Mapping

    from urllib3.exceptions import HTTPError

    from gateway.delivery.write_result import WriteResult

HEAD_LENGTH, TAIL_LENGTH = 300, 200
"""Characters that are kept of the beginning and the end of a long text."""

RETRIED = {
    HTTPStatus.REQUEST_TIMEOUT: "timeout",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limited",
    HTTPStatus.SERVICE_UNAVAILABLE: "unavailable",
}
OPERATOR_NEEDED = {
    HTTPStatus.UNAUTHORIZED: "unauthorized",
    HTTPStatus.FORBIDDEN: "forbidden",
    HTTPStatus.NOT_FOUND: "not_found",
}
MARKS = ("X-Influxdb-Version", "X-Influxdb-Build", "X-Influxdb-Error")
"""A refusal by 1.x or 2.x has at least two of these headers, one by VictoriaMetrics has the first.

3.x, and other databases that take these writes, say in JSON what is wrong.
"""
REFUSALS = {
    "type conflict": TYPE_CONFLICT,
    "invalid column type": TYPE_CONFLICT,
    "unable to parse": "malformed",
    "retention policy": "beyond_retention",
}
"""Parts of the text of a refusal, in 1.x and 2.x or in 3.x, and the kind that it is counted as."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An HTTP response; the names in ``headers`` are looked up in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def write_result(response: HttpResponse, now: float) -> WriteResult:
    """What the response to a write means; ``now`` in seconds since 1970."""
    status = response.status
    if status == HTTPStatus.NO_CONTENT:
        return Stored()
    text = message(response)
    if status in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY} and _from_database(response):
        return PointRefused(_refusal(text), text)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return BatchTooLarge("too_large", text)
    if status in RETRIED or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        after = retry_after(response.headers.get("Retry-After"), now)
        return RetryLater(_kind(RETRIED, status, "server_error"), text, after)
    return OperatorNeeded(_kind(OPERATOR_NEEDED, status, "unexpected_answer"), text)


def no_response(error: HTTPError) -> RetryLater:
    """The result of a write without a response: the points may or may not be in the database."""
    if isinstance(error, HTTPTimeout) and not isinstance(error, NewConnectionError):  # urllib3 derives one of the other
        return RetryLater("timeout", str(error))
    return RetryLater("tls" if isinstance(error, SSLError) else "network", str(error))


def message(response: HttpResponse) -> str:
    """The database's text: from its JSON, its header, or the plain body, on one line and of bounded length."""
    text = _from_json(response.body) or response.headers.get("X-Influxdb-Error", "")
    text = text or response.body.decode(errors="replace")
    text = " ".join(text.split())
    if not text:
        return f"HTTP {response.status} {_phrase(response.status)}".rstrip()
    if len(text) > HEAD_LENGTH + TAIL_LENGTH:
        return f"{text[:HEAD_LENGTH]} [...] {text[-TAIL_LENGTH:]}"
    return text


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait from now, from a number of seconds or a date (RFC 9110 section 10.2.3); None if it is neither."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except ValueError:
        return None


def _from_json(body: bytes) -> str:
    """``message`` of 2.x, ``error`` of 1.x and 3.x, and what 3.x adds about the first line that it refused."""
    try:
        document: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    if not isinstance(document, dict):
        return ""
    details = document.get("data")
    first = details[0] if isinstance(details, list) and details else details
    found = [document.get("message"), document.get("error")]
    if isinstance(first, dict):
        found.append(first.get("error_message"))
    return ": ".join(text for text in found if isinstance(text, str) and text)


def _from_database(response: HttpResponse) -> bool:
    return any(mark in response.headers for mark in MARKS) or bool(_from_json(response.body))


def _refusal(text: str) -> str:
    return next((kind for part, kind in REFUSALS.items() if part in text), "refused")


def _kind(kinds: Mapping[HTTPStatus, str], status: int, otherwise: str) -> str:
    return next((kind for known, kind in kinds.items() if known == status), otherwise)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
