"""What an InfluxDB, or what speaks its API, says over HTTP, as a `WriteResult`.

Rules that hold here:

* Only 204 means stored. Any other success comes from something that is not an InfluxDB (a proxy's login page, a wrong
  path), and taking it for one would lose readings.
* What an operator has to mend is `OperatorNeeded`: every answer not named below, redirects among them.
* Only the database refuses a point. A 400 that nothing marks as its own (`MARKS`, or JSON of its kind) is a stranger's,
  who would refuse them all: TLS spoken to in the clear, a load balancer that does not know the host, a wrong path.
* The database's words are kept for the person who reads them. A long text loses its middle, because a parser's
  complaint quotes the line first and gives the reason last.

=============  ==============  ======================================================================
status         result          source
=============  ==============  ======================================================================
204            Stored          all versions
400, 422       PointRefused    1.x: malformed or type conflict, the other points are stored;
                               2.x: no point or some points are stored; 3.x: some are
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

HEAD, TAIL = 300, 200
"""Characters kept of the beginning and the end of a database's text."""

RETRIED = {
    HTTPStatus.REQUEST_TIMEOUT: "timeout",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limited",
    HTTPStatus.SERVICE_UNAVAILABLE: "unavailable",
}
HELD = {
    HTTPStatus.UNAUTHORIZED: "unauthorized",
    HTTPStatus.FORBIDDEN: "forbidden",
    HTTPStatus.NOT_FOUND: "not_found",
}
MARKS = ("X-Influxdb-Version", "X-Influxdb-Build", "X-Influxdb-Error")
"""Headers of which a refusal has one at least: 1.x and 2.x have them all or two, VictoriaMetrics has the first.

3.x and other databases that take these writes say in JSON what is wrong.
"""
REFUSALS = {
    "type conflict": TYPE_CONFLICT,
    "invalid column type": TYPE_CONFLICT,
    "unable to parse": "malformed",
    "retention policy": "beyond_retention",
}
"""What a refusal says, in 1.x and 2.x or in 3.x, and the kind it is counted as."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An HTTP response; ``headers`` does not tell upper from lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def outcome(answer: HttpResponse, now: float) -> WriteResult:
    """What the answer to a write means; ``now`` in seconds since 1970."""
    status = answer.status
    if status == HTTPStatus.NO_CONTENT:
        return Stored()
    text = words(answer)
    if status in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY} and _from_database(answer):
        return PointRefused(_refusal(text), text)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return BatchTooLarge("too_large", text)
    if status in RETRIED or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return RetryLater(
            _kind(RETRIED, status, "server_error"), text, retry_after(answer.headers.get("Retry-After"), now)
        )
    return OperatorNeeded(_kind(HELD, status, "unexpected_answer"), text)


def failure(error: HTTPError) -> RetryLater:
    """A write that got no answer: it may or may not be in the database, and is written again."""
    if isinstance(error, HTTPTimeout) and not isinstance(error, NewConnectionError):  # urllib3 derives one of the other
        return RetryLater("timeout", str(error))
    return RetryLater("tls" if isinstance(error, SSLError) else "network", str(error))


def words(answer: HttpResponse) -> str:
    """What the database said: from its JSON, its header, or the plain text, on one line and of bounded length."""
    text = _from_json(answer.body) or answer.headers.get("X-Influxdb-Error") or answer.body.decode(errors="replace")
    text = " ".join(text.split())
    if not text:
        return f"HTTP {answer.status} {_phrase(answer.status)}".rstrip()
    if len(text) > HEAD + TAIL:
        return f"{text[:HEAD]} [...] {text[-TAIL:]}"
    return text


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait from now, by RFC 9110 section 10.2.3: a number of seconds or a date; None if it is neither."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except ValueError:
        return None


def _from_json(body: bytes) -> str:
    """``message`` of 2.x, ``error`` of 1.x and 3.x, and what 3.x adds about the first line it refused."""
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


def _from_database(answer: HttpResponse) -> bool:
    return any(mark in answer.headers for mark in MARKS) or bool(_from_json(answer.body))


def _refusal(text: str) -> str:
    return next((kind for said, kind in REFUSALS.items() if said in text), "refused")


def _kind(kinds: Mapping[HTTPStatus, str], status: int, otherwise: str) -> str:
    return next((kind for known, kind in kinds.items() if known == status), otherwise)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
