"""Simulated devices: each has a sensor on a schedule, a link, and the faults of its group."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

from devices_sim.downlink import COMMON_REPLIES
from devices_sim.exchange import Clock, Exchange, OwnTime
from devices_sim.history import MAX_AT_ONCE, History, Past
from devices_sim.link import Link
from devices_sim.protocol import Device
from devices_sim.report import DeviceReport, MessageLog
from devices_sim.scheduler import clock
from devices_sim.sensors import Sensor
from devices_sim.wire import FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from devices_sim.network import Network
    from devices_sim.scenario import Faults, Group


@dataclass(frozen=True, slots=True)
class Fleet:
    """The devices of a run. ``identities`` are (device id, token or None), as many as the groups have devices."""

    groups: tuple[Group, ...]
    identities: Sequence[tuple[str, str | None]]
    interval: float
    seed: int
    ack: str
    keep_report: bool
    history: float = 0.0
    """Seconds of the past that each device sends before it streams; needs messages with a ``seq``."""
    format: str = "json"
    """Of the devices whose group names none; a key of `devices_sim.wire.FORMATS`."""

    def build(self, network: Network, boot: str) -> list[SimulatedDevice]:
        """The devices, before their start."""
        rng = Random(self.seed)  # noqa: S311 - phases, jitter and faults, not secrets
        members = zip(in_turn(self.groups), self.identities, strict=True)
        history = History(self.history, asyncio.Semaphore(MAX_AT_ONCE)) if self.history else None
        return [
            self._device(n, group, *identity, network, boot, rng, history)
            for n, (group, identity) in enumerate(members)
        ]

    def _device(
        self,
        number: int,
        group: Group,
        device_id: str,
        token: str | None,
        network: Network,
        boot: str,
        rng: Random,
        history: History | None,
    ) -> SimulatedDevice:
        device = Device(device_id, boot, network.tally, rng, ack=self.ack)
        device.info = {"model": f"simulated {group.kind}", "group": group.name}
        device.commands.replies = {**COMMON_REPLIES, **group.commands}
        device.settings.unknown = group.unknown_settings
        device.outbox.refused = {} if self.keep_report else None
        wire = FORMATS[group.format or self.format](device_id)
        faults = group.faults if wire.numbered else replace(group.faults, duplicates=0.0, bad_values=0.0)
        device.heedless = faults.ignores_throttle
        sensor = Sensor(
            kind=group.kind,
            seed=self.seed * 1_000_003 + number,
            start_ms=0,
            interval_ms=max(1, round((group.interval or self.interval) * 1000)),
            bad_share=faults.bad_values,
            drift=group.clock.drift if group.clock else 0.0,
        )
        log = MessageLog() if self.keep_report else None
        past = Past(history, sensor, faults.outage) if history else None
        link = Link(device, network, token, wire)
        return SimulatedDevice(link, network, sensor, faults, rng, log, past, group.clock)


def in_turn(groups: Sequence[Group]) -> Iterator[Group]:
    """The group of each device. Groups take turns, so that the first ids of a fleet have every kind."""
    left = {group.name: group.count for group in groups}
    while any(left.values()):
        for group in groups:
            if left[group.name]:
                left[group.name] -= 1
                yield group


def names(groups: Sequence[Group], prefix: str) -> list[str]:
    """The ids of their devices: a prefix and a number, from 0 with ``prefix`` and from 1 with a group's own prefix."""
    used: Counter[str] = Counter()
    found = []
    for group in in_turn(groups):
        own = group.prefix or prefix
        found.append(f"{own}{used[own] + (group.prefix is not None)}")
        used[own] += 1
    return found


class SimulatedDevice:
    """One device: it samples on its ticks, sends messages of one or more ticks, and has faults at random moments."""

    __slots__ = (
        "_ahead_ms", "_clock", "_collected", "_faults", "_filling", "_first_tick", "_hung", "_interval", "_log",
        "_network", "_origin", "_past", "_rng", "_sensor", "_stopped", "_tick", "link",
    )  # fmt: skip

    def __init__(
        self,
        link: Link,
        network: Network,
        sensor: Sensor,
        faults: Faults,
        rng: Random,
        log: MessageLog | None,
        past: Past | None = None,
        wrong: Clock | None = None,
    ) -> None:
        self.link = link
        self._clock = wrong
        """The wrong clock of a device that asks for the time; None for others."""
        self._ahead_ms = 0.0
        """How far that clock is ahead, for the report."""
        self._network = network
        self._sensor = sensor
        self._faults = faults
        self._rng = rng
        self._log = log
        self._past = past
        self._interval = sensor.interval_ms / 1000
        """Seconds between two ticks."""
        self._origin = 0.0
        """The moment of tick 0, in seconds of the steady clock."""
        self._tick = 0
        """The next tick."""
        self._first_tick = 0
        """The first tick of the message that is being collected."""
        self._collected = 0
        """Ticks collected for it."""
        self._hung = False
        """Whether the device hangs: it does not measure meanwhile."""
        self._stopped = False
        self._filling: asyncio.Task[None] | None = None
        """Sends the past; None for a device without one."""

    @property
    def finished(self) -> bool:
        """Whether it was stopped: a sensor measures without end."""
        return self._stopped

    @property
    def left(self) -> int:
        """Nothing: a sensor measures during the run."""
        return 0

    def start(self) -> None:
        """Connect. The first sample comes within one interval, so that a fleet's samples are spread over it."""
        if self._stopped:
            return
        wait = self._rng.uniform(0, self._interval)
        skew = self._rng.uniform(-1, 1) * self._faults.clock_skew
        if self._clock is not None:
            skew += self._clock.offset
            self._ahead_ms = skew * 1000
            own = OwnTime((time.time() + skew) * 1000, clock(), self._clock.drift)
            self.link.device.exchange = Exchange(own, self._clock.ask)
        if self._past is None:
            self.link.connect()
            self._stream(wait, skew)
            return
        task = self._filling = self._network.loop.create_task(self._fill_in(self._past, wait, skew))
        self._network.tasks.add(task)
        task.add_done_callback(self._network.finished)

    async def _fill_in(self, past: Past, wait: float, skew: float) -> None:
        await past.send(self.link, self._network, skew)
        self._stream(wait, skew)

    def _stream(self, wait: float, skew: float) -> None:
        now, scheduler = clock(), self._network.scheduler
        self._origin = now + wait
        exchange = self.link.device.exchange
        start_ms = (time.time() + wait + skew) * 1000 if exchange is None else exchange.own.at(self._origin)
        self._sensor = replace(self._sensor, start_ms=round(start_ms))
        scheduler.at(self._origin, self._sample)
        self._after(self._faults.disconnect_every, self._vanish)
        self._after(self._faults.silent_every, self._hang)

    def stop(self) -> None:
        """Send the ticks collected for the next message, and sample no more."""
        if self._filling is not None:
            self._filling.cancel()
        self._unhang()
        self._emit()
        if self.link.device.heedless:  # a reconnect sends again what it has sent against a throttle
            self.link.device.heedless = False
            self.link.vanish()
        self._stopped = True

    def report(self) -> DeviceReport:
        """What it sent, and what was acknowledged and refused."""
        device = self.link.device
        return DeviceReport(
            id=device.id,
            boot=device.boot,
            acked_to=device.outbox.acked_to,
            sent_to=device.outbox.highest_sent,
            refused=device.outbox.refused or {},
            sensor=self._sensor,
            messages=self._log.rows if self._log else [],
            past=self._past.sensor if self._past else None,
            past_messages=self._past.log.rows if self._past else [],
            ahead_ms=self._ahead_ms,
            unnamed=not self.link.numbered,
        )

    def _sample(self) -> None:
        if self._stopped:
            return
        tick, tally = self._tick, self._network.tally
        due = self._origin + tick * self._interval
        tally.lag = max(tally.lag, clock() - due)
        self._tick = tick + 1
        self._network.scheduler.at(due + self._interval, self._sample)
        if self._hung:
            return
        if not self._collected:
            if not self.link.device.room:
                tally.held_back += self._sensor.readings(1)
                return
            self._first_tick = tick
        self._collected += 1
        if self._collected == self._sensor.ticks:
            self._emit()

    def _emit(self) -> None:
        ticks, self._collected = self._collected, 0
        if not ticks:
            return
        seq = self.link.device.outbox.next_seq
        data = self._sensor.message(seq, self._first_tick, ticks)
        if self._log is not None:
            self._log.add(seq, self._first_tick, ticks)
        self.link.submit(data, self._sensor.readings(ticks))
        if self._rng.random() < self._faults.duplicates:
            self.link.repeat(seq, data)

    def _after(self, mean: float, fault: Callable[[], None]) -> None:
        """Set ``fault`` for a random moment, in ``mean`` seconds on average; never for 0."""
        if mean and not self._stopped:
            self._network.scheduler.at(clock() + self._rng.uniform(0, 2 * mean), fault)

    def _vanish(self) -> None:
        if not self._stopped:
            self.link.vanish()
            self._after(self._faults.disconnect_every, self._vanish)

    def _hang(self) -> None:
        if not self._stopped:
            self._emit()
            self._hung = True
            self.link.hang()
            self._network.scheduler.at(clock() + self._faults.silent_for, self._unhang)

    def _unhang(self) -> None:
        if self._hung:
            self._hung = False
            self.link.unhang()
            self._after(self._faults.silent_every, self._hang)
