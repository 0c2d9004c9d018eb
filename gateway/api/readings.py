"""``POST /v1/devices/{id}/readings``: the message of a device in one request, answered after it is durable."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, cast

from tornado.web import stream_request_body

from gateway.api.handler import FOREIGN_ORIGIN, ApiHandler
from gateway.config.names import DEVICE_ID
from gateway.devices.readings_by_request import NotNow, TooFast, TooLarge
from gateway.errors import MessageError
from gateway.http.access import bearer_token, origin_allowed

if TYPE_CHECKING:
    from tornado.http1connection import HTTP1Connection, HTTP1ServerConnection

    from gateway.devices.authentication import Authentication
    from gateway.devices.failed_credentials import FailedCredentials
    from gateway.devices.readings_by_request import ReadingsByRequest
    from gateway.http.client_certificates import Authorities
    from gateway.http.connection_bounds import ConnectionBounds
    from gateway.protocol.rate_limits import Excess
    from gateway.state.registered_device import Device

MAX_DISCARDED_BYTES = 64 * 1024**2
"""Bytes of a body that is too large which are still read and discarded."""


@stream_request_body
class ReadingsHandler(ApiHandler):
    """Takes the body in pieces, so that no more of it is kept than a message may have.

    A page may send from where it may open a device socket: browsers do not ask before they send text. A body that is
    too large is read to its end and discarded, because a client that is cut off while it sends sees no reason.
    """

    authentication: Authentication
    authorities: Authorities
    connection_bounds: ConnectionBounds
    failures: FailedCredentials
    readings: ReadingsByRequest

    def prepare(self) -> None:
        """Make ready for the body; nothing is kept of a body whose sender is not authenticated."""
        self._limit = self.active.config.server.max_message_bytes
        self._shown = self.authorities.certificate(self.request)
        self._known = self._authenticate(self.path_args[0]) is not None
        self._body = bytearray()
        self._size = 0
        connection = cast("HTTP1ServerConnection", self.request.server_connection)
        self.connection_bounds.limit_kept_body(connection, self._limit if self._known else 0)
        cast("HTTP1Connection", self.request.connection).set_max_body_size(MAX_DISCARDED_BYTES)

    def data_received(self, chunk: bytes) -> None:
        """A piece of the body."""
        self._size += len(chunk)
        if self._size <= self._limit and self._known:
            self._body += chunk

    def _authenticate(self, device_id: str) -> Device | None:
        return self.authentication.authenticate(device_id, bearer_token(self.request), self._shown)

    async def post(self, device_id: str) -> None:
        """Accept the readings, or say why not."""
        if not DEVICE_ID.fullmatch(device_id):
            return self.refuse(400, "bad_device_id", "a device id is 1 to 128 of A-Z a-z 0-9 . _ : -")
        if not origin_allowed(self.request, self.active.config):
            return self.refuse(403, "bad_origin", FOREIGN_ORIGIN)
        device = self._authenticate(device_id) if self._known else None  # it may have been revoked while it sent
        if device is None:
            self.refuse_credentials(self.failures, device_id)
            return None
        self.failures.right(self.request.remote_ip or "", device_id)
        body = bytes(self._body) if self._size <= self._limit else None
        try:
            accepted = await self.readings.accept(device, body, self._size, time.time_ns())
        except NotNow as error:
            self.set_header("Retry-After", "1")
            return self.refuse(503, error.code, str(error))
        except TooFast as error:
            return self._throttle(error.excess)
        except TooLarge:
            return self.refuse(413, "too_large", f"{self._size} bytes; a message has at most {self._limit}")
        except MessageError as error:
            return self.refuse(400, error.code, error.message)
        return self.answer({"accepted": accepted.readings, "rejected": accepted.rejects})

    def _throttle(self, excess: Excess) -> None:
        self.set_header("Retry-After", str(math.ceil(excess.wait_ms / 1000)))
        told = {"limit": excess.limit, "allowed": excess.allowed, "observed": excess.observed}
        message = f"{excess.limit}: {excess.allowed} are allowed; send the readings again later"
        self.refuse(429, "rate_limited", message, **told, retry_after_ms=excess.wait_ms)
