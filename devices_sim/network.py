"""The parts that all links of one run share, and how they end together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote, urlsplit, urlunsplit

from devices_sim.scheduler import Scheduler, clock

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from devices_sim.keyring import Keyring
    from devices_sim.tally import Tally

CLOSE_TIMEOUT = 5.0
"""Seconds that the gateway has for its answers to the close frames."""


class Connected(Protocol):
    """One device's link to the gateway (`devices_sim.link.Link`)."""

    def leave(self) -> None:
        """Close for good."""
        ...

    def vanish(self) -> None:
        """Fault: drop the connection without a close frame."""
        ...

    def check(self, now: float) -> None:
        """Check whether the gateway has been silent for too long at ``now`` (s of `devices_sim.scheduler.clock`)."""
        ...


class Network:
    """What the links of one run share: the gateway's address, the scheduler, the counts, and the check for silence."""

    def __init__(
        self,
        url: str,
        tally: Tally,
        *,
        tls: ssl.SSLContext | None = None,
        keyring: Keyring | None = None,
        certificates: Mapping[str, ssl.SSLContext] | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.scheduler = Scheduler(self.loop, self.fail)
        self.tally = tally
        self.url = url
        self.tls = tls
        self.keyring = keyring
        self.certificates = certificates or {}
        """By device id: the context with a certificate of the device's own, used in place of ``tls``."""
        self.links: list[Connected] = []
        self.failed: asyncio.Future[None] = self.loop.create_future()
        """Gets the first exception of a callback or task; cancelled at the end of a run without one."""
        self.last_failure = ""
        """Why the last failed attempt to connect failed, for progress and summary; empty before one."""
        self.tasks: set[asyncio.Task[None]] = set()
        """Connection attempts, and devices that send their past."""
        self._closing = False
        self._all_gone: asyncio.Future[None] = self.loop.create_future()
        self._sweep()

    def stream_url(self, device_id: str) -> str:
        """Where ``device_id`` connects."""
        return f"{self.url}/v1/devices/{quote(device_id, safe=':')}/stream"

    def fail(self, error: BaseException) -> None:
        """End the run with ``error``."""
        if not self.failed.done():
            self.failed.set_exception(error)

    def finished(self, task: asyncio.Task[None]) -> None:
        """``task`` is over."""
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    async def close(self) -> None:
        """Close every connection, as a device does when it is switched off. Abort those that do not answer in time."""
        self._closing = True
        for link in self.links:
            link.leave()
        if self.tally.connected:
            await asyncio.wait([self._all_gone], timeout=CLOSE_TIMEOUT)
        self.scheduler.close()
        for link in self.links:
            link.vanish()
        for task in tuple(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if not self.failed.done():
            self.failed.cancel()

    def departed(self) -> None:
        """A connection has ended."""
        self.tally.connected -= 1
        if self._closing and not self.tally.connected and not self._all_gone.done():
            self._all_gone.set_result(None)

    def _sweep(self) -> None:
        now = clock()
        for link in self.links:
            link.check(now)
        self.scheduler.at(now + 1.0, self._sweep)


def websocket_url(url: str) -> str:
    """``url`` with the scheme ws for http, and wss for https.

    Raises:
        ValueError: ``url`` is not the address of a gateway.
    """
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"not the address of a gateway, such as ws://127.0.0.1:8080: {url}")
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
