"""One run from the first connection to the last verdict, whatever makes the readings.

A `Source` is one device with its readings: simulated (`devices_sim.fleet`) or recorded (`devices_sim.replay`). The run
ends when all sources are finished, its duration is over, the gateway has stopped every device, or a signal comes. Then
outstanding messages have ``grace`` seconds to get their verdict: devices that still hold readings go on reconnecting.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from devices_sim.network import Network
from devices_sim.probe import gateway_cpu_seconds
from devices_sim.scheduler import clock
from devices_sim.tally import Tally

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from devices_sim.keyring import Keyring
    from devices_sim.link import Link
    from devices_sim.report import DeviceReport

_POLL_INTERVAL = 0.05
"""Seconds between two checks whether the run is over."""


class Source(Protocol):
    """One device and where its readings come from."""

    link: Link

    @property
    def finished(self) -> bool:
        """Whether it has nothing more to submit."""
        ...

    @property
    def left(self) -> int:
        """Recorded readings that are not submitted yet; 0 for a device that measures during the run."""
        ...

    def start(self) -> None:
        """Connect and begin."""
        ...

    def stop(self) -> None:
        """Submit the ticks collected for the next message, then nothing more."""
        ...

    def report(self) -> DeviceReport:
        """What it sent, and what was acknowledged and refused."""
        ...


class Display(Protocol):
    """Shows progress."""

    def progress(self, tally: Tally, elapsed: float, trouble: str) -> None:
        """About a second has passed; ``trouble`` says why devices do not send, if they do not."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """How a run is carried out. Times are in seconds."""

    url: str
    duration: float | None = None
    """Of sampling; None for no limit."""
    grace: float = 10.0
    """How long outstanding messages may wait for their verdict after the sampling."""
    tls: ssl.SSLContext | None = None
    connect_rate: float = 500.0
    """Devices switched on per second."""
    keyring: Keyring | None = None
    """The tokens of devices that enrol; None if no device does."""
    certificates: Mapping[str, ssl.SSLContext] = field(default_factory=dict)
    """By device id: the TLS context of a device with a certificate instead of a token."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a run."""

    summary: dict[str, Any]
    devices: list[DeviceReport]
    boot: str

    @property
    def complete(self) -> bool:
        """Whether every reading was acknowledged or refused, and the gateway kept to the protocol."""
        s = self.summary
        left = s["outstanding"] or s["never_sent"] or s["oversized"]
        return bool(s["connects"]) and not (left or s["violations"] or s["stopped"])


async def conduct(plan: Plan, build: Callable[[Network, str], Sequence[Source]], display: Display) -> Outcome:
    """Run the sources that ``build`` makes for a network and a boot id."""
    tally = Tally()
    network = Network(plan.url, tally, tls=plan.tls, keyring=plan.keyring, certificates=plan.certificates)
    boot = secrets.token_hex(4)
    sources = build(network, boot)
    cpu_gateway = await gateway_cpu_seconds(plan.url, plan.tls)
    begun, cpu_begun, started = clock(), time.process_time(), datetime.now(UTC)
    with _interruptible(network.loop) as interrupted:
        try:
            _start(network, sources, plan.connect_rate)
            await _until(_Watch(network, sources, display, begun, plan.duration, interrupted))
            for source in sources:
                source.stop()
                source.link.hurry()
            network.loop.call_later(plan.grace, interrupted.set)
            interrupted.clear()
            await _verdicts(network, sources, interrupted)
        finally:
            cpu_simulator, elapsed = time.process_time() - cpu_begun, clock() - begun
            cpu_gateway_after = await gateway_cpu_seconds(plan.url, plan.tls)
            await network.close()
    if not network.failed.cancelled():
        network.failed.result()
    summary = tally.summary()
    summary |= _ending(network, sources)
    summary |= {"seconds": round(elapsed, 3), "started": started.isoformat()}
    summary |= _cpu(tally, cpu_simulator, cpu_gateway, cpu_gateway_after)
    return Outcome(summary, [source.report() for source in sources], boot)


def _start(network: Network, sources: Sequence[Source], rate: float) -> None:
    """Switch the devices on, ``rate`` a second: a handshake costs the gateway more than a message."""
    now = clock()
    for n, source in enumerate(sources):
        network.scheduler.at(now + n / rate, source.start)


@dataclass(slots=True)
class _Watch:
    network: Network
    sources: Sequence[Source]
    display: Display
    begun: float
    duration: float | None
    interrupted: asyncio.Event

    def over(self) -> bool:
        elapsed = clock() - self.begun
        if self.interrupted.is_set() or (self.duration is not None and elapsed >= self.duration):
            return True
        return all(source.finished or source.link.stopped_because for source in self.sources)

    def show(self) -> None:
        self.display.progress(self.network.tally, clock() - self.begun, self._trouble())

    def _trouble(self) -> str:
        if not self.network.tally.connected:
            return self.network.last_failure
        waiting = sum(source.link.device.awaits_approval for source in self.sources)
        return f"{waiting} pending approval" if waiting else ""


async def _until(watch: _Watch) -> None:
    shown = watch.begun
    while not watch.over():
        await asyncio.wait([watch.network.failed], timeout=_POLL_INTERVAL)
        if watch.network.failed.done():
            watch.network.failed.result()
        if clock() - shown >= 1.0:
            shown = clock()
            watch.show()


async def _verdicts(network: Network, sources: Sequence[Source], enough: asyncio.Event) -> None:
    """Wait until nothing is outstanding that could still get a verdict, or ``enough`` is set."""
    while any(s.link.device.outbox.pending and not s.link.stopped_because for s in sources) and not enough.is_set():
        await asyncio.wait([network.failed], timeout=_POLL_INTERVAL)
        if network.failed.done():
            network.failed.result()


@contextmanager
def _interruptible(loop: asyncio.AbstractEventLoop) -> Iterator[asyncio.Event]:
    """An event that SIGINT and SIGTERM set: the first ends the readings, a second the wait for verdicts."""
    event = asyncio.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    try:
        for number in numbers:
            loop.add_signal_handler(number, event.set)
    except (NotImplementedError, RuntimeError):
        # Windows, or not the main thread: the caller's own interrupt then ends the run.
        yield event
        return
    try:
        yield event
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _ending(network: Network, sources: Sequence[Source]) -> dict[str, Any]:
    devices = [source.link.device for source in sources]
    reasons = {source.link.stopped_because for source in sources} - {""}
    return {
        "devices": len(devices),
        "outstanding": sum(device.outbox.outstanding for device in devices),
        "never_sent": sum(source.link.device.outbox.unsent + source.left for source in sources),
        "awaiting_approval": sum(device.awaits_approval for device in devices),
        "stopped_because": sorted(reasons)[:5],
        "last_failure": network.last_failure,
    }


def _cpu(tally: Tally, simulator: float, before: float | None, after: float | None) -> dict[str, Any]:
    """Microseconds of CPU per reading. The gateway's is None unless one process said it before and after."""
    readings = max(1, tally.sent + tally.resent)
    gateway = None
    if before is not None and after is not None and after >= before:
        gateway = round((after - before) / readings * 1e6, 2)
    return {"cpu_us_per_reading": {"simulator": round(simulator / readings * 1e6, 2), "gateway": gateway}}
