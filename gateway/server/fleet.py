"""Every device the gateway knows: who is connected, by which socket, and what it said last.

Rules that hold here:

* One connection per device id; the newest wins and the older one is told so.
* A view changes when readings became durable, never before: a viewer sees only what is safe.
* Presence is data: each change of ``connected`` is also one point of measurement ``device_status``.
* Whether a device is late is judged by its own rhythm, learned from when its data came, and only when somebody looks:
  no timer and no list per device.
* The rhythm is an upper envelope of the intervals: it follows a longer one fast and a shorter one slowly. A mean would
  call a device that wakes once a minute and sends five messages late all the time. One long silence, an outage, counts
  as no more than `STRETCH` intervals. What comes within `MERGED_NS` is one arrival.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from gateway.ledger import Account, Entry, Kind
from gateway.reading import Series

if TYPE_CHECKING:
    from _collections_abc import dict_keys
    from collections.abc import Callable, Generator

    from gateway.command_log import Command
    from gateway.ledger import Ledger
    from gateway.protocol.device_clock import DeviceClock
    from gateway.protocol.rates import Allowance
    from gateway.registry_layout import Device
    from gateway.server.credentials import Chain

log = logging.getLogger(__name__)

PRESENCE_MEASUREMENT = "device_status"
MOST_LATEST = 512
"""Latest values kept of one device."""
MOST_TAKEOVERS = 16
"""Connections of one id that may take over from each other within a minute; the next ones are told to come later."""
MOST_DEVICES = 200_000
"""Devices known at the same time: each has an account and a view, in memory and in every checkpoint."""
MINUTE_NS = 60_000_000_000
SECOND_NS = 1_000_000_000
MERGED_NS = SECOND_NS // 2
STRETCH = 8
UNKNOWN_NS = 60 * SECOND_NS
"""The rhythm that a device is held to before its own is known."""
RATE_WINDOW_NS = 10 * SECOND_NS
STEP = 512
"""Devices that a census counts before others have their turn."""
LIVE, LATE, STALE, OFFLINE = STATES = ("live", "late", "stale", "offline")


class Connection(Protocol):
    """What the fleet asks of a device's socket."""

    session_id: str
    remote: str
    profile: str
    last_byte_at: float
    paused: bool
    """The gateway does not read it for now."""
    device: Device | None
    """As the registry knew it when it was let in."""
    chain: Chain
    """Of the certificate it has shown."""

    @property
    def info(self) -> dict[str, Any]:
        """What the device told about itself."""
        ...

    def command(self, command: Command, expires_in_ms: int) -> bool:
        """Send a command; False if nothing can be sent any more."""
        ...

    def desire(self, version: int, desired: bytes) -> bool:
        """Send desired settings; False if nothing can be sent any more."""
        ...

    def refuse_report(self, problem: str) -> None:
        """Tell the device that settings it reported were not kept."""
        ...

    def dropped(self, boot: str, messages: int) -> None:
        """Tell the device that ``messages`` of its numbered messages of ``boot`` were discarded undelivered."""
        ...

    def replace(self) -> None:
        """Tell the device that a newer connection took over, and close."""
        ...

    def abort(self) -> None:
        """Cut the connection off without a word."""
        ...

    def revoke(self) -> None:
        """Tell the device that its credentials no longer count, and close."""
        ...

    def refused(self, readings: int) -> None:
        """Tell the device that the database refused ``readings`` of its for good."""
        ...

    def stored(self, boot: str, messages: int) -> None:
        """Tell the device that the database has ``messages`` more of its numbered messages of ``boot``."""
        ...


class Watcher(Protocol):
    """Who hears of every change while somebody watches."""

    def data(self, view: DeviceView, entry: Entry) -> None:
        """``entry`` is durable and shown."""
        ...

    def presence(self, view: DeviceView) -> None:
        """The device came or went."""
        ...


@dataclass(slots=True)
class DeviceView:
    """What is known of one device right now; times in ns since 1970.

    ``changed_ns`` is when it came or went, and ``reason`` why. ``rhythm_ns`` is 0 while unknown. ``told`` is the state
    that viewers heard last.
    """

    id: str
    account: Account
    connection: Connection | None = None
    changed_ns: int = 0
    reason: str = ""
    last_data_ns: int = 0
    latest: dict[str, Any] = field(default_factory=dict)
    latest_ns: int = 0
    takeovers: deque[int] | None = None
    rhythm_ns: float = 0.0
    told: str = ""
    allowance: Allowance | None = None
    """What it may still send; None until it connects."""
    units: dict[str, str] | None = None
    """By field, as the device tells them; None for one that never could."""
    clock: DeviceClock | None = None
    """What is known of its clock; None for one that never asked for the time."""
    _rate: float = 0.0
    _arrival_ns: int = 0
    _messages: int = 0
    _resumed_ns: int = 0

    def tell_units(self) -> dict[str, str]:
        """Where to put units that the device tells."""
        if self.units is None:
            self.units = {}
        return self.units

    def show(self, entry: Entry) -> None:
        """Take over what a durable message measured; an old reading does not hide a newer one."""
        self.last_data_ns = arrived = entry.arrived_ns
        self._messages += 1
        if not 0 <= arrived - self._arrival_ns < MERGED_NS:
            self._arrived(arrived)
        if (found := entry.latest) is None:
            return
        latest = self.latest
        if (time_ns := entry.time_ns) >= self.latest_ns:
            latest.update(found)
            self.latest_ns = time_ns
        else:
            latest = self.latest = {**found, **latest}
        while len(latest) > MOST_LATEST:
            del latest[next(iter(latest))]

    def _arrived(self, now_ns: int) -> None:
        """Learn from the time since the last arrival, unless the device was not connected throughout."""
        before, messages, rhythm = self._arrival_ns, self._messages, self.rhythm_ns
        self._arrival_ns, self._messages = now_ns, 0
        interval = now_ns - before
        if before <= self.changed_ns or interval <= 0:
            return
        rate = messages * SECOND_NS / interval
        if not rhythm:
            self.rhythm_ns, self._rate = float(interval), rate
            return
        if interval >= late_after(rhythm):
            self._resumed_ns = now_ns
        if interval > rhythm:
            self.rhythm_ns += (min(interval, STRETCH * rhythm) - rhythm) / 2
        else:
            self.rhythm_ns -= (rhythm - interval) / 32
        self._rate += (rate - self._rate) * min(1.0, max(1 / 16, interval / RATE_WINDOW_NS))

    def state_at(self, now_ns: int) -> tuple[str, int]:
        """One of `STATES`, and since when."""
        connection = self.connection
        if connection is None:
            return OFFLINE, self.changed_ns
        heard = max(self.last_data_ns, self.changed_ns)
        rhythm = self.rhythm_ns or UNKNOWN_NS
        silent = now_ns - heard
        if silent < (late := late_after(rhythm)) or connection.paused:  # it cannot be heard
            return LIVE, max(self.changed_ns, self._resumed_ns)
        if silent < (stale := stale_after(rhythm)):
            return LATE, heard + round(late)
        return STALE, heard + round(stale)

    def reason_at(self, now_ns: int) -> str | None:
        """Why it is in the state that it is in: how it came or went, or ``silent``; None if it has not come yet."""
        return "silent" if self.state_at(now_ns)[0] in {LATE, STALE} else self.reason or None

    def rate_at(self, now_ns: int) -> float:
        """Messages a second, over about the last ten seconds or the last few messages."""
        silent = now_ns - self.last_data_ns
        if silent < late_after(self.rhythm_ns):
            return round(self._rate, 3)
        return round(min(self._rate, SECOND_NS / silent), 3)

    def taken_over(self, now_ns: int) -> None:
        """Note that a connection took the place of another."""
        if self.takeovers is None:  # hardly any device has them, and an empty deque takes 760 bytes
            self.takeovers = deque(maxlen=MOST_TAKEOVERS)
        self.takeovers.append(now_ns)

    def fought_over(self, now_ns: int) -> bool:
        """Whether so many connections took over from each other that the id has to rest."""
        takeovers = self.takeovers
        if takeovers is None or len(takeovers) < MOST_TAKEOVERS:
            return False
        # A clock that was set back meanwhile must not make the rest longer.
        return takeovers[-1] - takeovers[0] < MINUTE_NS and 0 <= now_ns - takeovers[-1] < MINUTE_NS


def late_after(rhythm_ns: float) -> float:
    """The silence, in ns, from which a device with that rhythm is late."""
    return 2 * rhythm_ns + SECOND_NS


def stale_after(rhythm_ns: float) -> float:
    """The silence, in ns, from which a device with that rhythm is stale."""
    return 5 * rhythm_ns + 5 * SECOND_NS


class Fleet:
    """The views of all devices, made as devices are first heard of.

    ``record`` takes the presence entries and hands them to the spool.
    """

    def __init__(self, ledger: Ledger, record: Callable[[Entry], None]) -> None:
        self._ledger = ledger
        self._record = record
        self.views: dict[str, DeviceView] = {}
        self.watcher: Watcher | None = None
        """None while nobody watches."""
        self.awaiting: set[str] = set()
        """The devices whose connection wants to know what the database has."""

    def view(self, device: str) -> DeviceView:
        """The view of ``device``, made on first use."""
        found = self.views.get(device)
        if found is None:
            found = self.views[device] = DeviceView(device, self._ledger.account(device))
        return found

    def show(self, *entries: Entry) -> None:
        """Messages of devices are durable; nothing else may be among ``entries``."""
        views, watcher = self.views, self.watcher
        for entry in entries:
            if entry.lines:
                view = views.get(entry.device) or self.view(entry.device)
                view.show(entry)
                if watcher is not None:
                    watcher.data(view, entry)

    def census(
        self, now_ns: int, differs: Callable[[DeviceView, str], None] | None = None
    ) -> Generator[None, None, dict[str, int]]:
        """How many known devices are in which state, counted in steps.

        ``differs`` hears of devices whose state is not the one that viewers heard last.
        """
        views = list(self.views.values())
        counts = dict.fromkeys(STATES, 0)
        for start in range(0, len(views), STEP):
            for view in views[start : start + STEP]:
                state, _ = view.state_at(now_ns)
                counts[state] += 1
                if state != view.told and differs is not None:
                    differs(view, state)
            yield
        counts[OFFLINE] += len(self.known()) - len(views)
        return counts

    def has_room(self, device: str) -> bool:
        """Whether ``device`` is known or can still become so."""
        return device in self.views or len(self.views) < MOST_DEVICES

    def busy(self, device: str, now_ns: int) -> str | None:
        """Why ``device`` cannot be served now; None if it can."""
        if not self.has_room(device):
            return "too many devices are known"
        if device in self.views and self.views[device].fought_over(now_ns):
            return "connections of this id keep taking over from each other"
        return None

    def look(self, device: str) -> DeviceView:
        """The view of ``device`` for those who only look: a device that was never heard of stays unknown."""
        return self.views.get(device) or DeviceView(device, self._ledger.accounts.get(device) or Account())

    def connection(self, device: str) -> Connection | None:
        """The socket of ``device``, if it has one."""
        view = self.views.get(device)
        return None if view is None else view.connection

    def known(self) -> dict_keys[str, Any]:
        """The ids of all devices that have connected or sent anything, before this start too."""
        return self._ledger.accounts.keys()  # a view has an account

    def connected(self, device: str, connection: Connection, now_ns: int) -> DeviceView:
        """Make ``connection`` the device's only one."""
        view = self.view(device)
        older = view.connection
        if older is not None:
            self.disconnected(device, older, "replaced", now_ns - 1)  # a point of its own, before the next one
            older.replace()
            view.taken_over(now_ns)
            if view.fought_over(now_ns):
                text = "device %s: connections keep taking over from each other; two devices with one id?"
                log.warning(text, device, extra={"device": device})
        self._changed(view, connection, "connected", now_ns)
        return view

    def disconnected(self, device: str, connection: Connection, reason: str, now_ns: int) -> None:
        """Note that ``connection`` ended, unless a newer one has taken its place."""
        view = self.views[device]
        if view.connection is not connection:
            return
        self._changed(view, None, reason, now_ns)

    def _changed(self, view: DeviceView, connection: Connection | None, reason: str, now_ns: int) -> None:
        view.connection, view.changed_ns, view.reason = connection, now_ns, reason
        self.awaiting.discard(view.id)
        self._record(_presence(view.id, now_ns, connected=connection is not None, reason=reason))
        if self.watcher is not None:
            self.watcher.presence(view)


def _presence(device: str, now_ns: int, *, connected: bool, reason: str) -> Entry:
    series = Series(PRESENCE_MEASUREMENT, {"device": device})
    payload = series.line({"connected": connected, "reason": reason}, now_ns)
    return Entry(device, lines=1, payload=payload, kind=Kind.PRESENCE, arrived_ns=now_ns)
