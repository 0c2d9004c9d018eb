"""InfluxDB 2.x, 3.x and 1.8, VictoriaMetrics, and others that take ``/api/v2/write``, through influxdb-client.

Rules that hold here:

* Points go through the client's `WriteService`, the layer below its `WriteApi`. Only there can a body be given as it
  is, compressed at the level of `gateway.sinks.influxdb.sink`: the client's own gzip has level 9, twelve times as slow.
* No part of the client that decides on its own is used: no batches, no retries, no background threads.

https://docs.influxdata.com/influxdb/v2/api/
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from influxdb_client import InfluxDBClient, WritePrecision, WriteService
from influxdb_client.rest import ApiException
from urllib3.exceptions import SSLError

from gateway.sinks.influxdb.http_response import HttpResponse
from gateway.sinks.influxdb.query_client import QueryClient
from gateway.sinks.influxdb.sink import InfluxSink

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RAW_RESPONSE = {"_return_http_data_only": True, "_preload_content": False}
"""Makes the client return the response itself: it would decode the body as UTF-8, which not every proxy sends."""


class InfluxV2Sink(InfluxSink):
    """Writes to one bucket over kept connections.

    ``timeout`` is in seconds; ``connections`` is how many are kept.
    """

    def __init__(
        self,
        url: str,
        bucket: str,
        *,
        org: str = "",
        token: str | None = None,
        compress: bool = False,
        timeout: float = 10.0,
        connections: int = 8,
    ) -> None:
        credentials = {"Authorization": f"Token {token}"} if token else {}
        super().__init__(url, bucket, QueryClient(url, credentials, timeout), compress=compress)
        self._bucket = bucket
        self._org = org
        self._client = InfluxDBClient(
            url, token, org=org, timeout=round(timeout * 1000), retries=False, connection_pool_maxsize=connections
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _post(self, body: bytes, encoding: str | None) -> HttpResponse:
        service = WriteService(self._client.api_client)  # not stored: it would keep the client alive after close()
        options = RAW_RESPONSE | ({"content_encoding": encoding} if encoding else {})
        return _response(
            lambda: service.post_write(
                org=self._org, bucket=self._bucket, body=body, precision=WritePrecision.NS, **options
            )
        )

    def _get(self, path: str, fields: Mapping[str, str]) -> HttpResponse:
        return _response(
            lambda: self._client.api_client.call_api(
                path, "GET", query_params=list(fields.items()), header_params={}, **RAW_RESPONSE
            )
        )


def _response(request: Callable[[], Any]) -> HttpResponse:
    """The response to a request of the client, which raises if the status is not 2xx."""
    try:
        response = request()
    except ApiException as error:
        if not error.status:  # a TLS failure has no response
            raise SSLError(error.reason) from error
        return HttpResponse(error.status, error.headers, error.body)
    return HttpResponse(response.status, response.headers, response.data)
