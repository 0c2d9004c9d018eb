"""Devices that are held until an operator approves of them (PROTOCOL.md, "A new device").

Rules that hold here:

* Whether an id is registered is not asked before an operator decides: so no answer tells which ids there are.
* The same claim resumes a request only with the same secret. A device without one is trusted as far as its connection
  lasts: its request ends with it.
* Requests, decisions and tokens meet in `Enrolment.settle` alone, one call at a time; the command line's decisions come
  in there, too.
* A token is made when it can be sent. A second one is made only for a device that proves by its secret that it is the
  same, has not come back with the first, and of which nothing has changed in the registry meanwhile.
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

from gateway.devices.enrolment_queue import MOST, EnrolmentQueue
from gateway.devices.token_delivery import TokenDelivery
from gateway.protocol.endings import Endings
from gateway.state.enrolments import Request, State
from gateway.time_units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.devices.device_connection import DeviceConnection
    from gateway.protocol.endings import Ending
    from gateway.protocol.messages import Effects, Enrol
    from gateway.state.enrolments import Decision, Enrolments, Key
    from gateway.state.registry import Registry

log = logging.getLogger(__name__)

MOST_INFO = 1024
"""Bytes of JSON of what a device tells about itself; more is not kept."""
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""None that people take for another."""


@dataclass(frozen=True, slots=True)
class EnrolmentRefused:
    """A device cannot be held: how its session ends."""

    why: Ending


def no_room(session: Endings) -> Effects:
    """End a session for which there is no room among those that wait."""
    return session.busy("too many devices wait to be approved, try again later")


_TAKEN = EnrolmentRefused(Endings.claim_taken)
_FULL = EnrolmentRefused(no_room)


class Enrolment:
    """The requests of a gateway that runs. On the event loop; ``count`` gets each result for the metrics."""

    def __init__(
        self,
        store: Enrolments,
        registry: Registry,
        count: Callable[[str], None],
        credentials_changed: Callable[[str], None],
        *,
        most: int = MOST,
    ) -> None:
        self._store = store
        self._registry = registry
        self._count = count
        self._credentials_changed = credentials_changed
        self._tokens = TokenDelivery(store, registry)
        self._waiting = EnrolmentQueue(most)
        self._sockets: dict[Key, DeviceConnection] = {}
        self._changed: dict[Key, Request] = {}
        self._gone: set[Key] = set()
        self._settling = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    def recover(self) -> None:
        """Take up what the last run left; nothing is left of what was refused, nor of devices without a secret."""
        now = time.time_ns()
        for request in self._store.waiting(0):
            refused = request.decision is not None and request.approval is None
            if refused or request.secret_sha256 is None or request.expires_ns <= now:
                self._gone.add(request.key)
                continue
            if not self._tokens.was_made(request):
                request.delivered_ns = 0
            self._waiting.add(request)

    def shown(self) -> list[dict[str, Any]]:
        """Who waits for a decision, the oldest first."""
        undecided = [request for request in self._waiting if request.decision is None]
        return [
            {
                **request.shown(),
                "connected": request.key in self._sockets,
                "registered": self._registry.devices.lookup(request.id) is not None,
            }
            for request in sorted(undecided, key=lambda request: request.since_ns)
        ]

    def ask(self, socket: DeviceConnection, enrol: Enrol, expiry: float) -> Request | EnrolmentRefused:
        """Hold ``socket``, for at most ``expiry`` seconds; the request that it is from now on, or why not."""
        secret = None if enrol.secret is None else hashlib.sha256(enrol.secret.encode()).digest()
        known = self._find(socket.device_id, enrol.claim, secret)
        if known is None:
            return self._begin(socket, enrol.claim or _new_claim(), secret, expiry)
        if known.secret_sha256 != secret:
            self._contest(known, socket.remote)
            return _TAKEN
        return self._resume(known, socket)

    def _find(self, device_id: str, claim: str | None, secret: bytes | None) -> Request | None:
        of_device = self._waiting.of(device_id)
        known = None if claim is None else of_device.get(claim)
        if known is not None or secret is None:
            return known
        return next((r for r in of_device.values() if r.secret_sha256 == secret), None)

    def _begin(
        self, socket: DeviceConnection, claim: str, secret: bytes | None, expiry: float
    ) -> Request | EnrolmentRefused:
        device_id, address, now = socket.device_id, socket.remote, time.time_ns()
        going = self._waiting.make_room(device_id, address, self._sockets.keys())
        if going is None:
            self._count("too_many")
            return _FULL
        for request in going:
            self._end(request, "pushed_out", no_room)
        info = socket.info if len(orjson.dumps(socket.info)) <= MOST_INFO else {}
        request = Request(device_id, claim, secret, address, now, now + round(expiry * NS_PER_S), info)
        self._waiting.add(request)
        self._hold(request, socket)
        self._count("pending")
        _note(request, f"asks to be let in, with the claim {claim}, from {address}")
        return request

    def _hold(self, request: Request, socket: DeviceConnection) -> None:
        self._sockets[request.key] = socket
        self._changed[request.key] = request

    def _resume(self, request: Request, socket: DeviceConnection) -> Request:
        before = self._sockets.pop(request.key, None)
        if before is not None:
            before.enrolment_ended(Endings.replaced)
            if request.secret_sha256 is None and request.address != socket.remote:
                self._contest(request, socket.remote)
        self._waiting.move(request, socket.remote)
        self._hold(request, socket)
        return request

    def _contest(self, request: Request, address: str) -> None:
        if not request.contested:
            request.contested = True
            self._changed[request.key] = request
            _note(request, f"is two: the claim {request.claim} came from {request.address} and from {address}")

    def left(self, socket: DeviceConnection, request: Request) -> None:
        """The socket of a request has closed."""
        if self._sockets.get(request.key) is socket:
            del self._sockets[request.key]
            if request.secret_sha256 is None:
                self._end(request, "left")

    def admitted(self, socket: DeviceConnection, request: Request) -> None:
        """The device of a request has come with a token after all, by the same socket: there is nothing to decide."""
        if self._sockets.get(request.key) is socket:
            self._end(request, "left")

    def arrived(self, device_id: str) -> None:
        """The device came with its token: nobody is given another in its name."""
        for request in list(self._waiting.of(device_id).values()):
            if request.delivered_ns:
                self._end(request)

    async def decide(self, device_id: str, claim: str | None, decision: Decision) -> Request:
        """Say yes or no to a request.

        Raises:
            RegistryError: as `Enrolments.decide`; DeviceExists: it is registered, and nothing is to be replaced.
            sqlite3.Error: it could not be written down.
        """
        await self.settle()

        def accept() -> None:
            if decision.state is State.APPROVED and not decision.replaces:
                self._registry.check_new(device_id)

        request = await asyncio.to_thread(self._store.decide, device_id, claim, decision, time.time_ns(), accept)
        await self.settle()
        return request

    async def settle(self) -> None:
        """Write down who asks, and carry out what was decided.

        Raises:
            sqlite3.Error: the file failed; what was not written will be.
        """
        async with self._settling:
            if self._waiting or self._gone:
                await self._exchange()
                self._expire()
                await self._hand_over()

    async def _exchange(self) -> None:
        (changed, self._changed), (gone, self._gone) = (self._changed, {}), (self._gone, set())
        try:
            decided = await asyncio.to_thread(self._store.sync, list(changed.values()), gone)
        except BaseException:
            still = {key: request for key, request in changed.items() if self._waiting.has(request)}
            self._changed, self._gone = still | self._changed, gone | self._gone
            raise
        for found in decided:
            request = self._waiting.of(found.id).get(found.claim)
            if request is not None and request.decision is None and request.since_ns == found.since_ns:
                self._take_up(request, found.decision)

    def _take_up(self, request: Request, decision: Decision | None) -> None:
        if decision is None:
            return
        request.decision, request.expires_ns = decision, decision.expires_ns
        self._count(decision.state)
        _tell(request, f"with the claim {request.claim} was {decision.state} by {decision.by}")
        if decision.state is State.REFUSED:
            self._end(request, why=Endings.not_approved)

    def _expire(self) -> None:
        now = time.time_ns()
        for request in self._waiting:
            if request.expires_ns <= now:
                self._end(request, "" if request.delivered_ns else "expired", Endings.unanswered)

    async def _hand_over(self) -> None:
        due = [
            (request, self._sockets[request.key])
            for request in self._waiting
            if request.approval is not None and request.key in self._sockets
        ]
        if not due:
            return
        tokens, changed = await asyncio.to_thread(self._tokens.make, [request for request, _ in due])
        for device_id in changed:
            self._credentials_changed(device_id)
        nobodys = []
        for (request, socket), token in zip(due, tokens, strict=True):
            if token is not None and self._deliver(request, socket, token):
                continue
            if token is not None:
                nobodys.append((request.id, token))
            if self._waiting.has(request):
                self._end(request, "void", Endings.not_approved)
        if nobodys:
            await asyncio.to_thread(self._tokens.take_back, nobodys)

    def _deliver(self, request: Request, socket: DeviceConnection, token: str) -> bool:
        """Give the token to who was approved; False if that is nobody any more.

        While it was made the device may have left, and somebody else have asked in its place: ``socket`` is the one
        that it was made for. A token that was ended meanwhile lets nobody in: there was no connection yet that
        its end could have closed.
        """
        device = self._registry.devices.authenticate(request.id, token)
        current, proves = self._sockets.get(request.key), request.secret_sha256 is not None
        others = request.contested or (current is not socket and not proves)
        if device is None or others or not self._waiting.has(request):
            return False
        self._sockets.pop(request.key, None)
        if current is None:
            _tell(request, "was registered, but has left before its token came")
        else:
            _tell(request, "was registered and given its token")
            current.enrolled(device, token)
        if not proves:
            self._end(request)
        else:
            self._changed[request.key] = request
        return True

    def _end(self, request: Request, result: str = "", why: Ending | None = None) -> None:
        """Forget a request; ``result`` is for the metrics, ``why`` tells its device."""
        self._waiting.remove(request)
        self._changed.pop(request.key, None)
        self._gone.add(request.key)
        socket = self._sockets.pop(request.key, None)
        if result:
            self._count(result)
            _note(request, f"with the claim {request.claim} waits no more: {result.replace('_', ' ')}")
        if socket is not None and why is not None:
            socket.enrolment_ended(why)

    def close(self) -> None:
        """Let go of the file; what has not been written is asked again."""
        self._store.close()


def _new_claim() -> str:
    letters = "".join(secrets.choice(_LETTERS) for _ in range(8))
    return f"{letters[:4]}-{letters[4:]}"


def _note(request: Request, what: str) -> None:
    """Log what a stranger did: not as a line of a device's, or strangers would use up what devices may cause."""
    log.info("a device that says it is %s %s", request.id, what)


def _tell(request: Request, what: str) -> None:
    """Log what was done about a device."""
    log.info("device %s %s", request.id, what, extra={"device": request.id})
