"""Readings that a device sends by an HTTP request instead of over a socket.

Rules that hold here:

* A request is answered after its readings are durable, or refused.
* It takes from the same allowance as the device's socket. A request that is refused whole was work, too, so it counts.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.errors import MessageError, SpoolFull
from gateway.ledger import Entry
from gateway.protocol import codec
from gateway.protocol.messages import Code, Readings, verdicts
from gateway.protocol.rate_limits import is_backlog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.devices.connections import Connections
    from gateway.devices.fleet import Fleet
    from gateway.devices.problems import Problems
    from gateway.devices.profiles import Profiles
    from gateway.metrics import Metrics
    from gateway.process.clock import WallClock
    from gateway.protocol.encoded_message import EncodedMessage
    from gateway.protocol.rate_limits import Allowance, Excess
    from gateway.spool.queue import SpoolQueue
    from gateway.state.registered_device import Device

SPOOL_FULL = "spool_full", "the gateway cannot keep more readings now; send them again later"


class NotNow(Exception):
    """Nothing of the request was accepted; the device should send it again later. ``code`` is for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class TooFast(Exception):
    """The device has used up its allowance; ``excess`` says which limit, and how long it has to wait."""

    def __init__(self, excess: Excess) -> None:
        super().__init__(excess.limit)
        self.excess = excess


class TooLarge(Exception):
    """The request is longer than a message may be."""


class Accepted(NamedTuple):
    """How many readings are durable now, and the errors of the others."""

    readings: int
    rejects: list[dict[str, Any]]


class PendingCommit:
    """Waits until one entry is durable; the owner of an entry that came by request."""

    def __init__(self) -> None:
        self._done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def durable(self, _numbered: int) -> None:
        """The entry is on disk."""
        self._settle(durable=True)

    def append_failed(self, _entries: Sequence[Entry], _retry_after_ms: int) -> None:
        """The entry did not reach the disk."""
        self._settle(durable=False)

    def _settle(self, *, durable: bool) -> None:
        if not self._done.done():
            self._done.set_result(durable)

    async def succeeded(self) -> bool:
        """Whether the entry reached the disk, once that is known."""
        return await self._done


class ReadingsByRequest:
    """Accepts the readings of authenticated devices."""

    def __init__(
        self,
        *,
        clock: WallClock,
        connections: Connections,
        fleet: Fleet,
        metrics: Metrics,
        problems: Problems,
        profiles: Profiles,
        spool: SpoolQueue,
    ) -> None:
        self._clock = clock
        self._connections = connections
        self._fleet = fleet
        self._metrics = metrics
        self._problems = problems
        self._profiles = profiles
        self._spool = spool

    async def accept(self, device: Device, body: bytes | None, size: int, now_ns: int) -> Accepted:
        """Make the readings in ``body`` durable. ``body`` is None if its ``size`` (bytes) is above the maximum.

        Raises:
            NotNow, TooFast, TooLarge: nothing was accepted.
            MessageError: the message was refused whole; the ledger has counted its readings.
        """
        if obstacle := self._obstacle(device.id, now_ns):
            raise NotNow(*obstacle)
        allowance = self._profiles.allowance(self._fleet.view(device.id), device)
        live = allowance.lane(now_ns, backlog=False)
        if excess := live.excess(0, size, now_ns):
            raise self._throttled(allowance, excess, now_ns)
        if body is None:
            live.spend(0, size)
            raise TooLarge
        try:
            encoded = self._profiles.encoder(device).encode(_readings(body), now_ns)
        except MessageError as error:
            live.spend(error.readings, size)
            self._count_refused(device.id, now_ns, error)
            raise
        lane = allowance.lane(now_ns, backlog=is_backlog(encoded.time_ns, now_ns))
        if excess := lane.excess(encoded.received, size, now_ns):
            encoded.unlearn()
            raise self._throttled(allowance, excess, now_ns)
        lane.spend(encoded.received, size)
        if encoded.rejects:
            self._problems.told(device.id, encoded.rejects, None, now_ns)
        await self._store(encoded, now_ns)
        return Accepted(encoded.lines, encoded.rejects)

    def _obstacle(self, device_id: str, now_ns: int) -> tuple[str, str] | None:
        """Why the gateway cannot accept anything from this device now, as code and message; None if it can."""
        if self._connections.draining:
            return "restarting", "the gateway restarts; send the readings again in a moment"
        busy = self._fleet.busy(device_id, now_ns)
        if busy is not None:
            return "busy", busy
        if self._clock.wrong is not None:
            return "clock", "the gateway's clock is not set; send the readings again later"
        return None if self._spool.room else SPOOL_FULL

    def _throttled(self, allowance: Allowance, excess: Excess, now_ns: int) -> TooFast:
        allowance.note(excess, now_ns)
        self._metrics.throttles.labels(excess.limit).inc()
        return TooFast(excess)

    def _count_refused(self, device_id: str, now_ns: int, error: MessageError) -> None:
        """Let the ledger count the readings of a message that was refused whole, as it does over a socket."""
        faults = [{"code": error.code, "message": error.message}]
        self._problems.told(device_id, faults, error.seq, now_ns)
        if error.readings:
            entry = Entry(device_id, rejected=error.readings, verdicts=verdicts(faults), arrived_ns=now_ns)
            with contextlib.suppress(SpoolFull):
                self._spool.append(entry, None)

    async def _store(self, encoded: EncodedMessage, now_ns: int) -> None:
        commit = PendingCommit()
        try:
            self._spool.append(encoded.entry(now_ns), commit)
        except SpoolFull:
            encoded.unlearn()
            raise NotNow(*SPOOL_FULL) from None
        if not await commit.succeeded():
            raise NotNow(*SPOOL_FULL)


def _readings(body: bytes) -> Readings:
    message = codec.decode(body)
    if not isinstance(message, Readings):
        raise MessageError(Code.BAD_MESSAGE, "only readings can be sent by request")
    return message
