"""Questions to a database over HTTP, each on a connection of its own, so that ending it ends that question alone.

A database stops computing when the connection is gone (InfluxDB 1.x and 2.x, VictoriaMetrics), which an answer thrown
away on a kept connection would not tell it.
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
    """Asks the server at ``url``; ``timeout`` is in seconds of silence."""

    def __init__(self, url: str, headers: Mapping[str, str], timeout: float) -> None:
        parts = urlsplit(url)
        self._kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._host = parts.hostname or ""
        self._port = parts.port or self._kind.default_port
        self._prefix = parts.path.rstrip("/")
        self._headers = headers
        self._timeout = timeout

    def get(self, path: str, fields: Mapping[str, str], cancellation: Cancellation | None) -> HttpResponse:
        """The answer to a GET.

        Raises:
            QueryError: there is none, or it was cancelled.
        """
        connection = self._kind(self._host, self._port, timeout=self._timeout)
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
    """Wake who waits for an answer; closing the socket would not."""
    with contextlib.suppress(OSError, AttributeError):  # it has ended on its own
        connection.sock.shutdown(socket.SHUT_RDWR)
