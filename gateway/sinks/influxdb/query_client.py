"""Queries over HTTP, each on a connection of its own, so that a cancellation ends one query and no other.

The database stops computing when the connection is closed (InfluxDB 1.x and 2.x, VictoriaMetrics). On a kept connection
it would go on, and only its answer would be thrown away.
"""

from __future__ import annotations

import contextlib
import socket
from http.client import HTTPException
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from gateway.errors import QueryError
from gateway.sinks.influxdb.http_response import HttpResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.delivery.sink import Cancellation


class QueryClient:
    """Queries the server at ``url``; ``timeout`` is in seconds of silence."""

    def __init__(self, url: str, headers: Mapping[str, str], timeout: float) -> None:
        parts = urlsplit(url)
        self._connection_class = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._host = parts.hostname or ""
        self._port = parts.port or self._connection_class.default_port
        self._prefix = parts.path.rstrip("/")
        self._headers = headers
        self._timeout = timeout

    def get(self, path: str, fields: Mapping[str, str], cancellation: Cancellation | None) -> HttpResponse:
        """The response to a GET request.

        Raises:
            QueryError: there is no response, or the query was cancelled.
        """
        connection = self._connection_class(self._host, self._port, timeout=self._timeout)
        try:
            with contextlib.closing(connection):
                connection.connect()
                ending = cancellation.ends_by(lambda: _cut(connection)) if cancellation else contextlib.nullcontext()
                with ending:
                    connection.request("GET", f"{self._prefix}{path}?{urlencode(fields)}", headers=self._headers)
                    response = connection.getresponse()
                    return HttpResponse(response.status, response.headers, response.data)
        except (HTTPError, HTTPException, OSError) as error:
            raise QueryError(f"no answer from the database: {error}") from error


def _cut(connection: HTTPConnection) -> None:
    """Wake the thread that waits for the response; closing the socket would not wake it."""
    with contextlib.suppress(OSError, AttributeError):  # the query has ended on its own
        connection.sock.shutdown(socket.SHUT_RDWR)
