"""The JSON endpoints: readings in one request, and one series from the database."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from typing import TYPE_CHECKING, cast

from tornado.web import stream_request_body

from gateway.api.handler import ApiHandler
from gateway.config.names import DEVICE_ID
from gateway.errors import MessageError, SpoolFull
from gateway.http.access import bearer_token, page_may_send
from gateway.ledger import Entry
from gateway.protocol import codec
from gateway.protocol.messages import Code, Readings, verdicts
from gateway.protocol.rates import is_backlog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tornado.http1connection import HTTP1Connection, HTTP1ServerConnection

    from gateway.devices.authentication import Authentication
    from gateway.devices.connections import Connections
    from gateway.devices.failed_credentials import FailedCredentials
    from gateway.devices.fleet import Fleet
    from gateway.devices.problems import Problems
    from gateway.devices.profiles import Profiles
    from gateway.http.client_certificates import Authorities
    from gateway.http.connection_bounds import PlainConnections
    from gateway.metrics import Metrics
    from gateway.process.clock import WallClock
    from gateway.protocol.encoded import Encoded
    from gateway.protocol.rates import Allowance, Excess
    from gateway.spool.queue import SpoolQueue
    from gateway.state.registry_layout import Device

MOST_THROWN_AWAY = 64 * 1024**2
"""Bytes of a body that is too large which are still read."""
SPOOL_FULL = "spool_full", "the gateway cannot keep more readings now; send them again later"


class PendingCommit:
    """Waits for one entry to be on disk; the owner of entries that came by request."""

    def __init__(self) -> None:
        self._done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def durable(self, _numbered: int) -> None:
        """The entry is safe."""
        self._settle(safe=True)

    def append_failed(self, _entries: Sequence[Entry], _retry_after_ms: int) -> None:
        """The entry was not taken."""
        self._settle(safe=False)

    def _settle(self, *, safe: bool) -> None:
        if not self._done.done():
            self._done.set_result(safe)

    async def safe(self) -> bool:
        """Whether the entry reached the disk, once that is known."""
        return await self._done


@stream_request_body
class ReadingsHandler(ApiHandler):
    """``POST /v1/devices/{id}/readings``: the message of a device in one request, answered after fsync.

    A page may send from where it may open a device socket; browsers do not ask before they send text.
    A body that is too large is read to its end and thrown away: one who is cut off while sending does not see why.
    """

    authentication: Authentication
    authorities: Authorities
    clock: WallClock
    connection_bounds: PlainConnections
    connections: Connections
    failures: FailedCredentials
    fleet: Fleet
    metrics: Metrics
    problems: Problems
    profiles: Profiles
    spool: SpoolQueue

    def prepare(self) -> None:
        """Make ready for the body; of one whose sender is not known nothing is kept."""
        self._limit = self.active.config.server.max_message_bytes
        self._shown = self.authorities.certificate(self.request)
        self._known = self._authenticate(self.path_args[0]) is not None
        self._body = bytearray()
        self._size = 0
        connection = cast("HTTP1ServerConnection", self.request.server_connection)
        self.connection_bounds.keep(connection, self._limit if self._known else 0)
        cast("HTTP1Connection", self.request.connection).set_max_body_size(MOST_THROWN_AWAY)

    def data_received(self, chunk: bytes) -> None:
        """A piece of the body; no more of it is kept than a message may have."""
        self._size += len(chunk)
        if self._size <= self._limit and self._known:
            self._body += chunk

    def _authenticate(self, device_id: str) -> Device | None:
        return self.authentication.authenticate(device_id, bearer_token(self.request), self._shown)

    async def post(self, device_id: str) -> None:
        """Take the readings, or say why not."""
        if not DEVICE_ID.fullmatch(device_id):
            return self.refuse(400, "bad_device_id", "a device id is 1 to 128 of A-Z a-z 0-9 . _ : -")
        if not page_may_send(self.request, self.active.config):
            return self.refuse(403, "bad_origin", "server.allowed_origins does not name the page this comes from")
        device = self._authenticate(device_id) if self._known else None  # it may have been revoked while it sent
        if device is None:
            self.refuse_credentials(self.failures, device_id)
            return None
        self.failures.right(self.request.remote_ip or "", device_id)
        now = time.time_ns()
        if obstacle := self._obstacle(device_id, now):
            return self._later(*obstacle)
        return await self._take(device, now)

    async def _take(self, device: Device, now_ns: int) -> None:
        """Take the readings if the device has anything left; what is refused whole was work, too, and is paid for."""
        allowance = self.profiles.allowance(self.fleet.view(device.id), device)
        live = allowance.lane(now_ns, backlog=False)
        if excess := live.excess(0, self._size, now_ns):
            return self._throttle(allowance, excess, now_ns)
        if self._size > self._limit:
            live.spend(0, self._size)
            return self.refuse(413, "too_large", f"{self._size} bytes; a message has at most {self._limit}")
        try:
            encoded = self.profiles.encoder(device).encode(self._readings(), now_ns)
        except MessageError as error:
            live.spend(error.readings, self._size)
            self._count_refused(device.id, now_ns, error)
            return self.refuse(400, error.code, error.message)
        lane = allowance.lane(now_ns, backlog=is_backlog(encoded.time_ns, now_ns))
        if excess := lane.excess(encoded.received, self._size, now_ns):
            encoded.unlearn()
            return self._throttle(allowance, excess, now_ns)
        lane.spend(encoded.received, self._size)
        if encoded.rejects:
            self.problems.told(device.id, encoded.rejects, None, now_ns)
        return await self._store(encoded, now_ns)

    def _readings(self) -> Readings:
        message = codec.decode(bytes(self._body))
        if not isinstance(message, Readings):
            raise MessageError(Code.BAD_MESSAGE, "only readings can be sent by request")
        return message

    def _count_refused(self, device_id: str, now_ns: int, error: MessageError) -> None:
        """Let the ledger know of readings that came in a message refused whole, as it does over a socket."""
        faults = [{"code": error.code, "message": error.message}]
        self.problems.told(device_id, faults, error.seq, now_ns)
        if error.readings:
            why = verdicts(faults)
            with contextlib.suppress(SpoolFull):
                entry = Entry(device_id, rejected=error.readings, verdicts=why, arrived_ns=now_ns)
                self.spool.append(entry, None)

    async def _store(self, encoded: Encoded, now_ns: int) -> None:
        commit = PendingCommit()
        try:
            self.spool.append(encoded.entry(now_ns), commit)
        except SpoolFull:
            encoded.unlearn()
            return self._later(*SPOOL_FULL)
        if not await commit.safe():
            return self._later(*SPOOL_FULL)
        return self.answer({"accepted": encoded.lines, "rejected": encoded.rejects})

    def _obstacle(self, device_id: str, now_ns: int) -> tuple[str, str] | None:
        """Code and message of what keeps the gateway from taking anything of this device now."""
        if self.connections.draining:
            return "restarting", "the gateway restarts; send the readings again in a moment"
        busy = self.fleet.busy(device_id, now_ns)
        if busy is not None:
            return "busy", busy
        if self.clock.wrong is not None:
            return "clock", "the gateway's clock is not set; send the readings again later"
        return None if self.spool.room else SPOOL_FULL

    def _throttle(self, allowance: Allowance, excess: Excess, now_ns: int) -> None:
        allowance.note(excess, now_ns)
        self.metrics.throttles.labels(excess.limit).inc()
        self.set_header("Retry-After", str(math.ceil(excess.wait_ms / 1000)))
        told = {"limit": excess.limit, "allowed": excess.allowed, "observed": excess.observed}
        message = f"{excess.limit}: {excess.allowed} are allowed; send the readings again later"
        self.refuse(429, "rate_limited", message, **told, retry_after_ms=excess.wait_ms)

    def _later(self, code: str, message: str) -> None:
        self.set_header("Retry-After", "1")
        self.refuse(503, code, message)
