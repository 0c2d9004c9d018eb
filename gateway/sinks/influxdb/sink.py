"""What the two write APIs of InfluxDB share. The subclasses make the requests.

Rules that hold here:

* The bytes of a point are those that it has had since it was accepted, so that a resend overwrites itself.
* One call makes one attempt. Delivery decides when to retry, for all batches together.
* The first write to a shard is made twice, because InfluxDB may lose it: see `gateway.sinks.influxdb.idle_shards`.
* A newline inside a string is sent only to a server that is known to read quotes. VictoriaMetrics does not: it cuts
  its input at every newline, so that a string of one device could write points of another. A server that is not known
  as an InfluxDB gets spaces instead.
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
from gateway.sinks.influxdb.idle_shards import PAUSE_SECONDS, RecentHours, hours_of
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
"""The fastest level; it takes a twelfth of the time of level 9."""
BUILD_HEADER = "X-Influxdb-Build"
"""Every response of an InfluxDB since 1.4 has this header; those of VictoriaMetrics have not."""


class InfluxSink(ABC):
    """A `gateway.delivery.sink.Sink` over HTTP. ``database`` is its name in InfluxQL: of 2.x and 3.x, the bucket."""

    def __init__(self, url: str, database: str, query_client: QueryClient, *, compress: bool) -> None:
        self.name = f"InfluxDB at {url}"
        self._database = database
        self._query_client = query_client
        self._compress = compress
        # The hours that writes went to of late: their shards lose nothing.
        self._recent = RecentHours()
        # Whether the log has the line about newlines in strings, which is written once.
        self._newlines_logged = False

    @abstractmethod
    def _post(self, body: bytes, encoding: str | None) -> HttpResponse:
        """Write points in a ``Content-Encoding`` or none; raises urllib3's HTTPError if there is no response."""

    @abstractmethod
    def _get(self, path: str, fields: Mapping[str, str]) -> HttpResponse:
        """Make a GET request; raises urllib3's HTTPError if there is no response."""

    @abstractmethod
    def close(self) -> None:
        """Close the connections."""

    def write(self, lines: bytes) -> WriteResult:
        """See `Sink.write`."""
        try:
            points = split_lines(lines) if b'"' in lines else []
        except ValueError as error:
            return PointRefused("malformed", str(error))
        try:
            if points and len(points) != lines.count(b"\n"):
                ping = self._get("/ping", {})
                if isinstance(busy := http_response.write_result(ping, time.time()), RetryLater):
                    return busy  # from a proxy, while the server restarts: it does not show what the server is
                if not self._reads_quotes(ping):
                    lines = b"".join(point[:-1].replace(b"\n", b" ") + b"\n" for point in points)
            response = self._send(lines)
            result = http_response.write_result(response, time.time())
            return self._repeat(lines) if result == Stored() and BUILD_HEADER in response.headers else result
        except HTTPError as error:
            return http_response.no_response(error)

    def query(self, query: SeriesQuery, cancellation: Cancellation | None = None) -> History:
        """See `Sink.query`; without a measurement, all measurements with the field are put together."""
        if query.end_ns <= query.start_ns:
            return History([], 1)
        try:
            return self._query(query, cancellation)
        except influxql.NoInfluxQL:
            bodies = [self._query_body(*request, cancellation) for request in metricsql.requests(query)]
            return History(metricsql.buckets(bodies, query), metricsql.interval_ms(query) * NS_PER_MS)

    def series(self, device: str, cancellation: Cancellation | None = None) -> list[SeriesName]:
        """See `Sink.series`; all fields of the measurements with the device, because InfluxDB knows only those."""
        try:
            measurements = influxql.measurements(self._ask(influxql.show_measurements(device), cancellation))
            shown = self._ask(influxql.show_fields(*measurements), cancellation)
            return influxql.fields(shown) if measurements else []
        except influxql.NoInfluxQL:
            return metricsql.names(self._query_body(*metricsql.show_names(device), cancellation))

    def _send(self, lines: bytes) -> HttpResponse:
        if self._compress:
            return self._post(gzip.compress(lines, GZIP_LEVEL, mtime=0), "gzip")
        return self._post(lines, None)

    def _repeat(self, lines: bytes) -> WriteResult:
        """Write those of ``lines``, just written, a second time that InfluxDB may have lost."""
        hours = hours_of(lines)
        if cold := self._recent.cold(lines, hours):
            time.sleep(PAUSE_SECONDS)
            result = http_response.write_result(self._send(cold), time.time())
            if result != Stored():
                return result
        self._recent.wrote(hours)
        return Stored()

    def _query(self, query: SeriesQuery, cancellation: Cancellation | None) -> History:
        measurements = () if query.measurement is None else (query.measurement,)
        shown = self._ask(influxql.show_fields(*measurements), cancellation)
        numeric, boolean = influxql.measurements_with(query.field, shown)
        interval_ns = influxql.interval(query)
        if not numeric and not boolean:
            return History([], interval_ns)
        if query.coarse:
            found = self._ask(influxql.sample(query, numeric + boolean), cancellation)
            return History(influxql.sampled(found, query), interval_ns)
        return History(influxql.buckets(self._ask(influxql.select(query, numeric, boolean), cancellation)), interval_ns)

    def _ask(self, statement: str, cancellation: Cancellation | None) -> list[dict[str, Any]]:
        fields = {"db": self._database, "q": statement, "epoch": "ns"}
        return influxql.results(self._query_body("/query", fields, cancellation))

    def _query_body(self, path: str, fields: Mapping[str, str], cancellation: Cancellation | None) -> bytes:
        response = self._query_client.get(path, fields, cancellation)
        if response.status != HTTPStatus.OK:
            raise QueryError(http_response.message(response))
        return response.body

    def _reads_quotes(self, ping: HttpResponse) -> bool:
        """Whether a newline inside a string is safe with the server that sent ``ping``.

        Every InfluxDB since 1.4 names its build (`BUILD_HEADER`) and reads quotes. VictoriaMetrics does neither. It
        keeps no text anyway, only the number that a string spells, or 0.
        """
        if BUILD_HEADER in ping.headers:
            return True
        if not self._newlines_logged:
            self._newlines_logged = True
            log.warning("%s may end points at newlines inside strings: newlines are written as spaces", self.name)
        return False
