"""Devices that wait until an operator approves of them (docs/reference/protocol.md, "A new device").

Rules that hold here:

* Whether an id is registered is not looked up before an operator decides, so no answer tells which ids exist.
* The same claim resumes a request only with the same secret. A device without a secret is trusted as long as its
  connection lasts: its request ends with the connection.
* Requests, decisions and tokens meet in `Enrolment.settle` alone, one call at a time. Decisions that the command line
  has made are read there, too.
* A token is made when it can be sent. A second one is made only for a device that proves by its secret that it is the
  same, that has not come back with the first one, and whose entry in the registry has not changed since.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from gateway.devices.enrolment_queue import MAX_REQUESTS, EnrolmentQueue
from gateway.devices.token_delivery import TokenDelivery
from gateway.protocol.session import CloseReason
from gateway.state.enrolments import EnrolmentRequest, EnrolmentState
from gateway.time_units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.devices.device_connection import DeviceConnection
    from gateway.protocol.messages import Enrol
    from gateway.state.enrolments import EnrolmentDecision, EnrolmentKey, Enrolments
    from gateway.state.registry import Registry

log = logging.getLogger(__name__)

MAX_INFO_BYTES = 1024
"""Bytes of JSON that a device may say about itself; more is not kept."""
_CLAIM_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""Without letters and digits that people confuse."""


@dataclass(frozen=True, slots=True)
class EnrolmentRefused:
    """A device may not wait for approval: how its session ends."""

    why: CloseReason


_TAKEN = EnrolmentRefused(CloseReason.CLAIM_TAKEN)
_FULL = EnrolmentRefused(CloseReason.APPROVAL_QUEUE_FULL)


class Enrolment:
    """The requests of a running gateway. Used on the event loop; ``count`` gets each result, for the metrics."""

    def __init__(
        self,
        store: Enrolments,
        registry: Registry,
        count: Callable[[str], None],
        credentials_changed: Callable[[str], None],
        *,
        limit: int = MAX_REQUESTS,
    ) -> None:
        self._store = store
        self._registry = registry
        self._count = count
        self._credentials_changed = credentials_changed
        self._tokens = TokenDelivery(store, registry)
        self._queue = EnrolmentQueue(limit)
        self._sockets: dict[EnrolmentKey, DeviceConnection] = {}
        """The socket of each request whose device is connected."""
        self._changed: dict[EnrolmentKey, EnrolmentRequest] = {}
        """The requests that are not written to the file as they are now."""
        self._gone: set[EnrolmentKey] = set()
        """The requests that have ended and are still in the file."""
        self._settling = asyncio.Lock()
        """Held during `settle`: the file, the registry and the requests change together."""

    def __len__(self) -> int:
        return len(self._queue)

    def recover(self) -> None:
        """Take over the requests of the last run, except refused ones and those of devices without a secret."""
        now = time.time_ns()
        for request in self._store.waiting(0):
            refused = request.decision is not None and request.approval is None
            if refused or request.secret_sha256 is None or request.expires_ns <= now:
                self._gone.add(request.key)
                continue
            if not self._tokens.was_made(request):
                request.delivered_ns = 0
            self._queue.add(request)

    def shown(self) -> list[dict[str, Any]]:
        """The requests without a decision, the oldest first, as the API shows them."""
        undecided = [request for request in self._queue if request.decision is None]
        return [
            {
                **request.shown(),
                "connected": request.key in self._sockets,
                "registered": self._registry.devices.lookup(request.id) is not None,
            }
            for request in sorted(undecided, key=lambda request: request.since_ns)
        ]

    def ask(self, socket: DeviceConnection, enrol: Enrol, expiry: float) -> EnrolmentRequest | EnrolmentRefused:
        """Have the device of ``socket`` wait for at most ``expiry`` seconds; its request, or why it may not wait."""
        secret = None if enrol.secret is None else hashlib.sha256(enrol.secret.encode()).digest()
        known = self._find(socket.device_id, enrol.claim, secret)
        if known is None:
            return self._begin(socket, enrol.claim or _new_claim(), secret, expiry)
        if known.secret_sha256 != secret:
            self._contest(known, socket.remote)
            return _TAKEN
        return self._resume(known, socket)

    def _find(self, device_id: str, claim: str | None, secret: bytes | None) -> EnrolmentRequest | None:
        of_device = self._queue.of(device_id)
        known = None if claim is None else of_device.get(claim)
        if known is not None or secret is None:
            return known
        return next((r for r in of_device.values() if r.secret_sha256 == secret), None)

    def _begin(
        self, socket: DeviceConnection, claim: str, secret: bytes | None, expiry: float
    ) -> EnrolmentRequest | EnrolmentRefused:
        device_id, address, now = socket.device_id, socket.remote, time.time_ns()
        pushed_out = self._queue.make_room(device_id, address, self._sockets.keys())
        if pushed_out is None:
            self._count("too_many")
            return _FULL
        for request in pushed_out:
            self._end(request, "pushed_out", CloseReason.APPROVAL_QUEUE_FULL)
        info = socket.info if len(orjson.dumps(socket.info)) <= MAX_INFO_BYTES else {}
        request = EnrolmentRequest(device_id, claim, secret, address, now, now + round(expiry * NS_PER_S), info)
        self._queue.add(request)
        self._connect(request, socket)
        self._count("pending")
        _log_request(request, f"asks to be let in, with the claim {claim}, from {address}")
        return request

    def _connect(self, request: EnrolmentRequest, socket: DeviceConnection) -> None:
        self._sockets[request.key] = socket
        self._changed[request.key] = request

    def _resume(self, request: EnrolmentRequest, socket: DeviceConnection) -> EnrolmentRequest:
        before = self._sockets.pop(request.key, None)
        if before is not None:
            before.enrolment_ended(CloseReason.REPLACED)
            if request.secret_sha256 is None and request.address != socket.remote:
                self._contest(request, socket.remote)
        self._queue.move(request, socket.remote)
        self._connect(request, socket)
        return request

    def _contest(self, request: EnrolmentRequest, address: str) -> None:
        if not request.contested:
            request.contested = True
            self._changed[request.key] = request
            _log_request(request, f"is two: the claim {request.claim} came from {request.address} and from {address}")

    def left(self, socket: DeviceConnection, request: EnrolmentRequest) -> None:
        """The socket of a request has closed."""
        if self._sockets.get(request.key) is socket:
            del self._sockets[request.key]
            if request.secret_sha256 is None:
                self._end(request, "left")

    def admitted(self, socket: DeviceConnection, request: EnrolmentRequest) -> None:
        """The device of a request has shown a token on the same socket: there is nothing to decide any more."""
        if self._sockets.get(request.key) is socket:
            self._end(request, "left")

    def arrived(self, device_id: str) -> None:
        """The device has come with its token: no other token is made for it."""
        for request in list(self._queue.of(device_id).values()):
            if request.delivered_ns:
                self._end(request)

    async def decide(self, device_id: str, claim: str | None, decision: EnrolmentDecision) -> EnrolmentRequest:
        """Approve or refuse a request.

        Raises:
            RegistryError: as `Enrolments.decide`; DeviceExists: it is registered, and nothing is to be replaced.
            sqlite3.Error: it could not be written.
        """
        await self.settle()

        def accept() -> None:
            if decision.state is EnrolmentState.APPROVED and not decision.replaces:
                self._registry.check_new(device_id)

        request = await asyncio.to_thread(self._store.decide, device_id, claim, decision, time.time_ns(), accept)
        await self.settle()
        return request

    async def settle(self) -> None:
        """Write the requests to the file, and carry out what was decided.

        Raises:
            sqlite3.Error: the file failed; what was not written will be.
        """
        async with self._settling:
            if self._queue or self._gone:
                await self._exchange()
                self._expire()
                await self._deliver_tokens()

    async def _exchange(self) -> None:
        (changed, self._changed), (gone, self._gone) = (self._changed, {}), (self._gone, set())
        try:
            decided = await asyncio.to_thread(self._store.sync, list(changed.values()), gone)
        except BaseException:
            still = {key: request for key, request in changed.items() if self._queue.has(request)}
            self._changed, self._gone = still | self._changed, gone | self._gone
            raise
        for found in decided:
            request = self._queue.of(found.id).get(found.claim)
            if request is not None and request.decision is None and request.since_ns == found.since_ns:
                self._apply_decision(request, found.decision)

    def _apply_decision(self, request: EnrolmentRequest, decision: EnrolmentDecision | None) -> None:
        if decision is None:
            return
        request.decision, request.expires_ns = decision, decision.expires_ns
        self._count(decision.state)
        _log_device(request, f"with the claim {request.claim} was {decision.state} by {decision.by}")
        if decision.state is EnrolmentState.REFUSED:
            self._end(request, why=CloseReason.NOT_APPROVED)

    def _expire(self) -> None:
        now = time.time_ns()
        for request in self._queue:
            if request.expires_ns <= now:
                self._end(request, "" if request.delivered_ns else "expired", CloseReason.APPROVAL_EXPIRED)

    async def _deliver_tokens(self) -> None:
        due = [
            (request, self._sockets[request.key])
            for request in self._queue
            if request.approval is not None and request.key in self._sockets
        ]
        if not due:
            return
        tokens, changed = await asyncio.to_thread(self._tokens.make, [request for request, _ in due])
        for device_id in changed:
            self._credentials_changed(device_id)
        unwanted = []
        for (request, socket), token in zip(due, tokens, strict=True):
            if token is not None and self._deliver(request, socket, token):
                continue
            if token is not None:
                unwanted.append((request.id, token))
            if self._queue.has(request):
                self._end(request, "void", CloseReason.NOT_APPROVED)
        if unwanted:
            await asyncio.to_thread(self._tokens.take_back, unwanted)

    def _deliver(self, request: EnrolmentRequest, socket: DeviceConnection, token: str) -> bool:
        """Send the token to the device that was approved; False if that device is there no more.

        While the token was made, the device may have disconnected, and another one have asked in its place: ``socket``
        is the socket that the token was made for. A token that was ended meanwhile is not sent: there was no connection
        yet that its end could have closed.
        """
        device = self._registry.devices.authenticate(request.id, token)
        current, proves = self._sockets.get(request.key), request.secret_sha256 is not None
        others = request.contested or (current is not socket and not proves)
        if device is None or others or not self._queue.has(request):
            return False
        self._sockets.pop(request.key, None)
        if current is None:
            _log_device(request, "was registered, but has left before its token came")
        else:
            _log_device(request, "was registered and given its token")
            current.enrolled(device, token)
        if not proves:
            self._end(request)
        else:
            self._changed[request.key] = request
        return True

    def _end(self, request: EnrolmentRequest, result: str = "", why: CloseReason | None = None) -> None:
        """Forget a request; ``result`` is for the metrics, ``why`` is how its connection ends."""
        self._queue.remove(request)
        self._changed.pop(request.key, None)
        self._gone.add(request.key)
        socket = self._sockets.pop(request.key, None)
        if result:
            self._count(result)
            _log_request(request, f"with the claim {request.claim} waits no more: {result.replace('_', ' ')}")
        if socket is not None and why is not None:
            socket.enrolment_ended(why)

    def close(self) -> None:
        """Close the file. Devices whose requests have not been written ask again."""
        self._store.close()


def _new_claim() -> str:
    letters = "".join(secrets.choice(_CLAIM_LETTERS) for _ in range(8))
    return f"{letters[:4]}-{letters[4:]}"


def _log_request(request: EnrolmentRequest, what: str) -> None:
    """Log what an unauthenticated device did; not as a line about a device, whose quota of lines it must not use."""
    log.info("a device that says it is %s %s", request.id, what)


def _log_device(request: EnrolmentRequest, what: str) -> None:
    """Log what was done about a device."""
    log.info("device %s %s", request.id, what, extra={"device": request.id})
