"""InfluxDB 1.x over ``/write`` and ``/query``. Debian ships 1.x, and 2.x and 3.x still answer these paths.

https://docs.influxdata.com/influxdb/v1/tools/api/
"""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import urllib3

from gateway import __version__
from gateway.sinks.influxdb.http_response import HttpResponse
from gateway.sinks.influxdb.query_client import QueryClient
from gateway.sinks.influxdb.sink import InfluxSink

if TYPE_CHECKING:
    from collections.abc import Mapping


class InfluxV1Sink(InfluxSink):
    """Writes to one database over kept connections.

    ``timeout`` is in seconds; ``connections`` is how many are kept. User and password are sent in a header, not in the
    URL, so that no log of URLs has them.
    """

    def __init__(
        self,
        url: str,
        database: str,
        *,
        username: str | None = None,
        password: str | None = None,
        compress: bool = False,
        timeout: float = 10.0,
        connections: int = 8,
    ) -> None:
        headers = {"User-Agent": f"telemetry-gateway/{__version__}"}
        if username:
            credentials = f"{username}:{password or ''}"
            headers["Authorization"] = f"Basic {b64encode(credentials.encode()).decode()}"
        super().__init__(url, database, QueryClient(url, headers, timeout), compress=compress)
        self._url = url
        self._headers = headers
        self._write_url = f"{url}/write?{urlencode({'db': database, 'precision': 'ns'})}"
        self._pool = urllib3.PoolManager(
            num_pools=1, maxsize=connections, timeout=urllib3.Timeout(total=timeout), retries=False
        )

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def _post(self, body: bytes, encoding: str | None) -> HttpResponse:
        headers = self._headers | {"Content-Type": "text/plain; charset=utf-8"}
        if encoding:
            headers["Content-Encoding"] = encoding
        return _response(self._pool.request("POST", self._write_url, body=body, headers=headers))

    def _get(self, path: str, fields: Mapping[str, str]) -> HttpResponse:
        return _response(self._pool.request("GET", self._url + path, fields=dict(fields), headers=self._headers))


def _response(response: urllib3.BaseHTTPResponse) -> HttpResponse:
    return HttpResponse(response.status, response.headers, response.data)
