"""InfluxDB 2.x and 3.x, 1.8, VictoriaMetrics and whatever else takes ``/api/v2/write``, by influxdb-client.

Rules that hold here:

* Points go through the client's `WriteService`, the layer under its `WriteApi`: only there can a body be handed over as
  it is, compressed at a level of our choice (the client's own gzip is level 9 and costs twelve times as much).
* Nothing of the client that decides on its own is used: no batching, no retries, no background threads.

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

HTTP_ONLY = {"_return_http_data_only": True, "_preload_content": False}
"""Ask the client for the response itself, since it decodes bodies as UTF-8 and not all proxies speak it."""


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
        service = WriteService(self._client.api_client)  # not kept: it would keep the client alive after close()
        options = HTTP_ONLY | ({"content_encoding": encoding} if encoding else {})
        return _answer(
            lambda: service.post_write(
                org=self._org, bucket=self._bucket, body=body, precision=WritePrecision.NS, **options
            )
        )

    def _get(self, path: str, fields: Mapping[str, str]) -> HttpResponse:
        return _answer(
            lambda: self._client.api_client.call_api(
                path, "GET", query_params=list(fields.items()), header_params={}, **HTTP_ONLY
            )
        )


def _answer(request: Callable[[], Any]) -> HttpResponse:
    """The response to a request of the client, which raises those that are not 2xx."""
    try:
        response = request()
    except ApiException as error:
        if not error.status:  # a TLS failure has no response
            raise SSLError(error.reason) from error
        return HttpResponse(error.status, error.headers, error.body)
    return HttpResponse(response.status, response.headers, response.data)
