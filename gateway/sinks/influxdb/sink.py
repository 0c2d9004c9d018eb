"""InfluxDB: what its two write APIs have in common. How a request is made is for the subclasses.

Rules that hold here:

* Points are sent as the bytes they have been since they were accepted, so that a resend overwrites itself.
* One try a call: when to try again is delivery's decision, for all batches at once.
* The first write to a shard is made twice, since InfluxDB may lose it: see `gateway.sinks.influxdb.idle_shards`.
* A newline inside a string is sent only to a server that is known to read quotes. VictoriaMetrics does not: it cuts
  its input at every newline, so a device could write another's points with a string. What is no InfluxDB is given
  spaces instead.
"""

from __future__ import annotations

import gzip
import logging
import time
from abc import ABC, abstractmethod
from http import HTTPStatus
from typing import TYPE_CHECKING

from urllib3.exceptions import HTTPError

from gateway.delivery.sink import History
from gateway.delivery.write_result import PointRefused, RetryLater, Stored
from gateway.errors import QueryError
from gateway.line_protocol import split_lines
from gateway.sinks.influxdb import http_response, influxql, metricsql
from gateway.sinks.influxdb.idle_shards import PAUSE, RecentHours, hours_of
from gateway.time_units import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from gateway.delivery.sink import Cancellation, SeriesName, SeriesQuery
    from gateway.delivery.write_result import WriteResult
    from gateway.sinks.influxdb.http_response import HttpResponse
    from gateway.sinks.influxdb.query_client import QueryClient

log = logging.getLogger(__name__)

GZIP_LEVEL = 1
"""Takes a twelfth of the time of level 9."""
BUILD = "X-Influxdb-Build"
"""A header that every answer of an InfluxDB since 1.4 has, and VictoriaMetrics' have not."""


class InfluxSink(ABC):
    """A `Sink` over HTTP. ``database`` is what InfluxQL calls it: for 2.x and 3.x the bucket's name."""

    def __init__(self, url: str, database: str, query_client: QueryClient, *, compress: bool) -> None:
        self.name = f"InfluxDB at {url}"
        self._database = database
        self._query_client = query_client
        self._compress = compress
        self._recent = RecentHours()
        self._warned = False

    @abstractmethod
    def _post(self, body: bytes, encoding: str | None) -> HttpResponse:
        """Send points in a ``Content-Encoding`` or none; raises urllib3's HTTPError when there is no answer."""

    @abstractmethod
    def _get(self, path: str, fields: Mapping[str, str]) -> HttpResponse:
        """Ask; raises urllib3's HTTPError when there is no answer."""

    @abstractmethod
    def close(self) -> None:
        """Close the connections."""

    def write(self, lines: bytes) -> WriteResult:
        """Write points, see `Sink.write`."""
        try:
            points = split_lines(lines) if b'"' in lines else []
        except ValueError as error:
            return PointRefused("malformed", str(error))
        try:
            if points and len(points) != lines.count(b"\n"):
                ping = self._get("/ping", {})
                if isinstance(busy := http_response.outcome(ping, time.time()), RetryLater):
                    return busy  # a proxy's, while the server restarts: not what the server is
                if not self._reads_quotes(ping):
                    lines = b"".join(point[:-1].replace(b"\n", b" ") + b"\n" for point in points)
            answer = self._send(lines)
            outcome = http_response.outcome(answer, time.time())
            return self._repeat(lines) if outcome == Stored() and BUILD in answer.headers else outcome
        except HTTPError as error:
            return http_response.failure(error)

    def query(self, query: SeriesQuery, cancellation: Cancellation | None = None) -> History:
        """Downsample one series, see `Sink.query`; without a measurement, all that hold the field together."""
        if query.end_ns <= query.start_ns:
            return History([], 1)
        try:
            return self._query(query, cancellation)
        except influxql.NoInfluxQL:
            asked = [self._get_from(*request, cancellation) for request in metricsql.requests(query)]
            return History(metricsql.buckets(asked, query), metricsql.interval_ms(query) * NS_PER_MS)

    def series(self, device: str, cancellation: Cancellation | None = None) -> list[SeriesName]:
        """The fields of the measurements that hold a device, see `Sink.series`: InfluxDB knows no closer."""
        try:
            measurements = influxql.measurements(self._ask(influxql.show_measurements(device), cancellation))
            shown = self._ask(influxql.show_fields(*measurements), cancellation)
            return influxql.fields(shown) if measurements else []
        except influxql.NoInfluxQL:
            return metricsql.names(self._get_from(*metricsql.show_names(device), cancellation))

    def _send(self, lines: bytes) -> HttpResponse:
        if self._compress:
            return self._post(gzip.compress(lines, GZIP_LEVEL, mtime=0), "gzip")
        return self._post(lines, None)

    def _repeat(self, lines: bytes) -> WriteResult:
        """Write again those of ``lines``, just written, that may be lost."""
        hours = hours_of(lines)
        if cold := self._recent.cold(lines, hours):
            time.sleep(PAUSE)
            outcome = http_response.outcome(self._send(cold), time.time())
            if outcome != Stored():
                return outcome
        self._recent.wrote(hours)
        return Stored()

    def _query(self, query: SeriesQuery, cancellation: Cancellation | None) -> History:
        among = () if query.measurement is None else (query.measurement,)
        shown = self._ask(influxql.show_fields(*among), cancellation)
        numeric, boolean = influxql.holders(shown, query.field)
        grid = influxql.interval(query)
        if not numeric and not boolean:
            return History([], grid)
        if query.coarse:
            found = self._ask(influxql.sample(query, numeric + boolean), cancellation)
            return History(influxql.sampled(found, query), grid)
        return History(influxql.buckets(self._ask(influxql.select(query, numeric, boolean), cancellation)), grid)

    def _ask(self, statement: str, cancellation: Cancellation | None) -> list[dict[str, Any]]:
        fields = {"db": self._database, "q": statement, "epoch": "ns"}
        return influxql.results(self._get_from("/query", fields, cancellation))

    def _get_from(self, path: str, fields: Mapping[str, str], cancellation: Cancellation | None) -> bytes:
        answer = self._query_client.get(path, fields, cancellation)
        if answer.status != HTTPStatus.OK:
            raise QueryError(http_response.words(answer))
        return answer.body

    def _reads_quotes(self, ping: HttpResponse) -> bool:
        """Whether a newline inside a string is safe with the server that answered ``ping``.

        Every InfluxDB since 1.4 names its build (`BUILD`) and reads quotes. VictoriaMetrics does neither;
        it keeps no text anyway, only the number that a string spells, or 0.
        """
        if BUILD in ping.headers:
            return True
        if not self._warned:
            self._warned = True
            log.warning("%s may end points at newlines inside strings: they are written as spaces", self.name)
        return False
